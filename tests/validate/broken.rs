//! Policies that people write, broken as people break them: what they read then. The policies and the breaks are
//! `tests/data/broken.yaml`; the snapshots are read by people, until nobody would have to ask.

use pointsman::mesh::MeshFile;
use pointsman::resource::Loader;
use pointsman::validate::{Report, Severity, Sources, analyze};
use serde::Deserialize;
use std::fmt::Write as _;

#[derive(Deserialize)]
struct File {
    mesh: MeshFile,
    policies: Vec<Policy>,
}

#[derive(Deserialize)]
struct Policy {
    name: String,
    text: String,
    breaks: Vec<Break>,
}

#[derive(Deserialize)]
struct Break {
    name: String,
    from: String,
    to: String,
}

fn judge(text: &str, mesh: &MeshFile) -> Report {
    let resources = Loader::new().with_source("policy.yaml").yaml(text).unwrap();
    analyze(&resources, Some((&mesh.mesh, &mesh.client)))
}

#[test]
fn what_is_said_of_broken_policies_helps() {
    let file: File = serde_yaml::from_str(include_str!("../data/broken.yaml")).unwrap();
    let mut count = 0;
    for policy in &file.policies {
        let whole = judge(&policy.text, &file.mesh);
        let loud: Vec<_> = whole.diagnostics.iter().filter(|one| one.severity != Severity::Info).collect();
        assert!(loud.is_empty(), "{}: {whole}", policy.name);
        for broken in &policy.breaks {
            assert_eq!(policy.text.matches(&broken.from).count(), 1, "{}: {}", policy.name, broken.name);
            let text = policy.text.replacen(&broken.from, &broken.to, 1);
            let report = judge(&text, &file.mesh);
            let sources = Sources::new().with("policy.yaml", &text);
            let mut shown = String::new();
            for one in report.diagnostics.iter().filter(|one| one.severity != Severity::Info) {
                writeln!(shown, "{}\n", sources.render(one, false)).unwrap();
            }
            assert!(!shown.is_empty(), "{}: {}: nothing was found", policy.name, broken.name);
            let name = format!("{}: {}", policy.name, broken.name);
            insta::with_settings!({description => name.clone(), omit_expression => true}, {
                insta::assert_snapshot!(name.replace([':', ' ', '\''], "-").replace("--", "-"), shown);
            });
            count += 1;
        }
    }
    assert_eq!(count, 15);
}
