//! The handle: a policy that can be exchanged, and the state that outlives it.
//!
//! A request takes the policy that is in force when it begins, and keeps it to its last retry. A reload puts another one
//! in its place for the requests after it; ejections, counts of what is under way and warm-up belong to destinations and
//! endpoints by their names, and stay. A destination that the new policy no longer has loses its state once the last
//! request that uses it is over.
//!
//! The policy stands behind std's `RwLock`, not behind a lock-free swap: a request holds the lock only to clone an `Arc`,
//! and a reload only to exchange one, so the core needs no dependency for it.

use crate::entropy::Draws;
use crate::exchange::{Exchange, Side, Summary};
use crate::head::{Request, RequestHead};
use crate::outlier;
use crate::policy::{ConnectionVerdict, Flags, Policy};
use crate::time::Timestamp;
use crate::upstream::{ByName, EndpointView, Upstream, Upstreams};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Policy and state, shared by everything that routes with them. Cloning is cheap, and shares both.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// Policy and the state of its destinations change together: a request sees both of one reload.
    current: RwLock<Snapshot>,
    /// One reload at a time.
    reloading: Mutex<()>,
    upstreams: Upstreams,
    pub(crate) settings: Settings,
    observers: Vec<Arc<dyn Observer>>,
    /// What the layers' clock showed at [`Timestamp::ZERO`].
    #[cfg(feature = "tower")]
    origin: std::sync::OnceLock<std::time::Instant>,
    /// The latest time that was seen: what a reload counts from.
    latest: AtomicU64,
}

/// What is the same for every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) replay_limit: usize,
    pub(crate) count_grpc_trailers: bool,
    /// What the time since the Unix epoch was at [`Timestamp::ZERO`].
    pub(crate) epoch: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { replay_limit: 1 << 20, count_grpc_trailers: false, epoch: None }
    }
}

/// A policy with the state of its destinations.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) policy: Arc<Policy>,
    pub(crate) upstreams: Arc<ByName>,
}

/// Is told what happens, as it happens. Does nothing unless it says so.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &Event<'_>);
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request was decided on.
    Decided {
        /// What is known so far.
        summary: &'a Summary,
    },
    /// An attempt begins.
    Attempt {
        /// What is known so far.
        summary: &'a Summary,
    },
    /// Another attempt will be made after a wait.
    Retry {
        /// What is known so far.
        summary: &'a Summary,
        /// The wait.
        wait: Duration,
    },
    /// A copy of the request goes out.
    Mirrored {
        /// What is known so far.
        summary: &'a Summary,
        /// The destination's name.
        cluster: &'a str,
    },
    /// A limit refused a request or a retry.
    Limited {
        /// The destination's name.
        cluster: &'a str,
    },
    /// An endpoint was ejected, was not ejected because too many are, or returned.
    Outlier {
        /// The destination's name.
        cluster: &'a str,
        /// What happened.
        event: &'a outlier::Event,
    },
    /// The policy was exchanged.
    Reloaded,
    /// A request is over.
    Finished {
        /// What became of it.
        summary: &'a Summary,
    },
}

impl Shared {
    pub(crate) fn observe<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if !self.observers.is_empty() {
            let event = event();
            self.observers.iter().for_each(|observer| observer.on_event(&event));
        }
    }

    pub(crate) fn observe_outliers(&self, upstream: &Upstream, events: &[outlier::Event]) {
        for event in events {
            self.observe(|| Event::Outlier { cluster: upstream.name(), event });
        }
    }
}

/// Makes an [`Engine`].
#[derive(Default)]
pub struct EngineBuilder {
    seed: u64,
    settings: Settings,
    observers: Vec<Arc<dyn Observer>>,
    start: Timestamp,
}

impl EngineBuilder {
    /// Where turns of load balancers begin. Give each process its own, or all begin alike.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Who is told what happens. Call it again for more than one; they are told in order.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// How many bytes of a request's body are worth keeping for another attempt: 1 MiB unless said, as in Envoy.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.settings.replay_limit = bytes;
        self
    }

    /// Whether a gRPC status in trailers counts for outlier detection. It does not unless said: Envoy counts the status in
    /// the response's head alone, so a streaming call that fails in the end counts as a 200.
    pub fn count_grpc_trailers(mut self, count: bool) -> Self {
        self.settings.count_grpc_trailers = count;
        self
    }

    /// How long after the Unix epoch [`Timestamp::ZERO`] is: what `%START_TIME%` in header values needs. Without it such a
    /// value is empty.
    pub fn epoch(mut self, since_unix_epoch: Duration) -> Self {
        self.settings.epoch = Some(since_unix_epoch);
        self
    }

    /// What time it is now ([`Timestamp::ZERO`] unless said).
    pub fn start(mut self, now: Timestamp) -> Self {
        self.start = now;
        self
    }

    /// The engine.
    pub fn build(self, policy: Policy) -> Engine {
        let upstreams = Upstreams::new(self.seed);
        let (by_name, _) = upstreams.prepare(&policy, self.start);
        upstreams.publish(Arc::clone(&by_name));
        let shared = Shared {
            current: RwLock::new(Snapshot { policy: Arc::new(policy), upstreams: by_name }),
            reloading: Mutex::new(()),
            upstreams,
            settings: self.settings,
            observers: self.observers,
            #[cfg(feature = "tower")]
            origin: std::sync::OnceLock::new(),
            latest: AtomicU64::new(self.start.as_nanos()),
        };
        Engine { shared: Arc::new(shared) }
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with default settings.
    pub fn new(policy: Policy) -> Engine {
        EngineBuilder::default().build(policy)
    }

    /// Settings for an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    fn snapshot(&self) -> Snapshot {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.snapshot().policy
    }

    /// Exchanges the policy. Requests under way keep theirs; ejections, counts and warm-up stay.
    pub fn reload(&self, policy: Policy) {
        let now = Timestamp::from_nanos(self.shared.latest.load(Ordering::Relaxed));
        let _one = self.shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let (upstreams, _) = self.shared.upstreams.prepare(&policy, now);
        self.shared.upstreams.publish(Arc::clone(&upstreams));
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) =
            Snapshot { policy: Arc::new(policy), upstreams };
        self.shared.observe(|| Event::Reloaded);
    }

    /// Begins a request's life.
    pub fn begin(&self, head: RequestHead, now: Timestamp, draws: &mut dyn Draws) -> Exchange {
        self.shared.latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
        Exchange::new(Arc::clone(&self.shared), self.snapshot(), head, Side::Client, now, draws)
    }

    /// Begins the life of a request that a handler of this process answers: what makes sense in front of it is applied,
    /// which is everything but picking an endpoint, retries, mirrors and ejections.
    ///
    /// [`Step::Attempt`](crate::exchange::Step::Attempt) means the handler; its endpoint is the one of
    /// [`EndpointState::is_local`](crate::upstream::EndpointState::is_local). None: no virtual host of the policy has the
    /// request, which is then the handler's own affair.
    ///
    /// `host` is looked for in the request's place, if it is given: the name that the mesh knows this service by.
    pub fn begin_local(
        &self,
        head: RequestHead,
        host: Option<Arc<str>>,
        now: Timestamp,
        draws: &mut dyn Draws,
    ) -> Option<Exchange> {
        self.shared.latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
        let snapshot = self.snapshot();
        if !snapshot.policy.knows(head.port, host.as_deref().unwrap_or(&head.authority)) {
            return None;
        }
        Some(Exchange::new(Arc::clone(&self.shared), snapshot, head, Side::Server(host), now, draws))
    }

    /// Where std's clock stood at [`Timestamp::ZERO`]: whoever asks first says so, and all drivers of an engine agree.
    #[cfg(feature = "tower")]
    pub(crate) fn origin(&self, now: impl FnOnce() -> std::time::Instant) -> std::time::Instant {
        *self.shared.origin.get_or_init(now)
    }

    /// The state of destinations.
    pub fn upstreams(&self) -> &Upstreams {
        &self.shared.upstreams
    }

    /// Every endpoint of every destination, for people.
    pub fn endpoints(&self) -> Vec<EndpointView> {
        self.shared.upstreams.endpoints()
    }

    /// Routes a connection that is not HTTP: the destination, an endpoint, and flags if there is none.
    pub fn connect(
        &self,
        connection: &crate::policy::Connection<'_>,
        now: Timestamp,
        draws: &mut dyn Draws,
    ) -> Connect {
        self.shared.latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
        let Snapshot { policy, upstreams } = self.snapshot();
        let mut result = Connect::default();
        match policy.decide_connection(connection, draws) {
            ConnectionVerdict::NoListener => result.no_listener = true,
            ConnectionVerdict::Closed => result.closed = true,
            ConnectionVerdict::PassThrough => {
                result.cluster = "PassthroughCluster".into();
                result.flags = Flags::UH;
            }
            ConnectionVerdict::Forward { destination, .. } => {
                result.cluster = policy.target_name(&destination.target);
                let upstream = upstreams.get(&result.cluster);
                result.endpoint = upstream.and_then(|one| one.pick(None, &[], false, false, now, draws));
                result.flags = match (upstream, &result.endpoint) {
                    (None, _) => Flags::NC,
                    (Some(_), None) => Flags::UH,
                    _ => Flags::default(),
                };
            }
        }
        result
    }
}

/// Where a connection goes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Connect {
    /// The destination's name; empty where there is none.
    pub cluster: Arc<str>,
    /// The endpoint, if there is one.
    pub endpoint: Option<Arc<crate::upstream::EndpointState>>,
    /// Envoy's flags.
    pub flags: Flags,
    /// Is it closed without an answer because no rule takes it?
    pub closed: bool,
    /// Does nothing listen on the port?
    pub no_listener: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// The route's name and the destination that a request would get, without beginning it.
    pub fn preview(&self, request: &Request<'_>, draws: &mut dyn Draws) -> (Arc<str>, Arc<str>) {
        let policy = self.policy();
        let decision = policy.decide(request, draws);
        (decision.route_name(), policy.cluster(&decision))
    }
}
