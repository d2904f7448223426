//! Bytes both ways: upgraded requests (WebSocket), and connections that are not HTTP at all.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pointsman::Engine;
use pointsman::policy::Connection;
use pointsman::tower::Clock;
use rustls::server::Acceptor;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// How long a client may take to say its TLS hello before it is taken for one that waits for the server to speak first.
const HELLO: Duration = Duration::from_millis(100);
/// A hello that is longer than this is none.
const LONGEST_HELLO: usize = 64 << 10;

/// Joins both ends of an upgraded request until one of them is done.
pub async fn join(downstream: OnUpgrade, upstream: OnUpgrade) {
    if let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) {
        let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
        let _ = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
    }
}

/// Takes connections for one of the policy's TLS or TCP ports.
///
/// `alive` is held by each of them, so that a stop can wait for it.
pub async fn accept(
    listener: TcpListener,
    port: u16,
    engine: Engine,
    mut stopped: watch::Receiver<bool>,
    alive: mpsc::Sender<Infallible>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (engine, alive) = (engine.clone(), alive.clone());
                tokio::spawn(async move {
                    pass(stream, remote, port, engine).await;
                    drop(alive);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn pass(mut stream: TcpStream, remote: SocketAddr, port: u16, engine: Engine) {
    let (said, sni) = hello(&mut stream).await;
    let address = stream.local_addr().ok().map(|address| address.ip());
    let connection = Connection { address, port, sni: sni.as_deref() };
    let mut draws = rand_draws(remote);
    let decided = engine.connect(&connection, Clock::of(&engine).now(), &mut draws);
    // Closed, passed through to nowhere, or without an endpoint: the connection ends.
    let Some(endpoint) = decided.endpoint else { return };
    let Ok(mut upstream) = TcpStream::connect((endpoint.address(), endpoint.port())).await else { return };
    if upstream.write_all(&said).await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    }
}

/// A draw from what differs between connections. A proxy that cares takes a generator.
fn rand_draws(remote: SocketAddr) -> impl FnMut() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let state = RandomState::new();
    let mut number = 0_u64;
    move || {
        number += 1;
        state.hash_one((remote, number))
    }
}

/// What the client said first, and the server name in it if it is a TLS hello.
async fn hello(stream: &mut TcpStream) -> (Vec<u8>, Option<String>) {
    let mut said = Vec::new();
    let mut acceptor = Acceptor::default();
    let reading = async {
        loop {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap_or(0);
            said.extend_from_slice(&piece[..read]);
            // 22 opens a TLS handshake; whatever else it is, it has no server name.
            if read == 0 || said[0] != 22 || said.len() > LONGEST_HELLO {
                return None;
            }
            let mut unread = &piece[..read];
            while !unread.is_empty() {
                acceptor.read_tls(&mut unread).ok()?;
                match acceptor.accept() {
                    Ok(Some(accepted)) => return accepted.client_hello().server_name().map(str::to_owned),
                    Ok(None) => {}
                    Err(_) => return None,
                }
            }
        }
    };
    let sni = tokio::time::timeout(HELLO, reading).await.unwrap_or(None);
    (said, sni)
}
