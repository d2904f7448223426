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
/// | anything else | reset |
pub fn classify(error: &(dyn StdError + 'static)) -> Failure {
    for error in chain(error) {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::NotFound
                | ErrorKind::AddrNotAvailable
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable => Failure::ConnectRefused,
                ErrorKind::TimedOut => Failure::ConnectTimeout,
                _ => Failure::Reset,
            };
        }
    }
    Failure::Reset
}
