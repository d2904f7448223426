//! What the proxy is shown with: pods that answer on loopback, a mesh of them, and a client.

use super::{http1, proxy};
use http::StatusCode;
use pointsman::head::ResponseHead;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::{Engine, Resources};
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How a pod behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Well,
    /// Answers 500.
    Failing,
    /// Answers after two seconds whatever has `slow` in its path.
    Slow,
}

/// One pod that serves, until the process ends.
pub(crate) struct Pod {
    pub(crate) address: SocketAddr,
    served: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl Pod {
    pub(crate) fn start(name: &'static str, manner: Manner) -> io::Result<Pod> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (served, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (count, note) = (Arc::clone(&served), Arc::clone(&last));
        thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (count, note) = (Arc::clone(&count), Arc::clone(&note));
                thread::spawn(move || answer(stream, name, manner, &count, &note));
            }
        });
        Ok(Pod { address, served, last })
    }

    /// How many requests it saw.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// The last request: path, `x-from`, body.
    pub(crate) fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(stream: TcpStream, name: &str, manner: Manner, served: &AtomicUsize, last: &Mutex<String>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (head, body) = http1::read_request(&mut reader, 80)?;
    let from = head.headers.get("x-from").and_then(|from| from.to_str().ok()).unwrap_or("-");
    let note = format!("{} {from} {}", head.path, String::from_utf8_lossy(&body));
    *last.lock().unwrap_or_else(PoisonError::into_inner) = note;
    served.fetch_add(1, Ordering::SeqCst);
    if manner == Manner::Slow && head.path.contains("slow") {
        thread::sleep(Duration::from_secs(2));
    }
    let status = if manner == Manner::Failing { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    let mut response = ResponseHead::new(status);
    response.headers.insert("content-length", name.len().into());
    http1::write_response(&stream, &response)?;
    (&stream).write_all(name.as_bytes())
}

pub(crate) type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// A proxy on a free port of loopback.
pub(crate) fn proxy(reviews: &[SocketAddr], shadow: SocketAddr) -> Fallible<SocketAddr> {
    proxy_at((Ipv4Addr::LOCALHOST, 0).into(), reviews, shadow)
}

/// A proxy for `reviews` with these pods, and for `shadow` with that one: the address that it got.
pub(crate) fn proxy_at(address: SocketAddr, reviews: &[SocketAddr], shadow: SocketAddr) -> Fallible<SocketAddr> {
    let service = |name: &str, addresses: &[SocketAddr]| {
        let service = Service::new(format!("{name}.default.svc.cluster.local"), "default");
        addresses.iter().fold(service.with_port(80, "http", Protocol::Http), |service, address| {
            service.with_endpoint(Endpoint::new(address.ip().to_string(), address.port()))
        })
    };
    let mesh = Mesh::new([service("reviews", reviews), service("shadow", &[shadow])]);
    let resources = Resources::from_yaml(include_str!("../policies/own_loop.yaml"))?;
    let compiled = Policy::compile(&resources, &mesh, &Viewpoint::namespace("default"));
    assert!(compiled.report.is_empty(), "{}", compiled.report);
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    proxy::start(Engine::new(compiled.policy), listener, 80);
    Ok(address)
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// One request for `reviews`: the head and the body of its answer.
pub(crate) fn ask(proxy: SocketAddr, path: &str, body: &str) -> io::Result<(ResponseHead, String)> {
    let stream = TcpStream::connect(proxy)?;
    let request = format!("POST {path} HTTP/1.1\r\nhost: reviews\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    (&stream).write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (head, _) = http1::read_response(&mut reader)?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    Ok((head, text))
}
