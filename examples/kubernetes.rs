#![allow(clippy::print_stdout)]

//! A cluster's own objects rule an engine: watches of VirtualServices, DestinationRules, Services, EndpointSlices and pods,
//! on kube-rs.
//!
//! ```text
//! cargo run --example kubernetes --all-features                         a story, on an API server of its own
//! cargo run --example kubernetes --all-features -- --namespace NS       a real cluster, as a workload in NS sees it
//! cargo run --example kubernetes --all-features -- --gateway NS/NAME    or as this gateway sees it
//! ```
//!
//! A real cluster is found as kubectl finds it; list and watch of the five kinds must be allowed. What is promised stands at
//! the head of `kubernetes/source.rs`.

#![allow(unreachable_pub, dead_code)]

#[path = "kubernetes/fake.rs"]
mod fake;
#[path = "kubernetes/mesh.rs"]
mod mesh;
#[path = "kubernetes/objects.rs"]
mod objects;
#[path = "kubernetes/source.rs"]
mod source;
#[path = "kubernetes/town.rs"]
mod town;

use fake::Fake;
use objects::Kind;
use pointsman::Engine;
use pointsman::mesh::Viewpoint;
use serde_json::json;
use source::{InForce, News, Settings, Source};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let viewpoint = match arguments.as_slice() {
        [] => None,
        ["--namespace", namespace] => Some(Viewpoint::namespace(*namespace)),
        ["--gateway", gateway] if gateway.contains('/') => {
            Some(Viewpoint::gateway(gateway.split('/').next().unwrap_or_default(), *gateway))
        }
        _ => {
            eprintln!("usage: kubernetes [--namespace NS | --gateway NS/NAME]");
            return ExitCode::from(2);
        }
    };
    let outcome = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match viewpoint {
                None => story().await,
                Some(viewpoint) => follow(viewpoint).await,
            }
        })
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kubernetes: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A real cluster, until somebody interrupts.
async fn follow(viewpoint: Viewpoint) -> Fallible<bool> {
    let client = kube::Client::try_default().await?;
    let following = Source::start(client, Settings::new(viewpoint), |news| match news {
        News::InForce(InForce { objects, report, notes, faults, warnings }) => {
            println!("in force: {objects} objects");
            report.notes.iter().for_each(|note| println!("  {note}"));
            warnings.iter().for_each(|warning| println!("  {warning}"));
            notes.iter().chain(&faults).for_each(|line| println!("  {line}"));
        }
        News::Trouble { kind, message } => eprintln!("{kind}: {message}"),
    });
    // What is interrupted need not have begun.
    tokio::select! {
        source = following => {
            let _source = source?;
            tokio::signal::ctrl_c().await?;
        }
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(true)
}

/// The next policy that is put in force.
async fn next(news: &mut UnboundedReceiver<News>) -> Fallible<InForce> {
    let soon = Duration::from_secs(30);
    loop {
        match tokio::time::timeout(soon, news.recv()).await?.ok_or("the watch ended")? {
            News::InForce(in_force) => return Ok(in_force),
            News::Trouble { kind, message } => println!("   {kind}: {message}"),
        }
    }
}

/// Who would get a request for `/` of the service.
fn asked(engine: &Engine, service: &str) -> String {
    town::destination(engine, service, "/")
}

async fn story() -> Fallible<bool> {
    let fake = Fake::start().await?;
    fake.put(town::service("reviews", &[("reviews-1", "10.0.0.1", "v1"), ("reviews-2", "10.0.0.2", "v2")]));
    fake.put([town::subsets("reviews"), town::route("reviews", "v1")]);
    fake.put(town::service("ratings", &[("ratings-1", "10.0.1.1", "v1")]));

    let (told, mut news) = unbounded_channel();
    let settings = Settings::new(Viewpoint::namespace("default"));
    let source = Source::start(fake.client()?, settings, move |one| drop(told.send(one))).await?;
    let engine = source.engine().clone();
    let first = next(&mut news).await?;
    println!("1. {} objects were listed; reviews goes to {}", first.objects, asked(&engine, "reviews"));
    let mut holds = first.report.is_empty() && asked(&engine, "reviews").contains("|v1|");

    fake.put([town::route("reviews", "v2")]);
    next(&mut news).await?;
    println!("2. somebody changes the route; reviews goes to {}", asked(&engine, "reviews"));
    holds &= asked(&engine, "reviews").contains("|v2|");

    let mut bad = town::route("reviews", "v1");
    bad["spec"]["http"] = json!("all of it to v1, please");
    fake.put([bad]);
    let seen = next(&mut news).await?;
    println!("3. somebody slips: {}", seen.faults.join("; "));
    println!("   reviews goes to {}", asked(&engine, "reviews"));
    holds &= seen.faults.len() == 1 && asked(&engine, "reviews").contains("|v2|");
    fake.put([town::route("reviews", "v1")]);
    let seen = next(&mut news).await?;
    holds &= seen.faults.is_empty() && asked(&engine, "reviews").contains("|v1|");
    println!("   and puts it right; reviews goes to {}", asked(&engine, "reviews"));

    fake.asked();
    fake.drop_watches();
    fake.put([town::route("reviews", "v2")]);
    next(&mut news).await?;
    let again = fake.asked();
    let lists = again.iter().filter(|asked| asked.watch.is_none()).count();
    println!(
        "4. the connections break, and a change is missed; {lists} lists later, reviews goes to {}",
        asked(&engine, "reviews")
    );
    holds &= lists == 0 && asked(&engine, "reviews").contains("|v2|");

    fake.drop_watches();
    fake.delete(Kind::VirtualService, "default", "reviews");
    fake.forget();
    while asked(&engine, "reviews").contains("|v2|") {
        next(&mut news).await?;
    }
    println!(
        "5. they break again, the route is deleted and the server forgets; reviews goes to {}",
        asked(&engine, "reviews")
    );
    holds &= asked(&engine, "reviews") == "outbound|80||reviews.default.svc.cluster.local";
    println!("{}", if holds { "✓ as promised" } else { "✗ not as promised" });
    Ok(holds)
}
