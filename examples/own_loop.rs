//! A proxy with a loop of its own: std's TCP sockets and threads, no tokio, no tower. Retries, timeouts, rewrites, header
//! operations and copies all come from the `Exchange`; `own_loop/proxy.rs` is the loop.
//!
//! ```text
//! cargo run --example own_loop                              # drives itself
//! cargo run --example own_loop -- --serve 127.0.0.1:8080    # serves you, until it is stopped
//! curl -i -H 'host: reviews' http://127.0.0.1:8080/old/page
//! ```
//!
//! Without arguments it states what it expects of itself. The exit code is non-zero when something does not hold.
#![allow(clippy::print_stdout)]

#[path = "own_loop/http1.rs"]
mod http1;
#[path = "own_loop/proxy.rs"]
mod proxy;
#[path = "own_loop/town.rs"]
mod town;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use town::{Fallible, Manner, Pod};

fn main() -> Fallible<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => drive(),
        ["--serve", address] if address.parse::<SocketAddr>().is_ok() => serve(address.parse()?),
        _ => {
            eprintln!("usage: own_loop [--serve ADDRESS:PORT]");
            Ok(ExitCode::from(2))
        }
    }
}

/// Serves whoever comes: `reviews` has a good pod, a failing one, a slow one, and one that is not there.
fn serve(address: SocketAddr) -> Fallible<ExitCode> {
    let good = Pod::start("good\n", Manner::Well)?;
    let failing = Pod::start("failing\n", Manner::Failing)?;
    let slow = Pod::start("slow\n", Manner::Slow)?;
    let shadow = Pod::start("shadow\n", Manner::Well)?;
    let pods = [good.address, failing.address, slow.address, town::nobody()?];
    let address = town::proxy_at(address, &pods, shadow.address)?;
    println!("policy: examples/policies/own_loop.yaml");
    for path in ["/", "/old/page", "/gone", "/slow", "/sometimes-slow"] {
        println!("curl -i -H 'host: reviews' http://{address}{path}");
    }
    loop {
        std::thread::park();
    }
}

/// Asks the proxy itself, and says what holds.
fn drive() -> Fallible<ExitCode> {
    let good = Pod::start("good", Manner::Well)?;
    let failing = Pod::start("failing", Manner::Failing)?;
    let slow = Pod::start("slow", Manner::Slow)?;
    let shadow = Pod::start("shadow", Manner::Well)?;
    let mut failed = 0;
    let mut check = |holds: bool, claim: &str| {
        println!("{} {claim}", if holds { "✓" } else { "✗" });
        failed += u32::from(!holds);
    };

    let proxy = town::proxy(&[good.address, failing.address, town::nobody()?], shadow.address)?;
    let mut well = 0;
    for _ in 0..30 {
        let (head, body) = town::ask(proxy, "/", "hello")?;
        well += u32::from(head.status == 200 && body == "good");
    }
    check(well == 30, "of three pods one fails and one is not there: 30 of 30 requests were answered by the good one");
    check(failing.served() > 0, &format!("the failing one was asked {} times on the way", failing.served()));

    let (head, _) = town::ask(proxy, "/old/page?x=1", "hello")?;
    check(head.headers.get("x-route").is_some_and(|route| route == "renamed"), "a response header names the route");
    check(good.last() == "/new/page?x=1 /old/page?x=1 hello", "the pod saw the new path, where it came from, the body");
    let sent = Instant::now();
    while shadow.served() == 0 && sent.elapsed() < Duration::from_secs(5) {
        std::thread::yield_now();
    }
    check(shadow.last() == good.last() && shadow.served() == 1, "and so did the shadow, once");

    let (head, body) = town::ask(proxy, "/gone", "")?;
    check(head.status == 410 && body == "gone for good", "a direct response");

    let proxy = town::proxy(&[slow.address], shadow.address)?;
    let sent = Instant::now();
    let (head, _) = town::ask(proxy, "/slow", "")?;
    let took = sent.elapsed();
    check(head.status == 504, &format!("an answer that takes 2 s is a 504 after {took:.0?} (asked 200 ms)"));
    check(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "neither sooner nor much later");

    let proxy = town::proxy(&[slow.address, good.address], shadow.address)?;
    let (head, body) = town::ask(proxy, "/sometimes-slow", "")?;
    check(head.status == 200 && body == "good", "a pod that is too slow for one try is let go of for another");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
