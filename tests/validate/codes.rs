//! The table of codes: it has every code that the source can give, every example has its code, and its repaired form has it
//! no more; every rule of Istio's is there, or in a list that says why not.

use pointsman::Resources;
use pointsman::mesh::{MeshFile, Viewpoint};
use pointsman::resource::Value;
use pointsman::validate::{At, CODES, CodeInfo, Diagnostic, EXAMPLE_MESH, Severity, analyze, apply, schema, webhook};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn all() -> impl Iterator<Item = &'static CodeInfo> {
    CODES.iter().copied().flatten()
}

/// What every layer says of a text, and the analysis.
fn findings(text: &str) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for document in text.split("\n---\n").filter_map(|text| Value::from_yaml(text).ok()) {
        found.extend(schema(&document).1.diagnostics);
        found.extend(webhook(&document).diagnostics);
    }
    found.extend(analysis(text));
    found
}

/// What an analysis says for both viewpoints of the examples' mesh.
fn analysis(text: &str) -> Vec<Diagnostic> {
    let resources = Resources::from_yaml(text).unwrap();
    let MeshFile { client, mesh, .. } = serde_yaml::from_str(EXAMPLE_MESH).unwrap();
    let gateway = Viewpoint::gateway("default", "default/web");
    [&client, &gateway]
        .into_iter()
        .flat_map(|viewpoint| analyze(&resources, Some((&mesh, viewpoint))).diagnostics)
        .collect()
}

#[test]
fn every_example_has_its_code_and_its_repaired_form_does_not() {
    let mut wrong = Vec::new();
    for info in all() {
        let before = findings(&info.example());
        let Some(found) = before.iter().find(|one| one.code == info.code) else {
            let codes: Vec<String> = before.iter().map(ToString::to_string).collect();
            wrong.push(format!("{}: not given: {codes:#?}", info.code));
            continue;
        };
        if found.severity != info.severity {
            wrong.push(format!("{}: {:?}, not {:?}", info.code, found.severity, info.severity));
        }
        let after = findings(&info.repaired());
        if let Some(still) = after.iter().find(|one| one.code == info.code) {
            wrong.push(format!("{}: still there: {still}", info.code));
        }
        // A repaired example is good: the API server takes it, and of an analyzer's nothing fails.
        let is_bad = |one: &&Diagnostic| one.severity == Severity::Error;
        let errors: Vec<String> = if info.code.starts_with("PM") || info.code.starts_with("AN") {
            analysis(&info.repaired()).iter().filter(is_bad).map(ToString::to_string).collect()
        } else {
            let texts = info.repaired();
            let documents = texts.split("\n---\n").map(|text| apply(&Value::from_yaml(text).unwrap()));
            documents
                .flat_map(|report| report.diagnostics)
                .filter(|one| is_bad(&one))
                .map(|one| one.to_string())
                .collect()
        };
        if !errors.is_empty() {
            wrong.push(format!("{}: repaired, and still wrong: {errors:#?}", info.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The codes that stand in the source as texts, without the table itself.
fn in_source() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root.join("validate"), &mut files);
    sources(&root.join("compile"), &mut files);
    let mut codes = BTreeSet::new();
    for file in files.iter().filter(|file| !file.starts_with(root.join("validate/codes"))) {
        let text = std::fs::read_to_string(file).unwrap();
        codes.extend(text.split('"').skip(1).filter(|piece| is_code(piece)).map(str::to_owned));
    }
    codes
}

/// `DEC-001`, `CRD-DR-001`, `VS-WARN-005`.
fn is_code(text: &str) -> bool {
    let mut parts = text.rsplit('-');
    let number = parts.next().unwrap_or_default();
    let family: Vec<&str> = parts.collect();
    number.len() == 3
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=2).contains(&family.len())
        && family.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_uppercase()))
}

#[test]
fn the_table_has_every_code_once_and_no_other() {
    let listed: Vec<&str> = all().map(|info| info.code).collect();
    let set: BTreeSet<String> = listed.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(listed.len(), set.len(), "a code stands twice");
    assert_eq!(set, in_source());
}

/// What the observed cases make the layers say is in the table, with the severity that it is listed with.
#[test]
fn what_the_cases_give_is_listed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/validation/cases.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let listed: BTreeMap<&str, Severity> = all().map(|info| (info.code, info.severity)).collect();
    let mut given = BTreeSet::new();
    for case in cases {
        let value = Value::from_json(&case["resource"].to_string()).unwrap();
        for one in schema(&value).1.diagnostics.iter().chain(&webhook(&value).diagnostics) {
            let severity = listed.get(one.code).unwrap_or_else(|| panic!("{one} is not listed"));
            // Old names of gateways are warned of under the rule for bad ones.
            let old_name = matches!(one.code, "VS-TOP-004" | "VS-TLS-010");
            assert!(*severity == one.severity || old_name, "{one}");
            assert!(!one.message.is_empty() && !one.message.contains('\n'), "{one:?}");
            given.insert(one.code);
        }
    }
    assert!(given.len() > 100, "{given:?}");
}

/// `tests/data/rules.tsv` has every rule of Istio's validation: those that have no code say how they are kept, or why they
/// cannot apply to a library.
#[test]
fn every_rule_of_istio_is_kept_or_explained() {
    let codes: BTreeSet<&str> = all().map(|info| info.code).collect();
    let mut known = BTreeSet::new();
    for line in include_str!("../data/rules.tsv").lines().skip(1) {
        let (id, why) = line.split_once('\t').unwrap();
        known.insert(id);
        match why {
            "code" => assert!(codes.contains(id), "{id} has no code"),
            why => {
                assert!(!codes.contains(id), "{id} has a code");
                assert!(why.len() > 20, "{id}: {why}");
            }
        }
    }
    assert!(known.len() > 270, "{}", known.len());
    let strangers: Vec<&&str> =
        codes.iter().filter(|code| !code.starts_with("PM-") && !known.contains(**code)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

/// The table as it stands in the documentation.
fn table() -> String {
    let escape = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let code = |info: &CodeInfo, text: &str| match info.at {
        // Whole texts are long; the first part that is not the envelope says enough.
        At::Text => format!("`{}`", escape(text).replace("apiVersion: networking.istio.io/v1, ", "")),
        _ => format!("`{}`", escape(text)),
    };
    let mut out = String::from(
        "| code | | what it means | how to repair it | an example | repaired |\n|---|---|---|---|---|---|\n",
    );
    for info in all() {
        let (meaning, repair) = (escape(info.meaning), escape(info.repair));
        let severity = info.severity.as_str();
        let (wrong, right) = (code(info, info.wrong), code(info, info.right));
        writeln!(out, "| {} | {severity} | {meaning} | {repair} | {wrong} | {right} |", info.code).unwrap();
    }
    out
}

/// The documentation shows the table. `UPDATE=1 cargo test --features diagnostics --test validate` writes it anew.
#[test]
fn the_documentation_shows_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/validate/codes/table.md");
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == table, "the table is out of date: UPDATE=1 cargo test --features diagnostics --test validate");
}
