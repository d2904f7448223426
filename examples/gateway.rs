#![allow(clippy::print_stdout)]

//! A small reverse proxy made of the public API alone: HTTP/1.1 and h2c in, pools per endpoint out, all of it by policy.
//! `--help` tells its options (`gateway/arguments.rs` has the text).
//!
//! ```text
//! cargo run --release --example gateway --all-features -- --policy FILE… --mesh FILE --listen ADDR
//! ```
//!
//! Without arguments it plays a demonstration: two pods, a policy, some requests, and the log lines that they leave.

#![allow(unreachable_pub)]

#[path = "gateway/admin.rs"]
pub(crate) mod admin;
#[path = "gateway/arguments.rs"]
pub(crate) mod arguments;
#[path = "gateway/demo.rs"]
mod demo;
#[path = "gateway/framing.rs"]
mod framing;
#[path = "gateway/log.rs"]
pub(crate) mod log;
#[path = "gateway/serve.rs"]
pub(crate) mod serve;
#[path = "gateway/tunnel.rs"]
mod tunnel;

use arguments::{Arguments, Asked};
use log::Log;
use pointsman::Engine;
use pointsman::engine::EngineBuilder;
use pointsman::watch::{LoadFailure, Loaded, Watch};
use serve::Config;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Exit codes: it could not do what was asked, or what was asked is not right (a flag, a file).
const FAILURE: u8 = 1;
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    start(std::env::args().skip(1)).into()
}

/// Runs with these arguments until it is told to stop; the exit code.
pub(crate) fn start(arguments: impl Iterator<Item = String>) -> u8 {
    let arguments = match Arguments::read(arguments) {
        Ok(Asked::Demonstration) => return if demo::play() { 0 } else { FAILURE },
        Ok(Asked::Help) => {
            print!("{}", arguments::HELP);
            return 0;
        }
        Ok(Asked::Run(arguments)) => *arguments,
        Err(error) => {
            eprintln!("gateway: {error}; --help tells all options");
            return MISUSE;
        }
    };
    let state = arguments.admin.map(|_| Arc::new(admin::State::default()));
    let mut builder = Engine::builder().epoch(std::time::UNIX_EPOCH.elapsed().unwrap_or_default());
    if let Some(state) = &state {
        builder = admin::observe(builder, state);
    }
    let (engine, _watch) = match engine(&arguments, builder, state.clone()) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("gateway: {error}");
            return MISUSE;
        }
    };
    match run(&arguments, engine, state) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("gateway: {error}");
            FAILURE
        }
    }
}

fn run(arguments: &Arguments, engine: Engine, state: Option<Arc<admin::State>>) -> Fallible<()> {
    let runtime = match arguments.workers {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        workers => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?,
    };
    runtime.block_on(async {
        // Whoever is told where it listens may say stop at once.
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
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
    let watch = Watch::start_with(arguments.sources(), builder, move |outcome| {
        tell(outcome);
        if let Some(state) = &state {
            state.loaded(outcome);
        }
    })?;
    let engine = watch.engine().clone();
    Ok((engine, arguments.watch.then_some(watch)))
}

/// What came of the files: one line, and one more for everything that is not in force as it was written.
fn tell(outcome: Result<&Loaded, &LoadFailure>) {
    match outcome {
        Ok(loaded) => {
            let notes = loaded.report.notes.len() + loaded.warnings.len();
            eprintln!(
                "policy in force, {}",
                match notes {
                    0 => "all of it".into(),
                    1 => "with 1 note:".into(),
                    notes => format!("with {notes} notes:"),
                }
            );
            loaded.report.notes.iter().for_each(|note| eprintln!("  {note}"));
            loaded.warnings.iter().for_each(|warning| eprintln!("  {warning}"));
        }
        Err(failure) => eprintln!("refused, the last good policy stays: {failure}"),
    }
}
