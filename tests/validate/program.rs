//! `examples/check.rs` as a program: exit codes, formats, folders, standard input.
//!
//! `cargo test` builds it before it runs tests; where only this test is asked for and it is not there, it is built first.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const GOOD: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}]
";

const BAD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews, subset: v2}}]
";

const ODD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews}, weight: 0}]
";

fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let name = format!("check{}", std::env::consts::EXE_SUFFIX);
    let path = own.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    if !path.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "check", "--features", "diagnostics"]);
        if path.components().any(|part| part.as_os_str() == "release") {
            cargo.arg("--release");
        }
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    }
    path
}

/// Runs it in a folder with these files; what it prints, and its exit code.
fn run(files: &[(&str, &str)], arguments: &[&str], input: Option<&str>) -> (String, String, i32) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut child = Command::new(program())
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).unwrap();
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code().unwrap())
}

#[test]
fn the_exit_code_says_how_it_went() {
    let files = [("good.yaml", GOOD), ("bad.yaml", BAD), ("odd.yaml", ODD), ("not.txt", "a: [")];
    let cases: [(&[&str], i32); 14] = [
        (&["good.yaml"], 0),
        (&["bad.yaml"], 1),
        (&["good.yaml", "bad.yaml"], 1),
        (&["odd.yaml"], 0),
        (&["--deny", "warnings", "odd.yaml"], 1),
        (&["--deny", "warnings", "good.yaml"], 0),
        (&["."], 1),
        (&[], 2),
        (&["missing.yaml"], 2),
        (&["--format", "xml", "good.yaml"], 2),
        (&["--deny", "errors", "good.yaml"], 2),
        (&["--colour", "good.yaml"], 2),
        (&["--mesh", "not.txt", "good.yaml"], 2),
        (&["--mesh"], 2),
    ];
    for (arguments, expected) in cases {
        let (out, err, code) = run(&files, arguments, None);
        assert_eq!(code, expected, "{arguments:?}\n{out}\n{err}");
        // What is wrong with the call is told on standard error.
        assert_eq!(err.starts_with("check: "), code == 2, "{err}");
        assert_eq!(err.contains("checked "), code != 2, "{err}");
    }
}

#[test]
fn help_is_given_to_those_who_ask() {
    let (out, err, code) = run(&[], &["--help"], None);
    assert_eq!((err.as_str(), code), ("", 0));
    for option in ["FILES", "--mesh", "--format", "--deny", "exit code"] {
        assert!(out.contains(option), "{option}: {out}");
    }
    let (_, err, code) = run(&[], &["--colour"], None);
    assert_eq!((err.as_str(), code), ("check: there is no option `--colour`; --help tells how\n", 2));
}

#[test]
fn files_are_judged_together_and_folders_are_walked() {
    let defines = BAD.replace("v2", "v1");
    let (out, err, code) = run(&[("a/b/service.yml", &defines), ("a/rule.yaml", GOOD)], &["a"], None);
    assert_eq!((out.as_str(), code), ("", 0), "{err}");
    assert_eq!(err, "checked 2 resources in 2 files: 0 errors, 0 warnings, 0 for information\n");
    let (out, _, code) = run(&[("service.yml", &defines)], &["service.yml"], None);
    assert!(out.contains("AN-009"), "{out}");
    assert_eq!(code, 1);
}

#[test]
fn text_shows_the_line_and_what_was_meant() {
    let (out, err, code) = run(&[("rule.yaml", GOOD)], &["rule.yaml", "-"], Some(BAD));
    insta::assert_snapshot!(format!("{out}{err}exit code {code}"), @"
    error[AN-009]: no DestinationRule defines the subset `v2` of `reviews.default.svc.cluster.local`, so its requests get 503
     --> <stdin>:7:51
      |
    7 |   - route: [{destination: {host: reviews, subset: v2}}]
      |                                                   ^^ spec.http[0].route[0].destination.subset
      |
      = note: `v1` is defined here: DestinationRule default/reviews
      |
     ::: rule.yaml:6:20
      |
    6 |   subsets: [{name: v1, labels: {version: v1}}]
      |                    ^^ spec.subsets[0].name
      |
      = note: VirtualService default/reviews
      = help: did you mean `v1`?

    checked 2 resources in 2 files: 1 error, 0 warnings, 0 for information
    exit code 1
    ");
}

#[test]
fn json_is_an_object_a_line() {
    let (out, _, code) = run(&[("rule.yaml", GOOD)], &["rule.yaml", "-", "--format", "json"], Some(BAD));
    assert_eq!(code, 1);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [serde_json::json!({
            "severity": "error",
            "code": "AN-009",
            "resource": {"kind": "VirtualService", "namespace": "default", "name": "reviews"},
            "source": "<stdin>",
            "path": "spec.http[0].route[0].destination.subset",
            "position": {"line": 7, "column": 51},
            "message": "no DestinationRule defines the subset `v2` of `reviews.default.svc.cluster.local`, so its requests get 503",
            "suggestion": "v1",
            "related": [{
                "resource": {"kind": "DestinationRule", "namespace": "default", "name": "reviews"},
                "source": "rule.yaml",
                "path": "spec.subsets[0].name",
                "position": {"line": 6, "column": 20},
                "message": "`v1` is defined here",
            }],
        })]
    );
}

#[test]
fn sarif_has_rules_results_and_places() {
    let (out, _, code) = run(&[("rule.yaml", GOOD)], &["rule.yaml", "-", "--format", "sarif"], Some(BAD));
    assert_eq!(code, 1);
    let sarif: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "AN-009");
    let result = &run["results"][0];
    assert_eq!((&result["ruleId"], &result["ruleIndex"]), (&"AN-009".into(), &0.into()));
    assert_eq!(result["level"], "error");
    let place = &result["locations"][0];
    assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "<stdin>");
    assert_eq!(place["physicalLocation"]["region"], serde_json::json!({"startLine": 7, "startColumn": 51}));
    assert_eq!(
        place["logicalLocations"][0]["fullyQualifiedName"],
        "VirtualService default/reviews spec.http[0].route[0].destination.subset"
    );
    assert_eq!(result["relatedLocations"][0]["message"]["text"], "`v1` is defined here");
}

#[test]
fn a_mesh_says_which_hosts_there_are() {
    let mesh =
        "client: {namespace: default}\nservices: [{host: ratings.default.svc.cluster.local, namespace: default}]\n";
    let files = [("rule.yaml", GOOD), ("mesh.txt", mesh)];
    let (out, _, code) = run(&files, &["rule.yaml", "--mesh", "mesh.txt"], None);
    assert!(out.contains("warning[AN-019]: no service has the host `reviews.default.svc.cluster.local`"), "{out}");
    assert_eq!(code, 0);
}
