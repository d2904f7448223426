#![allow(clippy::print_stdout)]

//! The tour: real upstreams on loopback, real policy from `examples/policies/`, real requests through the tower stack.
//!
//! ```text
//! cargo run --example canary                        # every scene
//! cargo run --example canary -- --scene breaker     # one of them
//! cargo run --example canary -- --policy FILE       # your own policy, 200 requests
//! ```
//!
//! Each scene states what it expects of itself. The exit code is non-zero when one does not hold, or when a part of your
//! own policy could not be read (what cannot is told, and the rest is in force).

#![allow(unreachable_pub)]

#[path = "canary/pods.rs"]
mod pods;
#[path = "canary/print.rs"]
mod print;
#[path = "canary/traffic.rs"]
mod traffic;

use http::StatusCode;
use pods::Pods;
use pointsman::mesh::Viewpoint;
use pointsman::policy::Policy;
use pointsman::resource::Loader;
use print::{Check, heading, say};
use std::process::ExitCode;
use std::time::Duration;
use traffic::{Stack, Tally};

const SCENES: &[&str] = &["canary", "tester", "retries", "delay", "breaker", "burst"];

#[tokio::main]
async fn main() -> ExitCode {
    let mut scenes: Vec<String> = SCENES.iter().map(|scene| scene.to_string()).collect();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--scene", Some(scene)) if SCENES.contains(&scene.as_str()) => scenes = vec![scene],
            ("--policy", Some(file)) => return own_policy(&file).await,
            _ => {
                eprintln!("usage: canary [--scene {}] [--policy FILE]", SCENES.join("|"));
                return ExitCode::from(2);
            }
        }
    }
    let mut failed = Vec::new();
    for scene in &scenes {
        let pods = Pods::start().await;
        let mut check = Check::default();
        match scene.as_str() {
            "canary" => canary(&pods, &mut check).await,
            "tester" => tester(&pods, &mut check).await,
            "retries" => retries(&pods, &mut check).await,
            "delay" => delay(&pods, &mut check).await,
            "breaker" => breaker(&pods, &mut check).await,
            _ => burst(&pods, &mut check).await,
        }
        if !check.holds() {
            failed.push(scene.as_str());
        }
    }
    if failed.is_empty() {
        match scenes.as_slice() {
            [_] => println!("\nthe scene holds"),
            scenes => println!("\nall {} scenes hold", scenes.len()),
        }
        return ExitCode::SUCCESS;
    }
    println!("\nnot as promised: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// Reads a policy file and compiles it for a client in `default`.
fn policy(file: &str, pods: &Pods) -> Policy {
    let path = format!("{}/examples/policies/{file}", env!("CARGO_MANIFEST_DIR"));
    compile(&path, pods)
}

fn compile(path: &str, pods: &Pods) -> Policy {
    read(path, pods)
        .and_then(|(policy, whole)| whole.then_some(policy).ok_or_else(|| format!("{path}: not as written")))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The policy of a file, and whether all of the file could be read. Says what could not, and what is not in force.
fn read(path: &str, pods: &Pods) -> Result<(Policy, bool), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let resources = Loader::new().with_source(path).yaml(&text).map_err(|error| format!("{path}: {error}"))?;
    for problem in &resources.problems {
        println!("   {problem}");
    }
    let compiled = Policy::compile(&resources, &pods.mesh(), &Viewpoint::namespace("default"));
    for note in &compiled.report.notes {
        println!("   {note}");
    }
    let whole = resources.errors().next().is_none();
    Ok((compiled.policy, whole))
}

/// A canary that moves on while requests flow, and loses none.
async fn canary(pods: &Pods, check: &mut Check) {
    heading("canary", "90:10, then 50:50, then 0:100, by reloading while requests flow");
    let stack = Stack::new(policy("canary-90-10.yaml", pods));
    for (file, asked) in [("canary-90-10.yaml", 10), ("canary-50-50.yaml", 50), ("canary-0-100.yaml", 100)] {
        // The reload happens in the middle of a flow of requests, which must not notice.
        let flow = stack.clone();
        let flowing = tokio::spawn(async move { flow.send(200, 8, "/", &[]).await });
        tokio::task::yield_now().await;
        stack.reload(policy(file, pods));
        let during = flowing.await.expect("the flow ends");
        check.that(during.lost() == 0, "no request was lost while the policy changed");

        let tally = stack.send(1_000, 8, "/", &[]).await;
        say(&format!("v1 {} : v2 {}", 100 - asked, asked));
        tally.print_versions(&[("v1", 100 - asked), ("v2", asked)]);
        check.that(tally.lost() == 0, "no request was lost");
        let share = tally.share("v2") * 100.0;
        // Five standard deviations of 1,000 fair draws.
        let slack = 5.0 * (share_variance(asked) / 1_000.0).sqrt() * 100.0 + 0.01;
        check.that((share - f64::from(asked)).abs() <= slack, &format!("v2 got {share:.1} % (asked {asked} %)"));
    }
}

fn share_variance(percent: u32) -> f64 {
    let p = f64::from(percent) / 100.0;
    p * (1.0 - p)
}

/// A header sends testers to v2.
async fn tester(pods: &Pods, check: &mut Check) {
    heading("tester", "x-tester: yes sees v2, everybody else v1");
    let stack = Stack::new(policy("tester.yaml", pods));
    let testers = stack.send(100, 4, "/", &[("x-tester", "yes")]).await;
    let others = stack.send(100, 4, "/", &[]).await;
    say("testers");
    testers.print_versions(&[("v1", 0), ("v2", 100)]);
    say("everybody else");
    others.print_versions(&[("v1", 100), ("v2", 0)]);
    check.that(testers.share("v2") == 1.0, "every tester saw v2");
    check.that(others.share("v1") == 1.0, "nobody else did");
}

/// A timeout bounds a slow answer, and retries hide a pod that fails.
async fn retries(pods: &Pods, check: &mut Check) {
    heading("retries", "a timeout of 300 ms; and a pod that always answers 500, hidden by retries");
    let stack = Stack::new(policy("retries.yaml", pods));

    let slow = stack.send(4, 4, "/slow", &[]).await;
    say("an upstream that needs 2 s");
    slow.print_statuses();
    check.that(slow.count(StatusCode::GATEWAY_TIMEOUT) == 4, "each got 504");
    check.that(slow.slowest() < Duration::from_millis(900), &format!("after {:.0?} at most", slow.slowest()));

    pods.fail(0, true);
    let tally = stack.send(300, 6, "/", &[]).await;
    say("one of four pods answers 500");
    tally.print_pods(pods);
    check.that(tally.count(StatusCode::OK) == 300, "every request succeeded");
    check.that(tally.retries() > 0, &format!("{} retries hid the failing pod", tally.retries()));
}

/// A delay fault holds one request of ten.
async fn delay(pods: &Pods, check: &mut Check) {
    heading("delay", "10 % of requests wait for 100 ms");
    let stack = Stack::new(policy("delay.yaml", pods));
    let tally = stack.send(600, 30, "/", &[]).await;
    let delayed = tally.slower_than(Duration::from_millis(100));
    tally.print_latency();
    let share = delayed as f64 / 6.0;
    check.that((share - 10.0).abs() <= 6.2, &format!("{delayed} of 600 waited, {share:.1} % (asked 10 %)"));
    check.that(tally.count(StatusCode::OK) == 600, "and all were answered");
}

/// A pod that keeps failing is ejected, and comes back.
async fn breaker(pods: &Pods, check: &mut Check) {
    heading("breaker", "five 500s in a row eject a pod for a second; never more than half of them");
    let stack = Stack::new(policy("breaker.yaml", pods));

    pods.fail(0, true);
    let before = stack.send(40, 1, "/", &[]).await;
    say("pod 0 answers 500");
    before.print_pods(pods);
    check.that(before.failures_of(pods, 0) == 5, "pod 0 was asked five times and then left alone");
    let out = stack.send(40, 1, "/", &[]).await;
    check.that(out.count(StatusCode::OK) == 40, "while it is out nobody sees an error");

    pods.fail(1, true);
    pods.fail(2, true);
    let half = stack.send(80, 1, "/", &[]).await;
    say("pods 1 and 2 answer 500 too");
    half.print_pods(pods);
    check.that(stack.ejected() == 2, "two of four pods are out, and no third one");

    for pod in 0..3 {
        pods.fail(pod, false);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let back = stack.send(40, 1, "/", &[]).await;
    say("all are well again, 1.5 s later");
    back.print_pods(pods);
    check.that(stack.ejected() == 0, "nobody is out");
    check.that(back.pods_seen() == 4, "all four pods are asked again");
}

/// What is over the limit is told so at once.
async fn burst(pods: &Pods, check: &mut Check) {
    heading("burst", "one connection, four places in the queue, twenty requests at once");
    let stack = Stack::new(policy("burst.yaml", pods));
    let tally = stack.send(20, 20, "/work", &[]).await;
    tally.print_statuses();
    check.that(
        tally.count(StatusCode::OK) == 6,
        "two were served at once (a pod without a connection gets one), four waited",
    );
    check.that(tally.count(StatusCode::SERVICE_UNAVAILABLE) == 14, "fourteen got 503");
    let refused = tally.slowest_of(StatusCode::SERVICE_UNAVAILABLE);
    let served = tally.slowest_of(StatusCode::OK);
    check.that(refused < served, &format!("without waiting: {refused:.0?} (the queue took {served:.0?})"));
}

/// The reader's own policy against the same pods.
async fn own_policy(file: &str) -> ExitCode {
    let pods = Pods::start().await;
    heading("your policy", file);
    let (policy, whole) = match read(file, &pods) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("canary: {error}");
            return ExitCode::from(2);
        }
    };
    let stack = Stack::new(policy);
    say("200 requests for http://reviews/ by a client in the namespace `default`");
    let tally: Tally = stack.send(200, 8, "/", &[]).await;
    tally.print_statuses();
    tally.print_pods(&pods);
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
