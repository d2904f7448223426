//! The handle: a policy that can be exchanged, and the state that outlives it.
//!
//! A request takes the policy that is in force when it begins, and keeps it to its last retry. A reload puts another one
//! in its place for the requests after it; ejections, counts of what is under way and warm-up belong to destinations and
//! endpoints by their names, and stay. A destination that the new policy no longer has loses its state once the last
//! request that uses it is over.
//!
//! The policy stands behind an [`ArcSwap`]: taking it is wait-free, however many requests begin at once, and a reload waits
//! for nobody.

use crate::compile::Report;
use crate::entropy::Draws;
pub use crate::exchange::{Event, Observer};
use crate::exchange::{Exchange, Settings, Side, Snapshot, Surroundings};
use crate::head::{Request, RequestHead};
use crate::limit::Permit;
use crate::mesh::{Mesh, Viewpoint};
use crate::policy::{ConnectionVerdict, Flags, Policy};
use crate::resource::{Problem, Resources};
use crate::sync::lock;
use crate::time::Timestamp;
use crate::upstream::{EndpointView, Upstreams};
use arc_swap::ArcSwap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Policy and state, shared by everything that routes with them. Cloning is cheap, and shares both.
///
/// ```
/// use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
/// use pointsman::policy::Policy;
/// use pointsman::{Engine, Resources};
///
/// let policy = |address: &str| {
///     let reviews = Service::new("reviews.default.svc.cluster.local", "default")
///         .with_port(80, "http", Protocol::Http)
///         .with_endpoint(Endpoint::new(address, 80));
///     Policy::compile(&Resources::default(), &Mesh::new([reviews]), &Viewpoint::namespace("default")).policy
/// };
/// let engine = Engine::builder().seed(7).build(policy("10.0.0.1"));
/// assert_eq!(&*engine.endpoints()[0].endpoint, "10.0.0.1:80");
/// engine.reload(policy("10.0.0.2")); // requests under way keep the policy they began with
/// assert_eq!(&*engine.endpoints()[0].endpoint, "10.0.0.2:80");
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    /// Policy and the state of its destinations change together: a request sees both of one reload.
    current: ArcSwap<Snapshot>,
    /// One reload at a time.
    reloading: Mutex<()>,
    upstreams: Upstreams,
    /// What exchanges need of it.
    around: Arc<Surroundings>,
    /// What the layers' clock showed at [`Timestamp::ZERO`], and how it is read.
    #[cfg(feature = "tower")]
    clock: std::sync::OnceLock<LayersClock>,
    /// The latest time that was seen: what a reload counts from.
    latest: AtomicU64,
}

#[cfg(feature = "tower")]
type LayersClock = (std::time::Instant, fn() -> std::time::Instant);

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
        let (roster, _) = upstreams.prepare(&policy, self.start);
        upstreams.publish(Arc::clone(&roster));
        let shared = Shared {
            current: ArcSwap::from_pointee(Snapshot { policy: Arc::new(policy), upstreams: roster }),
            reloading: Mutex::new(()),
            upstreams,
            around: Arc::new(Surroundings { settings: self.settings, observers: self.observers }),
            #[cfg(feature = "tower")]
            clock: std::sync::OnceLock::new(),
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
        Snapshot::clone(&self.shared.current.load())
    }

    /// What time it is, as far as that is known here: by the layers' clock, or else the latest time that was told.
    fn now(&self) -> Timestamp {
        let latest = Timestamp::from_nanos(self.shared.latest.load(Ordering::Relaxed));
        #[cfg(feature = "tower")]
        if let Some((origin, read)) = self.shared.clock.get() {
            return latest.max(Timestamp::ZERO + read().saturating_duration_since(*origin));
        }
        latest
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.snapshot().policy
    }

    /// Exchanges the policy. Requests under way keep theirs; ejections, counts and warm-up stay.
    ///
    /// It happens now: by the clock of the layers, or, without layers, at the latest time that a request told. Who keeps
    /// time of their own says it with [`Engine::reload_at`], or an endpoint that is new warms up from an earlier time.
    pub fn reload(&self, policy: Policy) {
        self.reload_at(policy, self.now());
    }

    /// Exchanges the policy at this time.
    pub fn reload_at(&self, policy: Policy, now: Timestamp) {
        self.shared.latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
        let one = lock(&self.shared.reloading);
        let (upstreams, events) = self.shared.upstreams.prepare(&policy, now);
        self.shared.upstreams.publish(Arc::clone(&upstreams));
        self.shared.current.store(Arc::new(Snapshot { policy: Arc::new(policy), upstreams }));
        drop(one);
        self.shared.around.observe(|| Event::Reloaded);
        for (upstream, event) in &events {
            self.shared.around.observe_outliers(upstream, std::slice::from_ref(event));
        }
    }

    /// Compiles resources and exchanges the policy for what comes of them, if every one of them is right. What the report
    /// says of rules that are not in the policy is no reason to refuse it.
    ///
    /// # Errors
    /// A resource has an error in it. Nothing changes then: the last good policy stays.
    ///
    /// ```
    /// # #[cfg(feature = "yaml")] {
    /// use pointsman::mesh::{Mesh, Viewpoint};
    /// use pointsman::policy::Policy;
    /// use pointsman::{Engine, Resources};
    ///
    /// let (mesh, viewpoint) = (Mesh::new([]), Viewpoint::namespace("default"));
    /// let engine = Engine::new(Policy::compile(&Resources::default(), &mesh, &viewpoint).policy);
    /// let slip = Resources::from_yaml("
    /// apiVersion: networking.istio.io/v1
    /// kind: VirtualService
    /// metadata: {name: a, namespace: default}
    /// spec: {hosts: 3}
    /// ").unwrap();
    /// let refused = engine.reload_resources(&slip, &mesh, &viewpoint).unwrap_err();
    /// assert!(refused.to_string().contains("spec.hosts"), "{refused}");
    /// # }
    /// ```
    pub fn reload_resources(
        &self,
        resources: &Resources,
        mesh: &Mesh,
        viewpoint: &Viewpoint,
    ) -> Result<Report, ReloadError> {
        let problems: Vec<Problem> = resources.errors().cloned().collect();
        if !problems.is_empty() {
            let error = ReloadError { problems };
            self.refuse_reload(&error);
            return Err(error);
        }
        let compiled = Policy::compile(resources, mesh, viewpoint);
        self.reload(compiled.policy);
        Ok(compiled.report)
    }

    /// Tells observers that another policy was not right.
    pub(crate) fn refuse_reload(&self, error: &(dyn StdError + 'static)) {
        self.shared.around.observe(|| Event::ReloadRefused { error });
    }

    /// Begins a request's life.
    pub fn begin(&self, head: RequestHead, now: Timestamp, draws: &mut dyn Draws) -> Exchange {
        self.shared.latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
        Exchange::new(Arc::clone(&self.shared.around), self.snapshot(), head, Side::Client, now, draws)
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
        Some(Exchange::new(Arc::clone(&self.shared.around), snapshot, head, Side::Server(host), now, draws))
    }

    /// Where the layers' clock stood at [`Timestamp::ZERO`]: whoever asks first says so, and all drivers of an engine agree.
    #[cfg(feature = "tower")]
    pub(crate) fn origin(&self, read: fn() -> std::time::Instant) -> std::time::Instant {
        self.shared.clock.get_or_init(|| (read(), read)).0
    }

    /// The state of destinations.
    pub fn upstreams(&self) -> &Upstreams {
        &self.shared.upstreams
    }

    /// Every endpoint of every destination, for people.
    pub fn endpoints(&self) -> Vec<EndpointView> {
        self.shared.upstreams.endpoints(self.now())
    }

    /// Routes a connection that is not HTTP: the destination, an endpoint, and flags if there is none. It counts among the
    /// destination's connections as long as what comes back is held.
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
                let Some(upstream) = upstreams.get(&result.cluster) else {
                    result.flags = Flags::NC;
                    return result;
                };
                // Before an endpoint is picked, as Envoy does.
                match upstream.admit_connection() {
                    Ok(permit) => result.permit = Some(permit),
                    Err(exceeded) => {
                        self.shared.around.observe(|| Event::Limited { cluster: upstream.name(), exceeded });
                        (result.flags, result.closed) = (Flags::UO, true);
                        return result;
                    }
                }
                let events = upstream.sweep(now);
                self.shared.around.observe_outliers(upstream, &events);
                result.endpoint = upstream.pick(None, &[], false, false, now, draws);
                if result.endpoint.is_none() {
                    result.flags = Flags::UH;
                }
            }
        }
        result
    }
}

/// Where a connection goes.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Connect {
    /// The destination's name; empty where there is none.
    pub cluster: Arc<str>,
    /// The endpoint, if there is one.
    pub endpoint: Option<Arc<crate::upstream::EndpointState>>,
    /// Envoy's flags.
    pub flags: Flags,
    /// Is it closed without an answer: because no rule takes it, or because there are too many?
    pub closed: bool,
    /// Does nothing listen on the port?
    pub no_listener: bool,
    /// Its place among the destination's connections: hold it until the connection is over.
    pub permit: Option<Permit>,
}

/// Why resources were not taken: each of their errors.
#[derive(Clone, Debug)]
pub struct ReloadError {
    problems: Vec<Problem>,
}

impl ReloadError {
    /// The errors, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl StdError for ReloadError {}

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
