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

/// Links on the way to a source, wherever they are, and a folder that makes way for another one of its name.
#[cfg(unix)]
#[test]
fn every_link_on_the_way_is_followed() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let turn = |link: &str, to: &str| {
        symlink(to, at("tmp")).unwrap();
        fs::rename(at("tmp"), at(link)).unwrap();
    };
    let write = |name: &str, rule_name: &str| {
        fs::create_dir_all(at(name)).unwrap();
        fs::write(at(name).join("policy.yaml"), rule(rule_name)).unwrap();
    };
    fs::write(at("mesh.yml"), MESH).unwrap();

    // A folder inside a mounted `ConfigMap`: `mount/sub` leads to `..data/sub`, and that to a version.
    write("mount/..2026_01/sub", "first");
    symlink("..2026_01", at("mount/..data")).unwrap();
    symlink("..data/sub", at("mount/sub")).unwrap();
    // Releases, of which one is current: the link is the source's own parent.
    write("releases/1/policies", "first");
    turn("current", "releases/1");
    for source in ["mount/sub", "mount/sub/policy.yaml", "current/policies", "current/policies/policy.yaml"] {
        let (watch, told) = watch(Sources::new([at(source)]).with_mesh(at("mesh.yml")));
        assert_eq!(told.recv_timeout(GENEROUS), Ok(Ok(0)), "{source}");
        assert_eq!(route(watch.engine()), "first", "{source}");
        write("mount/..2026_02/sub", "second");
        write("releases/2/policies", "second");
        turn("mount/..data", "..2026_02");
        turn("current", "releases/2");
        until(watch.engine(), &told, "second");
        // What is current now is watched now.
        write("mount/..2026_02/sub", "third");
        write("releases/2/policies", "third");
        until(watch.engine(), &told, "third");
        turn("mount/..data", "..2026_01");
        turn("current", "releases/1");
        until(watch.engine(), &told, "first");
    }

    write("plain", "first");
    let (watch, told) = watch(Sources::new([at("plain")]).with_mesh(at("mesh.yml")));
    assert_eq!(told.recv_timeout(GENEROUS), Ok(Ok(0)));
    write("beside", "second");
    fs::rename(at("plain"), at("old")).unwrap();
    fs::rename(at("beside"), at("plain")).unwrap();
    while route(watch.engine()) != "second" {
        // In between there may be no folder.
        told.recv_timeout(GENEROUS).expect("a change is told").ok();
    }
    write("plain", "third");
    until(watch.engine(), &told, "third");
}

/// A text that comes in pieces is read when it is whole, and once.
#[test]
fn a_burst_of_changes_is_one_change() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, mesh) = (folder.path().join("a.yaml"), folder.path().join("mesh.yml"));
    fs::write(&policy, rule("first")).unwrap();
    fs::write(&mesh, MESH).unwrap();
    let (watch, told) = watch(Sources::new([folder.path()]).with_mesh(&mesh));
    assert_eq!(told.recv_timeout(GENEROUS), Ok(Ok(0)));
    for number in 0..20 {
        replace(&policy, &rule(&format!("step-{number}")));
    }
    replace(&policy, &rule("last"));
    let mut changes = 0;
    while route(watch.engine()) != "last" {
        told.recv_timeout(GENEROUS).unwrap().unwrap();
        changes += 1;
    }
    // On a machine that stops in between there may be more than one, but not one for each.
    assert!(changes < 10, "{changes} changes");
}

#[test]
fn what_is_wrong_at_the_beginning_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nothing.yaml");
    let error = Watch::start(Sources::new([missing]), |_| {}).unwrap_err();
    assert!(error.to_string().contains("nothing.yaml"), "{error}");
}
