//! The command line.

use super::Fallible;
use super::serve::Listen;
use pointsman::mesh::Viewpoint;
use pointsman::watch::Sources;
use std::net::SocketAddr;
use std::str::FromStr;

pub const HELP: &str = "\
A reverse proxy that obeys Istio's VirtualServices and DestinationRules.

usage: gateway --policy FILE… [--mesh FILE] --listen ADDR[=PORT] … [options]
       gateway                        a demonstration that needs nothing

  --policy FILE|FOLDER …              policy, YAML or JSON; several at once, or several times
  --mesh FILE                         services, endpoints and the client (see the docs of `pointsman::mesh`)
  --listen ADDR[=PORT]                HTTP/1.1 and h2c on ADDR, routed as the policy's port PORT (80); several times
  --tcp ADDR[=PORT]                   TLS and TCP passthrough on ADDR, by server name and address, as port PORT (443)
  --namespace NS                      it is a workload in namespace NS; unless said, the mesh file's client
  --gateway NS/NAME                   or it is this Gateway
  --workers N                         threads (1)
  --watch                             apply changes of the files as they come
  --admin ADDR                        /ready /stats /policy /explain /endpoints, and a page that shows them live
  --drain SECONDS                     how long requests may take to end after SIGTERM (10)
  --quiet                             no access log
  --help                              this
";

/// What is asked for.
#[derive(Debug)]
pub enum Asked {
    /// Nothing was said.
    Demonstration,
    Help,
    Run(Box<Arguments>),
}

#[derive(Debug)]
pub struct Arguments {
    pub policies: Vec<String>,
    pub mesh: Option<String>,
    pub listen: Vec<Listen>,
    pub workers: usize,
    pub namespace: Option<String>,
    pub gateway: Option<String>,
    pub watch: bool,
    pub admin: Option<SocketAddr>,
    pub drain: u64,
    pub quiet: bool,
}

impl Arguments {
    pub fn read(given: impl Iterator<Item = String>) -> Fallible<Asked> {
        let mut read = Arguments {
            policies: Vec::new(),
            mesh: None,
            listen: Vec::new(),
            workers: 1,
            namespace: None,
            gateway: None,
            watch: false,
            admin: None,
            drain: 10,
            quiet: false,
        };
        let mut given = given.peekable();
        if given.peek().is_none() {
            return Ok(Asked::Demonstration);
        }
        while let Some(flag) = given.next() {
            let mut value = || {
                let value = given.next_if(|next| !next.starts_with("--"));
                value.ok_or_else(|| format!("{flag}: needs a value"))
            };
            match flag.as_str() {
                "--policy" => {
                    read.policies.push(value()?);
                    while let Some(more) = given.next_if(|next| !next.starts_with("--")) {
                        read.policies.push(more);
                    }
                }
                "--mesh" => read.mesh = Some(value()?),
                "--listen" => {
                    read.listen.push(Listen::parse(&value()?, false).map_err(|error| format!("{flag}: {error}"))?)
                }
                "--tcp" => {
                    read.listen.push(Listen::parse(&value()?, true).map_err(|error| format!("{flag}: {error}"))?)
                }
                "--workers" => read.workers = parse(&flag, &value()?, "a number from 1 on")?,
                "--namespace" => read.namespace = Some(value()?),
                "--gateway" => read.gateway = Some(value()?),
                "--watch" => read.watch = true,
                "--admin" => read.admin = Some(parse(&flag, &value()?, "an address such as 127.0.0.1:15000")?),
                "--drain" => read.drain = parse(&flag, &value()?, "a number of seconds")?,
                "--quiet" => read.quiet = true,
                "--help" | "-h" => return Ok(Asked::Help),
                _ => return Err(format!("there is no option `{flag}`").into()),
            }
        }
        if read.workers == 0 {
            return Err("--workers: `0` is not a number from 1 on".into());
        }
        if read.policies.is_empty() {
            return Err("--policy: which files?".into());
        }
        if read.listen.is_empty() {
            return Err("--listen: on which address?".into());
        }
        match &read.gateway {
            Some(_) if read.namespace.is_some() => {
                Err("--namespace: it is either a workload in a namespace or a --gateway".into())
            }
            Some(gateway) if !is_qualified(gateway) => {
                Err(format!("--gateway: `{gateway}` is not NAMESPACE/NAME").into())
            }
            _ => Ok(Asked::Run(Box::new(read))),
        }
    }

    pub fn sources(&self) -> Sources {
        let mut sources = Sources::new(&self.policies);
        if let Some(mesh) = &self.mesh {
            sources = sources.with_mesh(mesh);
        }
        match (&self.gateway, &self.namespace) {
            (Some(gateway), _) => {
                let namespace = gateway.split('/').next().unwrap_or_default();
                sources.with_viewpoint(Viewpoint::gateway(namespace, gateway))
            }
            (None, Some(namespace)) => sources.with_viewpoint(Viewpoint::namespace(namespace)),
            (None, None) => sources,
        }
    }
}

fn parse<T: FromStr>(flag: &str, text: &str, wanted: &str) -> Fallible<T> {
    text.parse().map_err(|_| format!("{flag}: `{text}` is not {wanted}").into())
}

fn is_qualified(gateway: &str) -> bool {
    gateway
        .split_once('/')
        .is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
}
