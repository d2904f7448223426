//! What is decided when a request begins, and every answer that no upstream gave.

use super::code::Code;
use super::machine::{Exchange, Phase, Side};
use crate::entropy::Draws;
use crate::policy::{
    Action, Fault, Flags, Forward, HeaderOperations, NoRoute, Policy, Route, Target, Verdict, WeightedDestination,
};
use crate::time::Timestamp;
use crate::transform::respond::{self, Reply};
use crate::transform::{Context, cors, redirect};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

impl Exchange {
    /// Normalises the path, picks route and destination, and says whether a fault holds the request.
    pub(super) fn decide(&mut self, policy: &Policy, upgrade_refused: bool, now: Timestamp, draws: &mut dyn Draws) {
        match policy.normalize(&self.head.path) {
            Ok(path) if path != self.head.path => self.head.path = path.into_owned(),
            Ok(_) => {}
            Err(_) => {
                self.refuse(StatusCode::BAD_REQUEST, Flags::NONE, Code::BadPath);
                return;
            }
        }
        let mut request = self.head.as_request();
        if let Side::Server(Some(host)) = &self.side {
            request.authority = host;
        }
        let decision = policy.decide_normalized(&request, &self.head.path, draws);
        self.draw = decision.draw;
        if upgrade_refused && !matches!(decision.verdict, Verdict::Forward { .. }) {
            return self.refuse(StatusCode::FORBIDDEN, Flags::NONE, Code::UpgradeRefused);
        }
        match decision.verdict {
            Verdict::Forward { route, forward, destination } => {
                self.chosen = forward.destinations.iter().position(|one| std::ptr::eq(one, destination)).unwrap_or(0);
                self.summary.route = Arc::clone(&route.name);
                if let Target::Destination(id) = destination.target
                    && let Some(destination) = policy.destination(id)
                {
                    self.summary.cluster = Arc::clone(&destination.name);
                    self.upstream = self.upstreams.of(id).cloned();
                }
                self.route = Some(Arc::clone(route));
                if upgrade_refused {
                    let reply = Reply::new(StatusCode::FORBIDDEN, b"");
                    return self.answer_forward(reply, Flags::NONE, Code::UpgradeRefused);
                }
                self.hold(route.fault, now, draws);
            }
            Verdict::Redirect { route, .. } | Verdict::Respond { route, .. } => {
                self.summary.route = Arc::clone(&route.name);
                self.route = Some(Arc::clone(route));
                if route.fault == Fault::default() {
                    self.answer_by_route(route);
                } else {
                    self.hold(route.fault, now, draws);
                }
            }
            Verdict::PassThrough => {
                self.summary.route = "allow_any".into();
                self.summary.cluster = "PassthroughCluster".into();
                self.passthrough = true;
                self.phase = Phase::Routing;
            }
            Verdict::NoRoute(NoRoute::Refused) => self.refuse(StatusCode::BAD_GATEWAY, Flags::NONE, Code::UnknownHost),
            Verdict::NoRoute(NoRoute::BadPath) => self.refuse(StatusCode::BAD_REQUEST, Flags::NONE, Code::BadPath),
            Verdict::NoRoute(NoRoute::HttpsRedirect) => {
                let (name, value) = respond::location(&redirect::to_https(&self.head));
                let reply = Reply::new(StatusCode::MOVED_PERMANENTLY, b"").with_header(name, value);
                self.answer(reply, Flags::NONE, Code::Redirect, &[]);
            }
            Verdict::NoRoute(reason) => {
                let code = match reason {
                    NoRoute::NoListener => Code::NoListener,
                    NoRoute::UnknownHost => Code::UnknownHost,
                    _ => Code::NoRoute,
                };
                self.refuse(StatusCode::NOT_FOUND, Flags::NR, code);
            }
        }
    }

    /// A fault may delay what comes next.
    fn hold(&mut self, fault: Fault, now: Timestamp, draws: &mut dyn Draws) {
        self.phase = match fault.delay {
            Some(delay) if delay.fraction.takes(draws.next_u64()) => {
                self.summary.flags |= Flags::DI;
                Phase::Delay(now + delay.duration)
            }
            _ => Phase::Routing,
        };
    }

    /// The answer of a route that answers: a redirect or a direct response.
    pub(super) fn answer_by_route(&mut self, route: &Route) {
        let (reply, code) = match &route.action {
            Action::Redirect(redirect) => {
                let (name, value) = respond::location(&redirect::location(redirect, &route.matcher.path, &self.head));
                (Reply::new(redirect.status, b"").with_header(name, value), Code::Redirect)
            }
            Action::Respond(response) => {
                let mut reply = Reply::new(response.status, &response.body);
                if respond::has_location(response.status) {
                    let (name, value) = respond::location(&redirect::own_url(&self.head));
                    reply = reply.with_header(name, value);
                }
                (reply, Code::DirectResponse)
            }
            Action::Forward(_) => return,
        };
        self.answer(reply, Flags::NONE, code, &[&route.response_headers]);
    }

    pub(super) fn forward(route: &Option<Arc<Route>>) -> Option<&Forward> {
        match &route.as_ref()?.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    pub(super) fn destination(&self) -> Option<&WeightedDestination> {
        Self::forward(&self.route)?.destinations.get(self.chosen)
    }

    /// An empty answer outside every route.
    pub(super) fn refuse(&mut self, status: StatusCode, flags: Flags, code: Code) {
        self.answer(Reply::new(status, b""), flags, code, &[]);
    }

    pub(super) fn answer(&mut self, reply: Reply<'_>, flags: Flags, code: Code, phases: &[&HeaderOperations]) {
        self.summary.flags |= flags;
        self.summary.code = code;
        if self.relayed {
            // The client has seen a 1xx of the upstream: there is no way back.
            self.phase = Phase::Breaking;
            return;
        }
        let local = reply.build(&self.head, self.grpc, &self.context(), phases);
        self.phase = Phase::Answer(local);
    }

    /// What values of response headers may ask for.
    pub(super) fn context(&self) -> Context<'_> {
        // The attempt that found no endpoint, or no place, is one too.
        let refused = matches!(self.summary.code, Code::NoHealthyUpstream | Code::Overflow);
        let connected = self.sent_before || !self.summary.flags.contains(Flags::UF);
        Context {
            start_time: self.start_time(),
            route_name: Some(&self.summary.route),
            cluster: Some(&self.summary.cluster),
            upstream_host: self.summary.endpoint.as_deref(),
            upstream_remote: self.summary.endpoint.as_deref().filter(|_| connected),
            details: Some(self.summary.details()),
            flags: self.summary.flags,
            attempts: self.summary.attempts + u32::from(refused),
            ..Context::new(&self.head)
        }
    }

    /// When the request came, since the Unix epoch, if the engine was told what its clock shows.
    pub(super) fn start_time(&self) -> Option<Duration> {
        Some(self.shared.settings.epoch? + (self.summary.began - Timestamp::ZERO))
    }

    /// An answer in the upstream's place: header operations and CORS apply.
    pub(super) fn answer_forward(&mut self, reply: Reply<'_>, flags: Flags, code: Code) {
        let route = self.route.clone();
        let own = Self::forward(&route).and_then(|forward| forward.destinations.get(self.chosen));
        let mut phases: Vec<&HeaderOperations> = Vec::new();
        phases.extend(own.map(|own| &own.response_headers));
        phases.extend(route.as_ref().map(|route| &route.response_headers));
        self.answer(reply, flags, code, &phases);
        if let (Phase::Answer(local), Some(origin)) = (&mut self.phase, &self.cors_origin)
            && let Some(policy) = Self::forward(&route).and_then(|forward| forward.cors.as_ref())
        {
            cors::mark(policy, origin, &mut local.head);
        }
    }
}
