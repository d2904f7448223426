//! As much of an API server as watches need: lists in pages, watches from a version on, bookmarks, and what goes wrong
//! with them.
//!
//! One version counts for the whole server, as with etcd. A watch gets every event after its version, or 410 (inside the
//! stream, as a real server says it) where those are forgotten.

use super::objects::Kind;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// A server, until it is dropped with its runtime.
#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    cluster: Arc<Mutex<Cluster>>,
}

#[derive(Default)]
struct Cluster {
    version: u64,
    /// Events up to this version are forgotten.
    forgotten: u64,
    objects: BTreeMap<(Kind, String, String), Value>,
    history: Vec<(u64, Kind, &'static str, Value)>,
    unknown: BTreeSet<Kind>,
    watches: Vec<(Kind, bool, UnboundedSender<Piece>)>,
    asked: Vec<Asked>,
}

type Piece = Result<Frame<Bytes>, io::Error>;
type Answer = Response<StreamBody<UnboundedReceiverStream<Piece>>>;

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub kind: Kind,
    /// From which version on it watches; none for a list.
    pub watch: Option<u64>,
}

impl Fake {
    pub async fn start() -> io::Result<Fake> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let fake = Fake { address: listener.local_addr()?, cluster: Arc::default() };
        let served = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = served.clone();
                let service = hyper::service::service_fn(move |request| {
                    let answer = fake.lock().answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let serving = hyper::server::conn::http1::Builder::new();
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(fake)
    }

    /// A client for it.
    pub fn client(&self) -> Result<kube::Client, Box<dyn std::error::Error + Send + Sync>> {
        let url = format!("http://{}", self.address).parse()?;
        Ok(kube::Client::try_from(kube::Config::new(url))?)
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the objects, or changes them.
    pub fn put(&self, objects: impl IntoIterator<Item = Value>) {
        let mut cluster = self.lock();
        objects.into_iter().for_each(|object| cluster.put(object));
    }

    /// Deletes the object.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        let mut cluster = self.lock();
        if let Some(mut object) = cluster.objects.remove(&(kind, namespace.to_owned(), name.to_owned())) {
            cluster.version += 1;
            object["metadata"]["resourceVersion"] = cluster.version.to_string().into();
            cluster.tell(kind, "DELETED", object);
        }
    }

    /// The cluster has no such kind (any more, or yet).
    pub fn set_known(&self, kind: Kind, known: bool) {
        let mut cluster = self.lock();
        if known {
            cluster.unknown.remove(&kind)
        } else {
            cluster.unknown.insert(kind)
        };
    }

    /// Says to every watch how far it is, without news.
    pub fn bookmark(&self) {
        let cluster = self.lock();
        for (kind, _, watch) in &cluster.watches {
            let metadata = json!({"resourceVersion": cluster.version.to_string(), "creationTimestamp": null});
            let object = json!({"kind": kind.name(), "apiVersion": kind.api_version(), "metadata": metadata});
            let _ = watch.send(line("BOOKMARK", &object));
        }
    }

    /// Breaks all watches off in the middle.
    pub fn drop_watches(&self) {
        for (_, _, watch) in self.lock().watches.drain(..) {
            let _ = watch.send(Err(io::ErrorKind::ConnectionReset.into()));
        }
    }

    /// Forgets what led to the objects as they are.
    pub fn forget(&self) {
        let mut cluster = self.lock();
        cluster.forgotten = cluster.version;
        cluster.history.clear();
    }

    /// What was asked since somebody looked last.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        let mut cluster = self.lock();
        cluster.watches.retain(|(_, _, watch)| !watch.is_closed());
        cluster.watches.len()
    }

    /// The server's version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }
}

fn line(event: &str, object: &Value) -> Piece {
    let mut line = json!({"type": event, "object": object}).to_string();
    line.push('\n');
    Ok(Frame::data(line.into()))
}

/// What is left of an object for those who want its metadata alone.
fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// An answer that is complete.
fn whole(status: StatusCode, value: &Value) -> Answer {
    let (sender, receiver) = unbounded_channel();
    let _ = sender.send(Ok(Frame::data(value.to_string().into())));
    answer(status, receiver)
}

fn answer(status: StatusCode, receiver: tokio::sync::mpsc::UnboundedReceiver<Piece>) -> Answer {
    let mut answer = Response::new(StreamBody::new(UnboundedReceiverStream::new(receiver)));
    *answer.status_mut() = status;
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    answer
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": status.as_u16()})
}

impl Cluster {
    fn put(&mut self, mut object: Value) {
        let Some(kind) = Kind::ALL.into_iter().find(|kind| object["kind"] == kind.name()) else { return };
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let key = (kind, text("namespace"), text("name"));
        self.version += 1;
        let known = self.objects.get(&key);
        let event = if known.is_some() { "MODIFIED" } else { "ADDED" };
        let before = known.and_then(|known| known["metadata"]["generation"].as_i64()).unwrap_or(0);
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = self.version.to_string().into();
        metadata["generation"] = (before + 1).into();
        metadata["uid"] = format!("{}-{}-{}", kind.name(), key.1, key.2).into();
        // What a real object is full of.
        metadata["managedFields"] = json!([{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}]);
        self.objects.insert(key, object.clone());
        self.tell(kind, event, object);
    }

    fn tell(&mut self, kind: Kind, event: &'static str, object: Value) {
        for (_, partial, watch) in self.watches.iter().filter(|(watched, ..)| *watched == kind) {
            let _ = watch.send(line(event, &if *partial { metadata_of(&object) } else { object.clone() }));
        }
        self.history.push((self.version, kind, event, object));
    }

    fn answer(&mut self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let kind = Kind::ALL.into_iter().find(|kind| {
            let (group, version, plural) = kind.api();
            match group {
                "" => path == format!("/api/{version}/{plural}"),
                group => path == format!("/apis/{group}/{version}/{plural}"),
            }
        });
        let Some(kind) = kind.filter(|kind| !self.unknown.contains(kind)) else {
            let message = "the server could not find the requested resource";
            return whole(StatusCode::NOT_FOUND, &failure(StatusCode::NOT_FOUND, "NotFound", message));
        };
        let query: BTreeMap<&str, &str> =
            request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok());
        let accept = request.headers().get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let partial = accept.contains("as=PartialObjectMetadata");
        if query.get("watch") == Some(&"true") {
            let from = number("resourceVersion").unwrap_or(0);
            self.asked.push(Asked { kind, watch: Some(from) });
            return self.watch(kind, from, partial);
        }
        self.asked.push(Asked { kind, watch: None });
        self.list(kind, number("limit").unwrap_or(u64::MAX), number("continue").unwrap_or(0), partial)
    }

    fn list(&self, kind: Kind, limit: u64, skip: u64, partial: bool) -> Answer {
        let all: Vec<&Value> = self.objects.iter().filter(|((own, ..), _)| *own == kind).map(|(_, one)| one).collect();
        let (skip, limit) = (skip as usize, usize::try_from(limit).unwrap_or(usize::MAX));
        let items: Vec<Value> = all
            .iter()
            .skip(skip)
            .take(limit)
            .map(|object| {
                if partial {
                    return metadata_of(object);
                }
                let mut item = (*object).clone();
                // The items of built-in kinds do not say what they are.
                if let (Kind::Service | Kind::EndpointSlice, Some(item)) = (kind, item.as_object_mut()) {
                    item.remove("kind");
                    item.remove("apiVersion");
                }
                item
            })
            .collect();
        let seen = skip.saturating_add(items.len());
        let next = if seen < all.len() { seen.to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": self.version.to_string(), "continue": next});
        let (list_kind, api_version) = match partial {
            true => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            false => (format!("{}List", kind.name()), kind.api_version()),
        };
        let list = json!({"kind": list_kind, "apiVersion": api_version, "metadata": metadata, "items": items});
        whole(StatusCode::OK, &list)
    }

    fn watch(&mut self, kind: Kind, from: u64, partial: bool) -> Answer {
        let (sender, receiver) = unbounded_channel();
        if from < self.forgotten {
            let message = format!("too old resource version: {from} ({})", self.forgotten);
            let _ = sender.send(line("ERROR", &failure(StatusCode::GONE, "Expired", &message)));
            return answer(StatusCode::OK, receiver);
        }
        for (_, _, event, object) in self.history.iter().filter(|(version, own, ..)| *version > from && *own == kind) {
            let _ = sender.send(line(event, &if partial { metadata_of(object) } else { object.clone() }));
        }
        self.watches.push((kind, partial, sender));
        answer(StatusCode::OK, receiver)
    }
}
