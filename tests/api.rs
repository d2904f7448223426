//! The shape of the crate: which room knows which, that the core is pure, and what can cross threads.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms of a row of the table in `src/lib.rs`, row by row.
fn rows() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("lib.rs")).unwrap();
    let table = text.split("A module knows only those that stand before it").nth(1).unwrap();
    let lines =
        table.lines().skip_while(|line| !line.starts_with("//! |")).take_while(|line| line.starts_with("//! |"));
    let names = |line: &str| -> Vec<String> {
        let cell = line.split('|').nth(1).unwrap();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    lines.map(names).filter(|names| !names.is_empty()).collect()
}

/// Every source file, and the room it is in.
fn sources() -> Vec<(String, PathBuf, String)> {
    fn visit(folder: &Path, room: Option<&str>, found: &mut Vec<(String, PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let room = room.unwrap_or(&name);
            if path.is_dir() {
                visit(&path, Some(room), found);
            } else if path.extension().is_some_and(|end| end == "rs") && name != "lib" {
                // Neither comments nor what only tests of the file itself know.
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let code =
                    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
                found.push((room.to_owned(), path, code));
            }
        }
    }
    let mut found = Vec::new();
    visit(&root(), None, &mut found);
    found
}

/// The names after each `crate::`, those in braces too.
fn known(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    for (at, _) in code.match_indices("crate::") {
        // Of another crate that ends so.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                names.extend(list.split('}').next().unwrap_or_default().split(',').map(|name| word(name.trim())))
            }
            None => names.push(word(rest)),
        }
    }
    names
}

#[test]
fn a_room_knows_only_those_before_it() {
    let rows = rows();
    let place: BTreeMap<&str, usize> =
        rows.iter().enumerate().flat_map(|(row, names)| names.iter().map(move |name| (name.as_str(), row))).collect();
    assert!(place.len() >= 15, "{place:?}");
    // Small helpers that are no rooms: everybody may know them, they know nobody.
    let helpers = ["grpc", "hosts", "sync"];
    let mut wrong = Vec::new();
    let mut asked = 0;
    for (room, path, code) in sources() {
        let own = place.get(room.as_str());
        assert!(own.is_some() || helpers.contains(&room.as_str()), "`{room}` has no row in src/lib.rs");
        for name in known(&code) {
            asked += 1;
            let before = helpers.contains(&name.as_str()) || name == room;
            let before = before || own.zip(place.get(name.as_str())).is_some_and(|(own, other)| other < own);
            if !before {
                wrong.push(format!("{}: `{room}` knows `{name}`", path.display()));
            }
        }
    }
    assert!(asked > 100, "only {asked} uses were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_has_no_clock_no_dice_and_no_io() {
    const OUTSIDE: [&str; 4] = ["tls", "tower", "watch", "telemetry"];
    const IMPURE: [&str; 11] = [
        "Instant::now",
        "SystemTime",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::thread",
        "std::env",
        "tokio::",
        "async fn",
        "RandomState",
        "rand::",
    ];
    let mut wrong = Vec::new();
    for (room, path, code) in sources().iter().filter(|(room, ..)| !OUTSIDE.contains(&room.as_str())) {
        wrong.extend(
            IMPURE
                .iter()
                .filter(|word| code.contains(*word))
                .map(|word| format!("{} ({room}): {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_embedders_hold_can_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    fn moves<T: Send + 'static>() {}
    crosses::<pointsman::Engine>();
    crosses::<pointsman::engine::EngineBuilder>();
    crosses::<pointsman::Resources>();
    crosses::<pointsman::compile::Compiled>();
    crosses::<pointsman::compile::Report>();
    crosses::<pointsman::exchange::Summary>();
    crosses::<pointsman::head::RequestHead>();
    crosses::<pointsman::head::ResponseHead>();
    crosses::<pointsman::mesh::Mesh>();
    crosses::<pointsman::policy::ConnectionExplanation>();
    crosses::<pointsman::policy::Explanation>();
    crosses::<pointsman::policy::Policy>();
    crosses::<pointsman::resource::DestinationRule>();
    crosses::<pointsman::resource::LoadError>();
    crosses::<pointsman::resource::VirtualService>();
    crosses::<pointsman::transform::LocalReply>();
    crosses::<pointsman::upstream::EndpointState>();
    crosses::<pointsman::validate::Report>();
    moves::<pointsman::exchange::Exchange>();
    moves::<pointsman::exchange::Attempt>();
    moves::<pointsman::exchange::Mirror>();
    moves::<pointsman::exchange::Step>();
}

#[test]
fn errors_are_errors() {
    fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_error::<pointsman::resource::LoadError>();
    is_error::<pointsman::transform::TemplateError>();
}
