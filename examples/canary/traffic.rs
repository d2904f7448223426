//! Sends requests through the tower stack and counts what came back.

use super::pods::Pods;
use super::print::bar;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pointsman::Engine;
use pointsman::exchange::Summary;
use pointsman::policy::Policy;
use pointsman::tower::ReplayBody;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tower::{Service, ServiceExt};

type Inner = Client<HttpConnector, ReplayBody<Empty<Bytes>>>;

/// The engine, and one layer of it around hyper's pooled client.
#[derive(Clone)]
pub struct Stack {
    engine: Engine,
    client: pointsman::tower::Client<Inner>,
}

/// What came of one request.
struct Answer {
    status: Option<StatusCode>,
    version: String,
    pod: Option<usize>,
    attempts: u32,
    took: Duration,
}

/// What came of many.
pub struct Tally {
    answers: Vec<Answer>,
}

impl Stack {
    pub fn new(policy: Policy) -> Stack {
        let engine = Engine::new(policy);
        let hyper = Client::builder(TokioExecutor::new()).build_http();
        Stack { client: pointsman::tower::Client::new(engine.clone(), hyper), engine }
    }

    pub fn reload(&self, policy: Policy) {
        self.engine.reload(policy);
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> usize {
        self.engine.endpoints().iter().filter(|endpoint| endpoint.ejected.is_some()).count()
    }

    /// Sends `count` requests for `reviews`, `at_once` of them at a time.
    pub async fn send(
        &self,
        count: usize,
        at_once: usize,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Tally {
        let mut answers = Vec::with_capacity(count);
        let mut workers = JoinSet::new();
        for worker in 0..at_once {
            let share = count / at_once + usize::from(worker < count % at_once);
            let (client, uri, headers) = (self.client.clone(), format!("http://reviews:9080{path}"), headers.to_vec());
            workers.spawn(async move {
                let mut answers = Vec::with_capacity(share);
                for _ in 0..share {
                    answers.push(one(&client, &uri, &headers).await);
                }
                answers
            });
        }
        while let Some(worker) = workers.join_next().await {
            answers.extend(worker.expect("a worker ends"));
        }
        Tally { answers }
    }
}

async fn one(client: &pointsman::tower::Client<Inner>, uri: &str, headers: &[(&'static str, &'static str)]) -> Answer {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::new()).expect("a request");
    let started = Instant::now();
    let mut client = client.clone();
    let response = match client.ready().await {
        Ok(ready) => ready.call(request).await,
        Err(error) => Err(error),
    };
    let mut answer = Answer { status: None, version: String::new(), pod: None, attempts: 0, took: Duration::ZERO };
    if let Ok(response) = response {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        answer.version = header("x-version").unwrap_or_default().to_owned();
        answer.pod = header("x-pod").and_then(|pod| pod.parse().ok());
        answer.attempts = response.extensions().get::<Summary>().map_or(0, |summary| summary.attempts);
        let status = response.status();
        if response.into_body().collect().await.is_ok() {
            answer.status = Some(status);
        }
    }
    answer.took = started.elapsed();
    answer
}

impl Tally {
    /// Requests that got no complete answer, or a proxy's 5xx.
    pub fn lost(&self) -> usize {
        self.answers.iter().filter(|answer| !answer.status.is_some_and(|status| status.is_success())).count()
    }

    pub fn count(&self, status: StatusCode) -> usize {
        self.answers.iter().filter(|answer| answer.status == Some(status)).count()
    }

    /// The share of answers from a version.
    pub fn share(&self, version: &str) -> f64 {
        self.answers.iter().filter(|answer| answer.version == version).count() as f64 / self.answers.len() as f64
    }

    pub fn retries(&self) -> u32 {
        self.answers.iter().map(|answer| answer.attempts.saturating_sub(1)).sum()
    }

    pub fn slower_than(&self, time: Duration) -> usize {
        self.answers.iter().filter(|answer| answer.took >= time).count()
    }

    pub fn slowest(&self) -> Duration {
        self.answers.iter().map(|answer| answer.took).max().unwrap_or_default()
    }

    pub fn slowest_of(&self, status: StatusCode) -> Duration {
        let of = self.answers.iter().filter(|answer| answer.status == Some(status));
        of.map(|answer| answer.took).max().unwrap_or_default()
    }

    pub fn failures_of(&self, _pods: &Pods, pod: usize) -> usize {
        let failed = |answer: &&Answer| answer.status == Some(StatusCode::INTERNAL_SERVER_ERROR);
        self.answers.iter().filter(failed).filter(|answer| answer.pod == Some(pod)).count()
    }

    pub fn pods_seen(&self) -> usize {
        let mut pods: Vec<_> = self.answers.iter().filter_map(|answer| answer.pod).collect();
        pods.sort_unstable();
        pods.dedup();
        pods.len()
    }

    /// A bar for each version, with what was asked.
    pub fn print_versions(&self, asked: &[(&str, u32)]) {
        for (version, percent) in asked {
            let count = self.answers.iter().filter(|answer| answer.version == *version).count();
            bar(version, count, self.answers.len(), &format!("  asked {percent} %"));
        }
        self.print_latency();
    }

    /// A bar for each pod, with its errors.
    pub fn print_pods(&self, pods: &Pods) {
        for (index, name) in pods.names().iter().enumerate() {
            let count = self.answers.iter().filter(|answer| answer.pod == Some(index)).count();
            let failed = self.failures_of(pods, index);
            let note = if failed > 0 { format!("  {failed} × 500") } else { String::new() };
            bar(name, count, self.answers.len(), &note);
        }
        self.print_latency();
    }

    /// A bar for each status.
    pub fn print_statuses(&self) {
        let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
        for answer in &self.answers {
            *statuses.entry(answer.status.map_or(0, |status| status.as_u16())).or_default() += 1;
        }
        for (status, count) in statuses {
            let name = if status == 0 { "no answer".to_owned() } else { status.to_string() };
            bar(&name, count, self.answers.len(), "");
        }
    }

    pub fn print_latency(&self) {
        let mut took: Vec<Duration> = self.answers.iter().map(|answer| answer.took).collect();
        took.sort_unstable();
        let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
        let retries = self.retries();
        println!("    {} requests, p50 {:.1?}, p99 {:.1?}, {retries} retries", took.len(), at(50), at(99));
    }
}
