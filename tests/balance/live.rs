//! Warm-up in a destination's state: endpoints that come, that were not ready, that were out, that moved.

use pointsman::Resources;
use pointsman::mesh::{Endpoint, Health, Mesh, Protocol, Service, Viewpoint};
use pointsman::outlier::Outcome;
use pointsman::policy::Policy;
use pointsman::time::Timestamp;
use pointsman::upstream::Upstreams;

/// Endpoints: address, locality, ready.
fn policy(warmup: &str, endpoints: &[(&str, &str, bool)]) -> Policy {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: default}}\n\
         spec: {{host: a, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN, {warmup}, \
         localityLbSetting: {{enabled: false}}}}, outlierDetection: \
         {{consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100}}}}}}\n"
    );
    let service = Service::new("a.default.svc.cluster.local", "default").with_port(80, "http", Protocol::Http);
    let service = endpoints.iter().fold(service, |service, (address, locality, ready)| {
        let mut endpoint = Endpoint::new(*address, 80).with_locality(*locality);
        endpoint.health = if *ready { Health::Ready } else { Health::NotReady };
        service.with_endpoint(endpoint)
    });
    let resources = Resources::from_yaml(&rule).expect("the rule reads");
    Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default")).policy
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

struct Bed {
    upstreams: Upstreams,
    warmup: &'static str,
}

impl Bed {
    fn endpoints(&self, endpoints: &[(&str, &str, bool)], now: Timestamp) {
        self.upstreams.sync(&policy(self.warmup, endpoints), now);
    }

    /// The share of an endpoint among picks in one moment.
    fn share(&self, address: &str, now: Timestamp) -> f64 {
        let upstream = self.upstreams.get("outbound|80||a.default.svc.cluster.local").expect("the destination");
        let picks = 12_000;
        let hits = (0..picks).filter(|_| {
            let endpoint = upstream.pick(None, &[], false, false, now, &mut || 0).expect("an endpoint");
            endpoint.address() == address
        });
        hits.count() as f64 / f64::from(picks)
    }

    fn fail(&self, address: &str, now: Timestamp) {
        let upstream = self.upstreams.get("outbound|80||a.default.svc.cluster.local").expect("the destination");
        let endpoint = (0..100)
            .filter_map(|_| upstream.pick(None, &[], false, false, now, &mut || 0))
            .find(|endpoint| endpoint.address() == address)
            .expect("it is picked");
        assert_eq!(upstream.record(&endpoint, Outcome::Status(500), now).len(), 1);
    }

    #[track_caller]
    fn expect(&self, address: &str, now: Timestamp, factor: f64, others: f64) {
        let (found, expected) = (self.share(address, now), factor / (factor + others));
        assert!((found - expected).abs() < 0.01, "{address}: {found}, not {expected}");
    }
}

const OLD: (&str, &str, bool) = ("10.0.0.1", "r/a", true);
const NEW: (&str, &str, bool) = ("10.0.0.2", "r/a", true);

fn bed(warmup: &'static str) -> Bed {
    let bed = Bed { upstreams: Upstreams::new(0), warmup };
    bed.endpoints(&[OLD], at(0));
    bed
}

#[test]
fn an_endpoint_that_comes_warms_up() {
    let bed = bed("warmup: {duration: 60s}");
    bed.endpoints(&[OLD, NEW], at(1_000));
    for (age, factor) in [(0, 0.1), (3, 0.1), (6, 0.1), (15, 0.25), (30, 0.5), (45, 0.75), (60, 1.0), (600, 1.0)] {
        bed.expect(NEW.0, at(1_000 + age), factor, 1.0);
    }
    // All policy settings: 25 % at least, and a steeper way.
    let bed = self::bed("warmup: {duration: 60s, minimumPercent: 25, aggression: 2}");
    bed.endpoints(&[OLD, NEW], at(1_000));
    for (age, factor) in [(0, 0.25), (15, 0.5), (30, 0.5_f64.sqrt()), (60, 1.0)] {
        bed.expect(NEW.0, at(1_000 + age), factor, 1.0);
    }
    // Who went and comes back is new.
    bed.endpoints(&[OLD], at(2_000));
    bed.endpoints(&[OLD, NEW], at(2_001));
    bed.expect(NEW.0, at(2_001), 0.25, 1.0);
    // A reload that changes nothing about it leaves its age alone.
    bed.endpoints(&[OLD, NEW], at(2_016));
    bed.expect(NEW.0, at(2_016), 0.5, 1.0);
}

#[test]
fn warm_up_begins_when_an_endpoint_is_first_ready() {
    let bed = bed("warmup: {duration: 60s}");
    bed.endpoints(&[OLD, (NEW.0, "r/a", false)], at(1_000));
    assert!(bed.share(NEW.0, at(1_000)) == 0.0);
    bed.endpoints(&[OLD, NEW], at(1_500));
    bed.expect(NEW.0, at(1_500), 0.1, 1.0);
    bed.expect(NEW.0, at(1_530), 0.5, 1.0);
    // Once: not again after it was not ready for a while.
    bed.endpoints(&[OLD, (NEW.0, "r/a", false)], at(1_600));
    bed.endpoints(&[OLD, NEW], at(1_700));
    bed.expect(NEW.0, at(1_700), 1.0, 1.0);
}

#[test]
fn an_ejection_does_not_warm_up_again() {
    let bed = bed("warmup: {duration: 60s}");
    bed.endpoints(&[OLD, NEW], at(1_000));
    bed.fail(NEW.0, at(1_100));
    assert!(bed.share(NEW.0, at(1_100)) == 0.0);
    let upstream = bed.upstreams.get("outbound|80||a.default.svc.cluster.local").expect("the destination");
    assert_eq!(upstream.sweep(at(1_102)).len(), 1);
    bed.expect(NEW.0, at(1_102), 1.0, 1.0);
}

/// Another locality makes another endpoint of it, as in Envoy: it warms up, and what was counted is forgotten.
#[test]
fn an_endpoint_that_moves_is_new() {
    let bed = bed("warmup: {duration: 60s}");
    bed.endpoints(&[OLD, NEW], at(1_000));
    bed.fail(NEW.0, at(1_100));
    bed.endpoints(&[OLD, (NEW.0, "r/b", true)], at(1_100));
    bed.expect(NEW.0, at(1_100), 0.1, 1.0);
}
