//! The source of `examples/kubernetes.rs`, against an API server of its own: the contract at the head of
//! `examples/kubernetes/source.rs`, sentence by sentence, and what becomes of objects.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../../examples/kubernetes/fake.rs"]
mod fake;
#[path = "../../examples/kubernetes/mesh.rs"]
mod mesh;
#[path = "../../examples/kubernetes/objects.rs"]
mod objects;
#[path = "../../examples/kubernetes/source.rs"]
mod source;
#[path = "../../examples/kubernetes/town.rs"]
mod town;

mod conversion;

use fake::{Asked, Fake};
use objects::Kind;
use pointsman::Engine;
use pointsman::mesh::Viewpoint;
use serde_json::json;
use source::{InForce, News, Settings, Source};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Longer than any wait between tries.
const SOON: Duration = Duration::from_secs(60);

struct Followed {
    source: Source,
    engine: Engine,
    news: UnboundedReceiver<News>,
    /// What trouble was told of.
    troubles: Vec<(Kind, String)>,
}

impl Followed {
    async fn start(fake: &Fake) -> (Followed, InForce) {
        let (told, news) = unbounded_channel();
        let settings = Settings { page: 100, ..Settings::new(Viewpoint::namespace("default")) };
        let source = Source::start(fake.client().unwrap(), settings, move |one| drop(told.send(one))).await.unwrap();
        let mut followed = Followed { engine: source.engine().clone(), source, news, troubles: Vec::new() };
        let first = followed.next().await;
        (followed, first)
    }

    async fn next(&mut self) -> InForce {
        loop {
            match tokio::time::timeout(SOON, self.news.recv()).await.expect("news come soon").unwrap() {
                News::InForce(in_force) => return in_force,
                News::Trouble { kind, message } => self.troubles.push((kind, message)),
            }
        }
    }

    /// Policies come until one is as it should be.
    async fn until(&mut self, holds: impl Fn(&Engine) -> bool) -> InForce {
        loop {
            let in_force = self.next().await;
            if holds(&self.engine) {
                return in_force;
            }
        }
    }

    fn reviews(&self) -> String {
        town::destination(&self.engine, "reviews", "/")
    }

    /// The endpoints of one destination.
    fn endpoints(&self, cluster: &str) -> Vec<String> {
        let all = self.engine.endpoints();
        all.iter().filter(|one| &*one.cluster == cluster).map(|one| one.endpoint.to_string()).collect()
    }
}

const V1: &str = "outbound|80|v1|reviews.default.svc.cluster.local";
const V2: &str = "outbound|80|v2|reviews.default.svc.cluster.local";
const PLAIN: &str = "outbound|80||reviews.default.svc.cluster.local";

async fn town() -> Fake {
    let fake = Fake::start().await.unwrap();
    fake.put(town::service("reviews", &[("reviews-1", "10.0.0.1", "v1"), ("reviews-2", "10.0.0.2", "v2")]));
    fake.put([town::subsets("reviews"), town::route("reviews", "v1")]);
    fake
}

#[tokio::test]
async fn ready_means_that_everything_was_listed() {
    let fake = town().await;
    // More pods than a page holds, of more services than one.
    for service in 0..25 {
        let pods: Vec<(String, String)> =
            (0..10).map(|pod| (format!("s{service}-{pod}"), format!("10.1.{service}.{pod}"))).collect();
        let pods: Vec<(&str, &str, &str)> = pods.iter().map(|(name, address)| (&**name, &**address, "v1")).collect();
        fake.put(town::service(&format!("s{service}"), &pods));
    }
    let (followed, first) = Followed::start(&fake).await;
    assert_eq!(first.objects, 6 + 25 * 12);
    assert!(first.report.is_empty() && first.faults.is_empty() && first.notes.is_empty(), "{first:?}");
    assert_eq!(followed.reviews(), V1);
    assert_eq!(followed.endpoints(V1), ["10.0.0.1:8080"]);
    assert_eq!(followed.endpoints("outbound|80||s24.default.svc.cluster.local").len(), 10);
    for kind in Kind::ALL {
        let known = followed.source.freshness(kind);
        assert!(known.listed && known.heard.is_some() && known.trouble.is_none(), "{kind}: {known:?}");
    }
    let lists = fake.asked().into_iter().filter(|asked| *asked == Asked { kind: Kind::Pod, watch: None });
    assert_eq!(lists.count(), 3, "252 pods in pages of 100");
}

#[tokio::test]
async fn changes_and_deletions_are_followed() {
    let fake = town().await;
    let (mut followed, _) = Followed::start(&fake).await;
    fake.put([town::route("reviews", "v2")]);
    followed.next().await;
    assert_eq!(followed.reviews(), V2);
    // A pod goes: its slice says so.
    fake.put([town::slice("reviews", [("reviews-1", "10.0.0.1")].into_iter())]);
    followed.next().await;
    assert_eq!(followed.endpoints(V2), [""; 0]);
    assert_eq!(followed.endpoints(V1), ["10.0.0.1:8080"]);
    // A pod's labels change: it serves another subset.
    let labels = json!({"app": "reviews", "version": "v2"});
    fake.put([json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "reviews-1", "namespace": "default", "labels": labels}})]);
    followed.next().await;
    assert_eq!(followed.endpoints(V2), ["10.0.0.1:8080"]);
    fake.delete(Kind::VirtualService, "default", "reviews");
    followed.next().await;
    assert_eq!(followed.reviews(), PLAIN);
}

#[tokio::test]
async fn changes_close_together_are_applied_once() {
    let fake = town().await;
    let (mut followed, _) = Followed::start(&fake).await;
    for round in 0..200 {
        fake.put([town::route("reviews", if round % 2 == 0 { "v1" } else { "v2" })]);
        fake.put([town::route(&format!("other-{round}"), "v1")]);
    }
    let mut policies = 1;
    while followed.next().await.objects < 206 {
        policies += 1;
    }
    assert!(policies <= 20, "{policies} policies for 400 changes");
    assert_eq!(followed.reviews(), V2);
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_from_where_it_was() {
    let fake = town().await;
    let (mut followed, _) = Followed::start(&fake).await;
    watched(&fake).await;
    // Only a bookmark tells the watches how far they are now: nothing of their kinds has changed.
    fake.put([json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lonely", "namespace": "default"}})]);
    followed.next().await;
    fake.bookmark();
    let version = fake.version();
    // The route's next change comes after the bookmark, so the bookmark was seen.
    fake.put([town::route("reviews", "v2")]);
    followed.next().await;
    fake.asked();

    fake.drop_watches();
    fake.put([town::route("reviews", "v1")]);
    followed.next().await;
    assert_eq!(followed.reviews(), V1, "what was missed is made up for");
    watched(&fake).await;
    let asked = fake.asked();
    assert!(asked.iter().all(|asked| asked.watch.is_some()), "nothing was listed again: {asked:?}");
    for kind in Kind::ALL {
        let from = asked.iter().find(|asked| asked.kind == kind).unwrap().watch.unwrap();
        let expected = if kind == Kind::VirtualService { version + 1 } else { version };
        assert_eq!(from, expected, "{kind}");
    }
    assert_eq!(followed.troubles, [], "a break that costs nothing is no trouble");
}

/// Waits until all kinds are watched.
async fn watched(fake: &Fake) {
    let all = async {
        while fake.watches() < Kind::ALL.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, all).await.expect("all kinds are watched soon");
}

#[tokio::test]
async fn what_the_server_forgot_is_listed_again() {
    let fake = town().await;
    let (mut followed, _) = Followed::start(&fake).await;
    watched(&fake).await;
    fake.asked();
    fake.drop_watches();
    fake.delete(Kind::VirtualService, "default", "reviews");
    fake.put(town::service("ratings", &[("ratings-1", "10.0.1.1", "v1")]));
    fake.forget();
    let ratings = "outbound|80||ratings.default.svc.cluster.local";
    followed
        .until(|engine| {
            let endpoints = engine.endpoints().iter().filter(|one| &*one.cluster == ratings).count();
            town::destination(engine, "reviews", "/") == PLAIN && endpoints == 1
        })
        .await;
    assert_eq!(followed.endpoints(ratings), ["10.0.1.1:8080"]);
    let lists = fake.asked().into_iter().filter(|asked| asked.watch.is_none()).count();
    assert!(lists >= 2, "{lists}");
    assert!(followed.troubles.iter().any(|(_, message)| message.contains("too old resource version")));
}

#[tokio::test]
async fn one_bad_object_changes_nothing_and_is_told() {
    let fake = town().await;
    let mut bad = town::route("reviews", "v2");
    bad["spec"]["http"] = json!(7);
    let mut never_good = town::route("never", "v1");
    never_good["spec"]["hosts"] = json!({"a": "b"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "odd", "namespace": "default"},
        "spec": {"ports": "many"}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "odd", "namespace": "default"}, "addressType": 4, "endpoints": []});
    fake.put([never_good.clone(), service, slice]);
    let (mut followed, first) = Followed::start(&fake).await;
    assert_eq!(followed.reviews(), V1);
    let kinds: Vec<&str> = first.faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["VirtualService default/never", "Service default/odd", "EndpointSlice default/odd"]);
    assert!(first.faults[0].contains("spec.hosts: expected a list"), "{}", first.faults[0]);

    fake.put([bad]);
    let seen = followed.next().await;
    assert_eq!(followed.reviews(), V1);
    let fault = seen.faults.iter().find(|fault| fault.starts_with("VirtualService default/reviews")).unwrap();
    assert!(
        fault.contains(": generation 2: spec.http: ") && fault.ends_with("; generation 1 stays in force"),
        "{fault}"
    );
    // Others go on meanwhile.
    fake.put([town::slice("reviews", [("reviews-2", "10.0.0.2")].into_iter())]);
    followed.next().await;
    assert_eq!((followed.endpoints(V1).len(), followed.endpoints(V2).len()), (0, 1));
    // Even through a new list.
    watched(&fake).await;
    fake.drop_watches();
    fake.put([town::route("other", "v1")]);
    fake.forget();
    let objects = seen.objects + 1;
    while followed.next().await.objects != objects {}
    assert_eq!(followed.reviews(), V1);
    // Right again: nothing else is needed.
    fake.put([town::route("reviews", "v2")]);
    let seen = followed.until(|engine| town::destination(engine, "reviews", "/") == V2).await;
    assert_eq!(seen.faults.len(), 3);
    for (kind, name) in [(Kind::VirtualService, "never"), (Kind::Service, "odd"), (Kind::EndpointSlice, "odd")] {
        fake.delete(kind, "default", name);
    }
    while !followed.next().await.faults.is_empty() {}
}

#[tokio::test]
async fn a_kind_that_the_cluster_does_not_know_counts_as_none() {
    let fake = town().await;
    fake.set_known(Kind::DestinationRule, false);
    fake.set_known(Kind::VirtualService, false);
    let (mut followed, first) = Followed::start(&fake).await;
    assert_eq!((followed.reviews().as_str(), first.objects), (PLAIN, 4));
    let mut told: Vec<Kind> = followed.troubles.iter().map(|(kind, _)| *kind).collect();
    told.sort();
    told.dedup();
    assert_eq!(told, [Kind::VirtualService, Kind::DestinationRule]);
    assert!(followed.troubles[0].1.starts_with("the cluster does not know this kind"), "{:?}", followed.troubles);
    // Their definitions are installed.
    fake.set_known(Kind::DestinationRule, true);
    fake.set_known(Kind::VirtualService, true);
    followed.until(|engine| town::destination(engine, "reviews", "/") == V1).await;
}

#[tokio::test]
async fn a_dropped_source_watches_no_more_and_its_engine_goes_on() {
    let fake = town().await;
    let (followed, _) = Followed::start(&fake).await;
    watched(&fake).await;
    let Followed { source, engine, .. } = followed;
    drop(source);
    let gone = async {
        while fake.watches() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the watches end");
    assert_eq!(town::destination(&engine, "reviews", "/"), V1);
}
