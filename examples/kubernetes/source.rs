//! Watches of a cluster that rule an engine.
//!
//! The contract:
//! - **Ready** means that every kind was listed once. Until then there is no engine, so no request meets half a policy.
//! - **A kind that the cluster does not know** (its CRD is missing) counts as empty; it is told, and asked for again.
//! - **One bad object** is told and changes nothing (`objects.rs`).
//! - **A watch that breaks** goes on from the last version that it has seen; where the server no longer knows that version
//!   (410), everything is listed again, and what the list does not show was deleted meanwhile. Tries are spaced out.
//! - **Changes** close together are applied once: when it was quiet for [`Settings::quiet`], but not later than
//!   [`Settings::patience`] after the first of them.
//! - **Staleness** can be asked for, kind by kind: [`Source::freshness`].
//! - The cluster is only read.

use super::objects::{Kind, Objects, View};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use pointsman::Engine;
use pointsman::compile::Report;
use pointsman::mesh::Viewpoint;
use pointsman::policy::Policy;
use pointsman::resource::Problem;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt, StreamMap};

/// How a cluster is read.
#[derive(Clone)]
pub struct Settings {
    /// For whom the policy is compiled.
    pub viewpoint: Viewpoint,
    /// How long it must be quiet before changes are applied.
    pub quiet: Duration,
    /// How long a change waits at most.
    pub patience: Duration,
    /// How many objects are listed at once.
    pub page: u32,
}

impl Settings {
    pub fn new(viewpoint: Viewpoint) -> Self {
        let (quiet, patience) = (Duration::from_millis(100), Duration::from_secs(1));
        Settings { viewpoint, quiet, patience, page: 500 }
    }
}

/// What there is to tell.
pub enum News {
    /// A policy is in force.
    InForce(InForce),
    /// A watch has trouble, and is tried again.
    Trouble { kind: Kind, message: String },
}

/// What came of the cluster's objects.
#[derive(Debug)]
pub struct InForce {
    /// How many there are.
    pub objects: usize,
    /// What did not make it into the policy, and why.
    pub report: Report,
    /// What was left out of the mesh, and why.
    pub notes: Vec<String>,
    /// Which objects could not be read, and why.
    pub faults: Vec<String>,
    /// What was odd about the others.
    pub warnings: Vec<Problem>,
}

/// How much is known of a kind, and since when.
#[derive(Clone, Debug, Default)]
pub struct Freshness {
    /// Was it listed?
    pub listed: bool,
    /// When the server last said something about it.
    pub heard: Option<Instant>,
    /// The last trouble with it. It is over if something was heard since.
    pub trouble: Option<(Instant, String)>,
}

type Status = Arc<Mutex<BTreeMap<Kind, Freshness>>>;

/// A cluster that is watched, and the engine that it rules. Dropping it ends the watching; the engine goes on.
pub struct Source {
    engine: Engine,
    status: Status,
    task: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    /// Watches, and waits until everything was listed once. `told` hears of every policy and of every trouble.
    ///
    /// # Errors
    /// `told` panicked before that.
    pub async fn start(
        client: Client,
        settings: Settings,
        told: impl FnMut(News) + Send + 'static,
    ) -> Result<Source, oneshot::error::RecvError> {
        let (ready, engine) = oneshot::channel();
        let status = Status::default();
        let watching = Watching {
            objects: Objects::default(),
            unlisted: Kind::ALL.into_iter().collect(),
            ready: Some(ready),
            engine: None,
            status: Arc::clone(&status),
            settings,
            told: Box::new(told),
        };
        let task = tokio::spawn(watching.run(client));
        Ok(Source { engine: engine.await?, status, task })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How fresh what is known of a kind is.
    pub fn freshness(&self, kind: Kind) -> Freshness {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).cloned().unwrap_or_default()
    }
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<Value>>> + Send>>;

/// Everything of one kind in the cluster: listed, then watched, again and again.
fn events(client: &Client, kind: Kind, page: u32) -> Events {
    fn of<K>(api: Api<K>, page: u32) -> Events
    where
        K: Resource + Clone + Debug + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        // Plain values: what one object is made of is judged later, so that it cannot break a list.
        let value = |object: K| serde_json::to_value(&object).unwrap_or_default();
        let plain = move |event| match event {
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(value(object)),
            Event::InitDone => Event::InitDone,
            Event::Apply(object) => Event::Apply(value(object)),
            Event::Delete(object) => Event::Delete(value(object)),
        };
        let watched = watcher(api, watcher::Config::default().page_size(page)).default_backoff();
        Box::pin(StreamExt::map(watched, move |event| event.map(plain)))
    }
    // Of a pod only its metadata comes over the wire.
    if kind == Kind::Pod {
        return of(Api::<PartialObjectMeta<Pod>>::all(client.clone()), page);
    }
    let (group, version, plural) = kind.api();
    let mut resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind.name()));
    resource.plural = plural.to_owned();
    of(Api::<DynamicObject>::all_with(client.clone(), &resource), page)
}

struct Watching {
    objects: Objects,
    /// The kinds that were not listed yet.
    unlisted: BTreeSet<Kind>,
    ready: Option<oneshot::Sender<Engine>>,
    engine: Option<Engine>,
    status: Status,
    settings: Settings,
    told: Box<dyn FnMut(News) + Send>,
}

impl Watching {
    async fn run(mut self, client: Client) {
        let mut all: StreamMap<Kind, Events> =
            Kind::ALL.into_iter().map(|kind| (kind, events(&client, kind, self.settings.page))).collect();
        // When the first change came that is not in force yet.
        let mut since: Option<Instant> = None;
        loop {
            // It must be quiet from now on, but not for ever.
            let until = since
                .filter(|_| self.unlisted.is_empty())
                .map(|since| (Instant::now() + self.settings.quiet).min(since + self.settings.patience));
            tokio::select! {
                next = all.next() => {
                    // No watch ends by itself.
                    let Some((kind, event)) = next else { return };
                    let changed = self.heard(kind, event);
                    since = since.or_else(|| changed.then(Instant::now));
                }
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    since = None;
                    self.put_in_force().await;
                }
            }
        }
    }

    /// True: something changed.
    fn heard(&mut self, kind: Kind, event: watcher::Result<Event<Value>>) -> bool {
        match event {
            Ok(event) => {
                self.note(kind, |known| known.heard = Some(Instant::now()));
                match event {
                    Event::Init => {
                        self.objects.list_begins(kind);
                        false
                    }
                    Event::InitApply(object) | Event::Apply(object) => self.objects.apply(kind, object),
                    Event::InitDone => self.listed(kind),
                    Event::Delete(object) => {
                        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
                        self.objects.remove(kind, text("namespace"), text("name"))
                    }
                }
            }
            Err(error) => {
                let missing =
                    matches!(&error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
                let message = if missing {
                    format!("the cluster does not know this kind, which counts as none; it is asked again: {error}")
                } else {
                    error.to_string()
                };
                self.note(kind, |known| known.trouble = Some((Instant::now(), message.clone())));
                (self.told)(News::Trouble { kind, message });
                missing && self.listed(kind)
            }
        }
    }

    fn listed(&mut self, kind: Kind) -> bool {
        self.objects.list_ends(kind);
        self.unlisted.remove(&kind);
        self.note(kind, |known| known.listed = true);
        true
    }

    fn note(&self, kind: Kind, note: impl FnOnce(&mut Freshness)) {
        note(self.status.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default());
    }

    async fn put_in_force(&mut self) {
        let View { mut resources, mesh, notes } = self.objects.view();
        let viewpoint = self.settings.viewpoint.clone();
        let warnings = std::mem::take(&mut resources.problems);
        // A large policy takes longer than a task may.
        let compiling = tokio::task::spawn_blocking(move || Policy::compile(&resources, &mesh, &viewpoint));
        let Ok(compiled) = compiling.await else { return };
        match &self.engine {
            Some(engine) => engine.reload(compiled.policy),
            None => self.engine = Some(Engine::new(compiled.policy)),
        }
        let (objects, faults) = (self.objects.len(), self.objects.faults());
        (self.told)(News::InForce(InForce { objects, report: compiled.report, notes, faults, warnings }));
        if let (Some(ready), Some(engine)) = (self.ready.take(), &self.engine) {
            let _ = ready.send(engine.clone());
        }
    }
}
