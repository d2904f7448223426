//! A blocking proxy: one thread a connection, one thread an attempt, and all that is decided is decided by the exchange.
//!
//! The connection's thread owns the [`Exchange`]. It does what each [`Step`] says, and waits on one channel for whatever
//! comes first: something from the attempt's thread, a free connection, or the time that the exchange named.

use super::http1;
use pointsman::Engine;
use pointsman::entropy::Draws;
use pointsman::exchange::{Attempt, Exchange, Failure, Mirror, Step};
use pointsman::head::{RequestHead, ResponseHead};
use pointsman::outlier::Outcome;
use pointsman::time::Timestamp;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// The real clock, as the engine counts: from when the proxy began.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Timestamp {
        Timestamp::ZERO + self.0.elapsed()
    }
}

/// splitmix64, seeded for each connection.
struct Seeded(u64);

impl Draws for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What a connection's thread is told. The number is the attempt's: what an attempt says that was let go of is not heard.
enum Told {
    Connected(u32, TcpStream),
    Answered(u32, ResponseHead, Option<usize>, http1::Reader),
    Failed(u32, Failure),
    Turn,
}

/// Waits in the exchange's queue by being sent a message.
struct Turn(Sender<Told>);

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        // Nobody listens any more: then nobody waits.
        let _ = self.0.send(Told::Turn);
    }
}

/// Routes what comes as if it had been for `port` of the mesh, until the process ends.
pub(crate) fn start(engine: Engine, listener: TcpListener, port: u16) {
    let clock = Clock(Instant::now());
    thread::spawn(move || {
        for (number, stream) in (0..).zip(listener.incoming()) {
            let Ok(stream) = stream else { continue };
            let engine = engine.clone();
            // A connection that breaks off is its client's affair.
            thread::spawn(move || serve(stream, &engine, port, clock, Seeded(number)));
        }
    });
}

fn serve(stream: TcpStream, engine: &Engine, port: u16, clock: Clock, mut draws: Seeded) -> io::Result<()> {
    let (head, body) = match http1::read_request(&mut BufReader::new(stream.try_clone()?), port) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return http1::refuse(&stream, &error),
        read => read?,
    };
    let mut exchange = engine.begin(head, clock.now(), &mut draws);
    exchange.request_complete(clock.now());
    let (sender, inbox) = channel();
    let mut loop_ = Loop { client: stream, clock, draws, body: body.into(), sender, inbox, number: 0, upstream: None };
    loop_.run(&mut exchange)
}

struct Loop {
    client: TcpStream,
    clock: Clock,
    draws: Seeded,
    body: Arc<[u8]>,
    sender: Sender<Told>,
    inbox: Receiver<Told>,
    /// The attempt under way.
    number: u32,
    /// Its connection, to be able to let go of it.
    upstream: Option<TcpStream>,
}

impl Loop {
    fn run(&mut self, exchange: &mut Exchange) -> io::Result<()> {
        let mut answered = None;
        loop {
            match exchange.next(self.clock.now(), &mut self.draws) {
                Step::Wait(until) => {
                    if let Some(response) = self.wait(exchange, until) {
                        answered = Some(response);
                    }
                }
                Step::Attempt(attempt) => self.send(attempt),
                Step::Mirror(mirror) => {
                    let (body, clock) = (Arc::clone(&self.body), self.clock);
                    thread::spawn(move || copy(mirror, &body, clock));
                }
                Step::Cancel => {
                    answered = None;
                    self.number = 0;
                    if let Some(upstream) = self.upstream.take() {
                        let _ = upstream.shutdown(Shutdown::Both);
                    }
                }
                Step::Respond(reply) => {
                    http1::write_response(&self.client, &reply.head)?;
                    return self.client.write_all(&reply.body);
                }
                Step::Return(head) => {
                    let Some((length, reader)) = answered.take() else {
                        return Err(io::ErrorKind::NotConnected.into());
                    };
                    http1::write_response(&self.client, &head)?;
                    return self.pass_on(exchange, length, reader);
                }
                // Whoever drops the connection breaks off the response.
                Step::Reset | Step::Done => return self.client.shutdown(Shutdown::Both),
                step => unreachable!("a step that this example does not know: {step:?}"),
            }
        }
    }

    /// Waits for the first thing that happens, and tells the exchange. A response's body comes back.
    fn wait(&mut self, exchange: &mut Exchange, until: Timestamp) -> Option<(Option<usize>, http1::Reader)> {
        let turn = Waker::from(Arc::new(Turn(self.sender.clone())));
        if exchange.poll_turn(&turn) {
            return None;
        }
        let told = if until == Timestamp::MAX {
            self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.inbox.recv_timeout(until - self.clock.now())
        };
        let now = self.clock.now();
        match told.ok()? {
            Told::Connected(number, stream) if number == self.number => {
                self.upstream = Some(stream);
                exchange.on_connected(now);
            }
            Told::Answered(number, head, length, reader) if number == self.number => {
                exchange.on_response(head, now, &mut self.draws);
                return Some((length, reader));
            }
            Told::Failed(number, failure) if number == self.number => {
                self.upstream = None;
                exchange.on_failure(failure, now, &mut self.draws);
            }
            // A turn, or the words of an attempt that was let go of.
            _ => {}
        }
        None
    }

    fn send(&mut self, attempt: Attempt) {
        self.number = attempt.number;
        let (body, sender) = (Arc::clone(&self.body), self.sender.clone());
        thread::spawn(move || {
            let number = attempt.number;
            let told = match connect(attempt.endpoint.address(), attempt.endpoint.port(), attempt.connect_timeout) {
                Err(failure) => Told::Failed(number, failure),
                Ok(stream) => {
                    if let Ok(stream) = stream.try_clone() {
                        let _ = sender.send(Told::Connected(number, stream));
                    }
                    match exchange_heads(stream, &attempt.head, &body) {
                        Ok((head, length, reader)) => Told::Answered(number, head, length, reader),
                        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                            Told::Failed(number, Failure::Protocol)
                        }
                        Err(_) => Told::Failed(number, Failure::Reset),
                    }
                }
            };
            let _ = sender.send(told);
        });
    }

    /// Copies the response's body to the client, for as long as the exchange allows.
    fn pass_on(&mut self, exchange: &mut Exchange, length: Option<usize>, mut reader: http1::Reader) -> io::Result<()> {
        let mut left = length;
        let mut buffer = [0; 16 * 1024];
        loop {
            let now = self.clock.now();
            let until = match exchange.next(now, &mut self.draws) {
                Step::Wait(until) => until,
                _ => return self.client.shutdown(Shutdown::Both),
            };
            let patience = (until != Timestamp::MAX).then(|| (until - now).max(Duration::from_millis(1)));
            reader.get_ref().set_read_timeout(patience)?;
            let most = left.unwrap_or(usize::MAX).min(buffer.len());
            let read = if most == 0 { Ok(0) } else { reader.read(&mut buffer[..most]) };
            match read {
                Ok(0) if left.unwrap_or(0) == 0 => {
                    exchange.on_end(self.clock.now());
                    return Ok(());
                }
                Ok(0) => exchange.on_failure(Failure::Reset, self.clock.now(), &mut self.draws),
                Ok(read) => {
                    left = left.map(|left| left - read);
                    self.client.write_all(&buffer[..read])?;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => exchange.on_failure(Failure::Reset, self.clock.now(), &mut self.draws),
            }
        }
    }
}

fn connect(address: &str, port: u16, timeout: Duration) -> Result<TcpStream, Failure> {
    let mut addresses = (address, port).to_socket_addrs().map_err(|_| Failure::ConnectRefused)?;
    let address = addresses.next().ok_or(Failure::ConnectRefused)?;
    TcpStream::connect_timeout(&address, timeout).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::ConnectRefused,
    })
}

fn exchange_heads(
    stream: TcpStream,
    head: &RequestHead,
    body: &[u8],
) -> io::Result<(ResponseHead, Option<usize>, http1::Reader)> {
    http1::write_request(&stream, head, body)?;
    let mut reader = BufReader::new(stream);
    let (head, length) = http1::read_response(&mut reader)?;
    Ok((head, length, reader))
}

/// Sends a copy and reads its answer's status, which nobody but the destination's state sees.
fn copy(mirror: Mirror, body: &[u8], clock: Clock) {
    let patience = mirror.timeout.unwrap_or(Duration::from_secs(15));
    let answer = connect(mirror.endpoint.address(), mirror.endpoint.port(), patience).and_then(|stream| {
        stream.set_read_timeout(Some(patience)).map_err(|_| Failure::Reset)?;
        exchange_heads(stream, &mirror.head, body).map_err(|_| Failure::Reset)
    });
    let outcome = answer.map_or(Outcome::Failure, |(head, ..)| Outcome::Status(head.status.as_u16()));
    mirror.finish(outcome, clock.now());
}
