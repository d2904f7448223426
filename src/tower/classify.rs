//! What an inner service's error means to the policy: could the upstream not be reached, or did it break off?
//!
//! Retries and outlier detection need to know. Errors are opaque boxes to tower, so we look at what every client has
//! underneath: an `io::Error` somewhere down the chain of sources, and hyper's own account where it is there. Who knows
//! better says so with [`Client::classify_with`](super::Client::classify_with).

use crate::exchange::Failure;
use std::error::Error as StdError;
use std::io::ErrorKind;

/// The errors of an error, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// What an error of the inner service means.
///
/// | found in the chain | means |
/// |---|---|
/// | `io::ErrorKind::ConnectionRefused`, `NotFound`, `AddrNotAvailable`, host or network unreachable | connection refused |
/// | `io::ErrorKind::TimedOut` | connection timed out |
/// | with feature `client`: hyper could not read what came | protocol error |
/// | … HTTP/2: the stream was refused, or reset by the upstream | refused stream, stream reset |
/// | … hyper-util could not connect, whatever the reason (TLS, a name that does not resolve) | connection refused |
/// | anything else | reset |
pub fn classify(error: &(dyn StdError + 'static)) -> Failure {
    io_failure(error).or_else(|| http_failure(error)).unwrap_or(Failure::Reset)
}

/// What hyper and h2 know of it.
#[cfg(feature = "client")]
fn http_failure(error: &(dyn StdError + 'static)) -> Option<Failure> {
    chain(error).find_map(|error| {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => Some(Failure::RefusedStream),
                Some(_) if error.is_remote() && error.is_reset() => Some(Failure::StreamReset),
                _ => None,
            };
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_parse().then_some(Failure::Protocol);
        }
        let error = error.downcast_ref::<hyper_util::client::legacy::Error>()?;
        error.is_connect().then_some(Failure::ConnectRefused)
    })
}

#[cfg(not(feature = "client"))]
fn http_failure(_: &(dyn StdError + 'static)) -> Option<Failure> {
    None
}

fn io_failure(error: &(dyn StdError + 'static)) -> Option<Failure> {
    chain(error).find_map(|error| {
        let io = error.downcast_ref::<std::io::Error>()?;
        match io.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::NotFound
            | ErrorKind::AddrNotAvailable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => Some(Failure::ConnectRefused),
            ErrorKind::TimedOut => Some(Failure::ConnectTimeout),
            _ => None,
        }
    })
}
