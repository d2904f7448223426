//! Files that change under an engine: what is applied, what is refused, and Kubernetes' way to replace a mount.

#![allow(clippy::unwrap_used)]

use pointsman::Engine;
use pointsman::head::Request;
use pointsman::watch::{Sources, Watch};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Long enough for any machine; a test that passes does not wait for it.
const GENEROUS: Duration = Duration::from_secs(30);

const MESH: &str = "
client: {namespace: default}
services:
- {host: a.default.svc.cluster.local, namespace: default, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1, port: 80}]}
";

fn rule(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: default}}\nspec: {{hosts: [a], http: [{{name: {name}, route: [{{destination: {{host: a}}}}]}}]}}\n"
    )
}

/// Replaces a file at once, as editors and deployments do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// The route that a request gets now.
fn route(engine: &Engine) -> String {
    let headers = http::HeaderMap::new();
    let request = Request { method: "GET", scheme: "http", authority: "a", path: "/", headers: &headers, port: 80 };
    engine.preview(&request, &mut || 0).0.to_string()
}

fn watch(sources: Sources) -> (Watch, Receiver<Result<usize, String>>) {
    let (sender, receiver) = channel();
    let watch = Watch::start(sources, move |outcome| {
        let outcome = outcome.map(|loaded| loaded.report.notes.len()).map_err(ToString::to_string);
        let _ = sender.send(outcome);
    });
    (watch.unwrap(), receiver)
}

/// Waits until the engine has the route; other changes may be told before.
fn until(engine: &Engine, told: &Receiver<Result<usize, String>>, wanted: &str) {
    while route(engine) != wanted {
        told.recv_timeout(GENEROUS).expect("a change is told").expect("and taken");
    }
}

#[test]
fn a_changed_file_is_applied_and_a_bad_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, mesh) = (folder.path().join("a.yaml"), folder.path().join("mesh.yml"));
    fs::write(&policy, rule("first")).unwrap();
    fs::write(&mesh, MESH).unwrap();
    let (watch, told) = watch(Sources::new([&policy]).with_mesh(&mesh));
    let engine = watch.engine();
    assert_eq!(told.recv_timeout(GENEROUS), Ok(Ok(0)));
    assert_eq!(route(engine), "first");

    replace(&policy, &rule("second"));
    until(engine, &told, "second");

    replace(&policy, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nspec: {hosts: 3}\n");
    let refused = told.recv_timeout(GENEROUS).unwrap().unwrap_err();
    assert!(refused.contains("a.yaml:3:") && refused.contains("spec.hosts"), "{refused}");
    assert_eq!(route(engine), "second");

    fs::remove_file(&policy).unwrap();
    let refused = told.recv_timeout(GENEROUS).unwrap().unwrap_err();
    assert!(refused.contains("a.yaml"), "{refused}");
    assert_eq!(route(engine), "second");

    replace(&policy, &rule("third"));
    until(engine, &told, "third");

    // The mesh counts as well: without its service the default route goes away.
    replace(&mesh, "services: []\n");
    while told.recv_timeout(GENEROUS).unwrap() == Ok(0) {}
    assert_ne!(route(engine), "third");
}

#[cfg(unix)]
#[test]
fn a_mounted_config_map_is_replaced_by_turning_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let write = |name: &str, text: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("policy.yaml"), text).unwrap();
    };
    let turn = |to: &str| {
        std::os::unix::fs::symlink(to, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    write("..2026_01", &rule("first"));
    turn("..2026_01");
    std::os::unix::fs::symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let mesh = outside.path().join("mesh.yaml");
    fs::write(&mesh, MESH).unwrap();

    let (watch, told) = watch(Sources::new([folder.path()]).with_mesh(&mesh));
    assert_eq!(told.recv_timeout(GENEROUS), Ok(Ok(0)));
    assert_eq!(route(watch.engine()), "first");
    write("..2026_02", &rule("second"));
    turn("..2026_02");
    fs::remove_dir_all(at("..2026_01")).unwrap();
    until(watch.engine(), &told, "second");
}

#[test]
fn what_is_wrong_at_the_beginning_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nothing.yaml");
    let error = Watch::start(Sources::new([missing]), |_| {}).unwrap_err();
    assert!(error.to_string().contains("nothing.yaml"), "{error}");
}
