//! A world of the conformance folder: what is there, what is asked, what was observed.
//!
//! The files' own words are kept; `tests/conformance/README.md` says what each means.

use pointsman::mesh::MeshFile;
use serde::Deserialize;
use std::path::Path;

#[derive(Debug, Deserialize)]
pub struct World {
    pub name: String,
    pub resources: String,
    pub cases: Vec<Case>,
    #[serde(default)]
    pub spread: Vec<Spread>,
    #[serde(flatten)]
    pub file: MeshFile,
}

impl World {
    pub fn read(path: &Path) -> Result<World, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        serde_yaml::from_str(&text).map_err(|error| error.to_string())
    }

    /// An area is a world's name up to its first `-`.
    pub fn area(&self) -> &str {
        self.name.split('-').next().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    pub request: Option<Request>,
    pub connection: Option<Connection>,
    pub times: Option<u32>,
    pub parallel: Option<u32>,
    #[serde(default)]
    pub then_wait_ms: u64,
    pub expect: Expect,
}

#[derive(Debug, Deserialize)]
pub struct Request {
    pub port: u16,
    pub authority: String,
    pub path: String,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    #[serde(default)]
    pub body: String,
    #[serde(default)]
    pub script: String,
}

fn get() -> String {
    "GET".into()
}

#[derive(Debug, Deserialize)]
pub struct Connection {
    pub address: String,
    pub port: u16,
    pub sni: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    pub route: String,
    pub cluster: String,
    pub flags: Vec<String>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub attempts: usize,
    pub upstream: Option<Upstream>,
    pub endpoint: Option<String>,
    pub endpoints: Option<Vec<String>>,
    pub mirrors: Vec<Mirror>,
    pub elapsed_ms: Option<u64>,
    pub shares: Option<Vec<Share>>,
    pub outcomes: Option<Vec<Outcomes>>,
    pub outcome: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    pub method: String,
    pub authority: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    pub endpoint: String,
    pub method: String,
    pub path: String,
    pub authority: String,
}

/// How many of `times` came out so.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Share {
    pub cluster: String,
    pub status: u16,
    pub endpoint: String,
    pub mirrors: usize,
    pub count: u32,
}

/// How many of `parallel` came out so.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outcomes {
    pub status: u16,
    pub flags: Vec<String>,
    pub attempts: usize,
    pub count: u32,
}

/// How often each endpoint was picked over a group of cases, smallest first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    pub cases: String,
    pub of: usize,
    pub picks: Vec<u32>,
}
