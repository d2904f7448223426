//! A policy for one service, and bodies and upstreams in memory.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Full;
use pointsman::engine::EngineBuilder;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::tower::{BoxError, ReplayBody};
use pointsman::upstream::Usage;
use pointsman::{Engine, Resources};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pub type Inner = Request<ReplayBody<Frames>>;
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Frames>, BoxError>> + Send>>;

/// A policy in which `rule` is the one rule of `reviews`, and `traffic` its traffic policy.
pub fn policy(rule: &str, traffic: &str) -> Policy {
    let text = format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec: {{hosts: [reviews], http: [{rule}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: default}}
spec: {{host: reviews, trafficPolicy: {traffic}}}
"
    );
    let resources = Resources::from_yaml(&text).unwrap();
    assert!(resources.problems.is_empty(), "{:?}", resources.problems);
    let reviews = Service::new("reviews.default.svc.cluster.local", "default")
        .with_port(80, "http", Protocol::Http)
        .with_endpoint(Endpoint::new("10.0.0.1", 80))
        .with_endpoint(Endpoint::new("10.0.0.2", 80));
    let shadow = Service::new("shadow.default.svc.cluster.local", "default")
        .with_port(80, "http", Protocol::Http)
        .with_endpoint(Endpoint::new("10.0.0.9", 80));
    let compiled = Policy::compile(&resources, &Mesh::new([reviews, shadow]), &Viewpoint::namespace("default"));
    assert!(compiled.report.is_empty(), "{}", compiled.report);
    compiled.policy
}

pub const ROUTE: &str = "route: [{destination: {host: reviews}}]";

pub fn engine(rule: &str, traffic: &str) -> Engine {
    engine_with(Engine::builder(), rule, traffic)
}

pub fn engine_with(builder: EngineBuilder, rule: &str, traffic: &str) -> Engine {
    builder.build(policy(&format!("{{{rule}}}"), traffic))
}

/// What is under way at each destination.
fn usages(engine: &Engine) -> impl Iterator<Item = Usage> {
    let name = |host| format!("outbound|80||{host}.default.svc.cluster.local");
    ["reviews", "shadow"].map(|host| engine.upstreams().get(&name(host)).unwrap().usage()).into_iter()
}

/// Requests under way, over all destinations; of a handler of this process as well.
pub fn under_way(engine: &Engine) -> u32 {
    usages(engine).map(|usage| usage.requests).sum()
}

/// Is nothing counted any more: no request, no connection, nobody who waits, no retry?
pub fn is_idle(engine: &Engine) -> bool {
    usages(engine).all(|usage| usage == Usage::default())
        && engine.endpoints().iter().all(|endpoint| endpoint.active == 0)
}

/// A body of given frames; between any two it may be pending once, and at the end for ever.
#[derive(Debug, Default)]
pub struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    pause: bool,
    paused: bool,
    endless: bool,
}

impl Frames {
    pub fn empty() -> Frames {
        Frames::default()
    }

    pub fn data(data: impl Into<Bytes>) -> Frames {
        Frames { frames: VecDeque::from([Frame::data(data.into())]), ..Frames::default() }
    }

    pub fn then(mut self, frame: Frame<Bytes>) -> Frames {
        self.frames.push_back(frame);
        self
    }

    /// Pending once before each frame.
    pub fn slowly(mut self) -> Frames {
        self.pause = true;
        self
    }

    /// Never ends.
    pub fn endless(mut self) -> Frames {
        self.endless = true;
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.pause && !std::mem::replace(&mut self.paused, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.paused = false;
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.endless => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && !self.endless && !self.pause
    }
}

pub fn request(path: &str) -> Request<Frames> {
    Request::get(format!("http://reviews{path}")).body(Frames::empty()).unwrap()
}

pub fn post(body: Frames) -> Request<Frames> {
    Request::post("http://reviews/").body(body).unwrap()
}

pub fn answer(status: u16) -> Response<Frames> {
    let mut response = Response::new(Frames::data("upstream"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

#[allow(dead_code)]
pub fn full(text: &'static str) -> Full<Bytes> {
    Full::new(Bytes::from_static(text.as_bytes()))
}
