//! A gibibyte passes both ways through the client layer, and memory stays flat: every allocation is counted.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::tower::{BoxError, ReplayBody};
use pointsman::{Engine, Resources};
use std::alloc::{GlobalAlloc, Layout, System};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tower::ServiceExt;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CHUNK: usize = 64 << 10;
const GIBIBYTE: usize = 1 << 30;

/// So many bytes, made as they are asked for.
struct Flood {
    left: usize,
}

impl Body for Flood {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= CHUNK;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; CHUNK])))))
    }
}

async fn count<B: Body<Data = Bytes>>(body: B) -> usize {
    let mut body = pin!(body);
    let mut read = 0;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        read += frame.ok().and_then(|frame| frame.into_data().ok()).map_or(0, |data| data.len());
    }
    read
}

#[test]
fn a_gibibyte_passes_both_ways_in_flat_memory() {
    let resources = Resources::from_yaml(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: default}\nspec: {hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: 3, retryOn: 5xx}}]}\n",
    )
    .unwrap();
    let service = Service::new("a.default.svc.cluster.local", "default")
        .with_port(80, "http", Protocol::Http)
        .with_endpoint(Endpoint::new("10.0.0.1", 80));
    let engine =
        Engine::new(Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default")).policy);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let client = engine.client(tower::service_fn(|request: Request<ReplayBody<Flood>>| async {
        let read = count(request.into_body()).await;
        let mut response = Response::new(Flood { left: GIBIBYTE });
        response.headers_mut().insert("x-read", read.into());
        Ok::<_, BoxError>(response)
    }));
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let (sent, received) = runtime.block_on(async {
        let request = Request::post("http://a/").body(Flood { left: GIBIBYTE }).unwrap();
        let response = client.oneshot(request).await.unwrap();
        let sent = response.headers()["x-read"].to_str().unwrap().parse::<usize>().unwrap();
        (sent, count(response.into_body()).await)
    });
    assert_eq!((sent, received), (GIBIBYTE, GIBIBYTE));
    // What is kept for a retry, until it is too much (1 MiB), and a chunk or two.
    let grown = PEAK.load(Ordering::Relaxed) - before;
    assert!(grown < (1 << 20) + 4 * CHUNK, "{grown} bytes at most were live");
}
