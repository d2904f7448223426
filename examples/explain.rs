#![allow(clippy::print_stdout)]

//! Why does a request go where it goes? Policy files, and a request given as to curl.
//!
//! ```text
//! cargo run --example explain -- examples/policies/tester.yaml -H 'x-tester: yes' http://reviews:9080/
//! cargo run --example explain -- --help
//! ```
//!
//! What the policies say and this client does not get is told on standard error.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use pointsman::Resources;
use pointsman::head::Request;
use pointsman::mesh::{Endpoint, Mesh, MeshFile, Protocol, Service, Viewpoint};
use pointsman::policy::{Connection, ConnectionOutcome, Outcome, Policy};
use std::collections::BTreeMap;
use std::process::ExitCode;

const HELP: &str = "\
Tells which route a request takes under Istio's policies, and why.

usage: explain POLICY… [-X METHOD] [-H 'name: value']… [options] URL

  URL                  `http://` and `https://` ask as a request, `tls://NAME:PORT` and `tcp://ADDRESS:PORT` as a connection
  --mesh FILE          services and endpoints; without it every host of the policies counts as a service
  --as NAMESPACE       who asks (default: `default`, or the mesh file's client)
  --label KEY=VALUE    … with this label
  --gateway NS/NAME    … as this gateway
  --draw N             the draw that weights are asked with (default 0)
  --json | --short     the trace as data, or on one line
  --help               this

exit code: 0 for a route, 1 for none, 2 for bad usage and for what cannot be read
";

/// What was asked for.
#[derive(Default)]
struct Question {
    policies: Vec<String>,
    mesh: Option<String>,
    namespace: Option<String>,
    labels: Vec<(String, String)>,
    gateway: Option<String>,
    method: String,
    headers: HeaderMap,
    /// In the URL's place, as with curl.
    host: Option<String>,
    url: Option<String>,
    draw: u64,
    form: Form,
}

#[derive(Default, PartialEq)]
enum Form {
    #[default]
    Long,
    Short,
    Json,
}

fn main() -> ExitCode {
    let outcome = match Question::read(std::env::args().skip(1)) {
        Ok(Some(question)) => question.answer(),
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => Err(format!("{message}; --help tells how")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("explain: {message}");
            ExitCode::from(2)
        }
    }
}

impl Question {
    /// None if only help was asked for.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Question>, String> {
        let mut question = Question { method: "GET".into(), ..Question::default() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--mesh" => question.mesh = Some(value()?),
                "--as" => question.namespace = Some(value()?),
                "--gateway" => question.gateway = Some(value()?),
                "--draw" => {
                    let text = value()?;
                    question.draw = text.parse().map_err(|_| format!("`{text}` is not a draw: an integer"))?;
                }
                "--label" => {
                    let text = value()?;
                    let (key, label) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
                    question.labels.push((key.into(), label.into()));
                }
                "-X" | "--request" => question.method = value()?,
                method if method.starts_with("-X") => question.method = method[2..].into(),
                "-H" | "--header" => {
                    let line = value()?;
                    let (name, text) = line.split_once(':').ok_or_else(|| format!("`{line}` is not `name: value`"))?;
                    let name: HeaderName =
                        name.trim().parse().map_err(|_| format!("`{name}` is not a header's name"))?;
                    let text = HeaderValue::from_str(text.trim()).map_err(|_| format!("`{text}` is not a value"))?;
                    if name == http::header::HOST {
                        question.host = Some(text.to_str().map_err(|_| "a host is ASCII")?.to_owned());
                    } else {
                        question.headers.append(name, text);
                    }
                }
                "--json" => question.form = Form::Json,
                "--short" => question.form = Form::Short,
                "--help" | "-h" => return Ok(None),
                flag if flag.starts_with('-') => return Err(format!("there is no option `{flag}`")),
                url if url.contains("://") => question.url = Some(url.into()),
                file => question.policies.push(file.into()),
            }
        }
        if question.policies.is_empty() {
            return Err("no policy file was given".into());
        }
        Ok(Some(question))
    }

    /// Prints the trace. Is there a route?
    fn answer(&self) -> Result<bool, String> {
        let url = self.url.as_deref().ok_or("no URL was given")?;
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let uri: Uri = format!("http://{authority}").parse().map_err(|_| format!("`{url}` is not a URL"))?;
        let default_port = match scheme {
            "http" => Some(80),
            "https" | "tls" => Some(443),
            "tcp" => None,
            other => return Err(format!("`{other}` is not a scheme: http, https, tls or tcp")),
        };
        let port = match authority[uri.host().map_or(0, str::len)..].strip_prefix(':') {
            Some(text) => text.parse().map_err(|_| format!("`{text}` is not a port"))?,
            None => default_port.ok_or_else(|| format!("`{url}` has no port"))?,
        };
        let path = match &rest[authority.len()..] {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };

        let resources = self.resources()?;
        let MeshFile { client, mesh, .. } = match &self.mesh {
            Some(file) => serde_yaml::from_str(&text_of(file)?).map_err(|error| format!("{file}: {error}"))?,
            None => {
                let mut file = MeshFile::default();
                file.mesh = inferred(&resources, port, scheme);
                file
            }
        };
        let mut viewpoint = match (&self.gateway, &self.namespace) {
            (Some(gateway), namespace) => {
                let own = gateway.split('/').next().unwrap_or("default");
                Viewpoint::gateway(namespace.as_deref().unwrap_or(own), gateway)
            }
            (None, Some(namespace)) => Viewpoint::namespace(namespace),
            (None, None) => client,
        };
        viewpoint.labels.extend(self.labels.iter().cloned());

        let compiled = Policy::compile(&resources, &mesh, &viewpoint);
        for note in &compiled.report.notes {
            eprintln!("note: {note}");
        }
        let mut draw = || self.draw;
        if matches!(scheme, "tls" | "tcp") {
            let host = uri.host().unwrap_or_default();
            let sni = (scheme == "tls").then_some(host);
            let address = host.trim_matches(['[', ']']).parse().ok();
            let explanation = compiled.policy.explain_connection(&Connection { address, port, sni }, &mut draw);
            self.print(&explanation, &explanation)?;
            return Ok(!matches!(explanation.outcome, ConnectionOutcome::Closed | ConnectionOutcome::NoListener));
        }
        let authority = self.host.as_deref().unwrap_or(authority);
        let request = Request { method: &self.method, scheme, authority, path: &path, headers: &self.headers, port };
        let explanation = compiled.policy.explain(&request, &mut draw);
        self.print(&explanation, &explanation)?;
        Ok(!matches!(explanation.outcome, Outcome::NoRoute { .. }))
    }

    fn print(&self, shown: &impl std::fmt::Display, data: &impl serde::Serialize) -> Result<(), String> {
        match self.form {
            Form::Long => println!("{shown:#}"),
            Form::Short => println!("{shown}"),
            Form::Json => println!("{}", serde_json::to_string_pretty(data).map_err(|error| error.to_string())?),
        }
        Ok(())
    }

    /// Everything that the files hold. What cannot be read is told, and takes nothing else with it.
    fn resources(&self) -> Result<Resources, String> {
        let mut all = Resources::default();
        for file in &self.policies {
            let read = pointsman::resource::Loader::new().with_source(file.as_str()).yaml(&text_of(file)?);
            let resources = read.map_err(|error| format!("{file}: {error}"))?;
            for problem in &resources.problems {
                eprintln!("{problem}");
            }
            all.append(resources);
        }
        Ok(all)
    }
}

fn text_of(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}

/// A mesh in which every host that the policies name is a service on the port, with an endpoint for each subset.
fn inferred(resources: &Resources, port: u16, scheme: &str) -> Mesh {
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    let protocol = match scheme {
        "tls" => Protocol::Tls,
        "tcp" => Protocol::Tcp,
        _ => Protocol::Http,
    };
    let mut add = |host: &str, namespace: &str| -> Option<String> {
        if host.is_empty() || host.contains('*') {
            return None;
        }
        let host = if host.contains('.') { host.to_owned() } else { format!("{host}.{namespace}.svc.cluster.local") };
        services.entry(host.clone()).or_insert_with(|| {
            Service::new(&host, namespace)
                .with_port(port, "port", protocol)
                .with_endpoint(Endpoint::new("10.0.0.1", port))
        });
        Some(host)
    };
    for one in &resources.virtual_services {
        let namespace = if one.metadata.namespace.is_empty() { "default" } else { &one.metadata.namespace };
        let http = one.spec.http.iter().flat_map(|rule| &rule.route).filter_map(|route| route.destination.as_ref());
        let tls = one.spec.tls.iter().flat_map(|rule| &rule.route).filter_map(|route| route.destination.as_ref());
        let tcp = one.spec.tcp.iter().flat_map(|rule| &rule.route).filter_map(|route| route.destination.as_ref());
        let destinations = http.chain(tls).chain(tcp).map(|destination| &destination.host);
        for host in one.spec.hosts.iter().chain(destinations) {
            add(host, namespace);
        }
    }
    let mut subsets = Vec::new();
    for rule in &resources.destination_rules {
        let namespace = if rule.metadata.namespace.is_empty() { "default" } else { &rule.metadata.namespace };
        if let Some(host) = add(&rule.spec.host, namespace) {
            subsets.extend(rule.spec.subsets.iter().map(|subset| (host.clone(), subset.labels.clone())));
        }
    }
    for (number, (host, labels)) in subsets.into_iter().enumerate() {
        if let Some(service) = services.get_mut(&host) {
            service.endpoints.push(Endpoint::new(format!("10.0.1.{}", number % 250), port).with_labels(labels));
        }
    }
    Mesh::new(services.into_values())
}
