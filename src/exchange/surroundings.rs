//! What an exchange stands in: settings, a policy with the state of its destinations, and who is told what happens.

use super::summary::Summary;
use crate::limit::Exceeded;
use crate::outlier;
use crate::policy::Policy;
use crate::upstream::{Roster, Upstream};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
    pub(crate) upstreams: Arc<Roster>,
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
        /// Which limit, and how far it goes.
        exceeded: Exceeded,
    },
    /// An attempt is over: it got a response's head, it failed, or its time ran out. The last of
    /// [`Summary::tries`] says which.
    Attempted {
        /// What is known so far.
        summary: &'a Summary,
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
    /// Another policy was not right; the one in force stays.
    ReloadRefused {
        /// Why.
        error: &'a (dyn StdError + 'static),
    },
    /// A request is over.
    Finished {
        /// What became of it.
        summary: &'a Summary,
    },
}

/// What every exchange of an engine shares.
#[derive(Default)]
pub(crate) struct Surroundings {
    pub(crate) settings: Settings,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
}

impl Surroundings {
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

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}
