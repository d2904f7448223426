#![allow(clippy::print_stdout)]

//! A small reverse proxy made of the public API alone: HTTP/1.1 and h2c in, pools per endpoint out, all of it by policy.
//!
//! ```text
//! cargo run --release --example gateway --all-features -- --policy FILE… --mesh FILE --listen ADDR[=PORT]
//!     --policy FILE|FOLDER   policy, several times or several at once
//!     --mesh FILE            services, endpoints, the client (see the docs of `pointsman::mesh`)
//!     --listen ADDR[=PORT]   HTTP on ADDR, routed as the policy's port PORT (80); several times
//!     --tcp ADDR[=PORT]      TLS and TCP passthrough on ADDR, by SNI and address, as the policy's port PORT (443)
//!     --workers N            threads (1)
//!     --namespace NS | --gateway NS/NAME    whose policy it is; else the mesh file's client
//!     --watch                apply changes of the files
//!     --admin ADDR           /ready /stats /policy /explain /endpoints, and a page that shows them live
//!     --drain SECONDS        how long requests may take to end after SIGTERM (10)
//!     --quiet                no access log
//! ```
//!
//! Without arguments it plays a demonstration: two pods, a policy, some requests, and the log lines that they leave.

#![allow(unreachable_pub)]

#[path = "gateway/admin.rs"]
mod admin;
#[path = "gateway/demo.rs"]
mod demo;
#[path = "gateway/framing.rs"]
mod framing;
#[path = "gateway/log.rs"]
mod log;
#[path = "gateway/serve.rs"]
mod serve;
#[path = "gateway/tunnel.rs"]
mod tunnel;

use log::Log;
use pointsman::Engine;
use pointsman::engine::EngineBuilder;
use pointsman::mesh::Viewpoint;
use pointsman::watch::{Sources, Watch};
use serve::{Config, Listen};
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Default)]
struct Arguments {
    policies: Vec<String>,
    mesh: Option<String>,
    listen: Vec<Listen>,
    workers: usize,
    namespace: Option<String>,
    gateway: Option<String>,
    watch: bool,
    admin: Option<SocketAddr>,
    drain: u64,
    quiet: bool,
}

impl Arguments {
    fn read(given: impl Iterator<Item = String>) -> Fallible<Arguments> {
        let mut read = Arguments { workers: 1, drain: 10, ..Arguments::default() };
        let mut given = given.peekable();
        while let Some(flag) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("`{flag}` needs a value"));
            match flag.as_str() {
                "--policy" => {
                    read.policies.push(value()?);
                    while let Some(more) = given.next_if(|next| !next.starts_with("--")) {
                        read.policies.push(more);
                    }
                }
                "--mesh" => read.mesh = Some(value()?),
                "--listen" => read.listen.push(Listen::parse(&value()?, false)?),
                "--tcp" => read.listen.push(Listen::parse(&value()?, true)?),
                "--workers" => read.workers = value()?.parse()?,
                "--namespace" => read.namespace = Some(value()?),
                "--gateway" => read.gateway = Some(value()?),
                "--watch" => read.watch = true,
                "--admin" => read.admin = Some(value()?.parse()?),
                "--drain" => read.drain = value()?.parse()?,
                "--quiet" => read.quiet = true,
                _ => return Err(format!("there is no option `{flag}`").into()),
            }
        }
        if read.policies.is_empty() || read.listen.is_empty() {
            return Err("it needs at least --policy and --listen".into());
        }
        Ok(read)
    }

    fn sources(&self) -> Sources {
        let mut sources = Sources::new(&self.policies);
        if let Some(mesh) = &self.mesh {
            sources = sources.with_mesh(mesh);
        }
        match (&self.gateway, &self.namespace) {
            (Some(gateway), namespace) => {
                let own = gateway.split('/').next().unwrap_or("default");
                sources.with_viewpoint(Viewpoint::gateway(namespace.as_deref().unwrap_or(own), gateway))
            }
            (None, Some(namespace)) => sources.with_viewpoint(Viewpoint::namespace(namespace)),
            (None, None) => sources,
        }
    }
}

fn main() -> ExitCode {
    if std::env::args().len() == 1 {
        return demo::play();
    }
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("gateway: {error}");
            eprintln!(
                "usage: gateway --policy FILE… [--mesh FILE] --listen ADDR[=PORT] … (see the top of examples/gateway.rs)"
            );
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Fallible<()> {
    let runtime = match arguments.workers {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        workers => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?,
    };
    let state = arguments.admin.map(|_| Arc::new(admin::State::default()));
    let mut builder = Engine::builder().epoch(std::time::UNIX_EPOCH.elapsed()?);
    if let Some(state) = &state {
        builder = admin::observe(builder, state);
    }
    let (engine, _watch) = engine(arguments, builder, state.clone())?;
    runtime.block_on(async {
        let config = Config {
            listen: arguments.listen.clone(),
            log: if arguments.quiet { Log::Off } else { Log::Lines },
            drain: Duration::from_secs(arguments.drain),
        };
        let running = serve::start(engine.clone(), config).await?;
        for (listen, address) in running.addresses() {
            eprintln!("listening on {address}, as port {}", listen.port);
        }
        if let (Some(address), Some(state)) = (arguments.admin, state) {
            let address = admin::start(address, engine, state, running.draining()).await?;
            eprintln!("admin on http://{address}/");
        }
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        eprintln!("draining for at most {} s", arguments.drain);
        running.stop().await;
        Ok(())
    })
}

/// The engine of the files, which follows them if it is asked to.
fn engine(
    arguments: &Arguments,
    builder: EngineBuilder,
    state: Option<Arc<admin::State>>,
) -> Fallible<(Engine, Option<Watch>)> {
    let sources = arguments.sources();
    let watch = Watch::start_with(sources, builder, move |outcome| {
        match &outcome {
            Ok(loaded) => loaded.report.notes.iter().for_each(|note| eprintln!("note: {note}")),
            Err(failure) => eprintln!("refused, the last good policy stays: {failure}"),
        }
        if let Some(state) = &state {
            state.loaded(outcome);
        }
    })?;
    let engine = watch.engine().clone();
    Ok((engine, arguments.watch.then_some(watch)))
}
