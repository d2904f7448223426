//! Where the layers take time and chance from: both can be replaced, so that a test runs on paused time and a fixed seed.

use crate::engine::Engine;
use crate::entropy::Draws;
use crate::time::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Instant, Sleep};

/// tokio's time, counted from when the engine was first driven. Paused with tokio's time in tests.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// The engine's clock: the same for all layers of an engine. It starts when it is asked for first.
    pub fn of(engine: &Engine) -> Self {
        Clock { origin: Instant::from_std(engine.origin(|| Instant::now().into_std())) }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.origin.elapsed()
    }

    /// When tokio's clock will show `at`; none for a time that never comes.
    pub(crate) fn instant(&self, at: Timestamp) -> Option<Instant> {
        if at == Timestamp::MAX { None } else { self.origin.checked_add(at - Timestamp::ZERO) }
    }
}

/// A timer for this time; none for one that never comes.
pub(crate) fn sleep_until(clock: &Clock, until: Timestamp) -> Option<Pin<Box<Sleep>>> {
    clock.instant(until).map(|at| Box::pin(tokio::time::sleep_until(at)))
}

/// A generator of draws for each request, all from one seed: request `n` of a run always draws the same.
pub(crate) struct Seed {
    seed: u64,
    requests: AtomicU64,
}

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        Seed { seed, requests: AtomicU64::new(0) }
    }

    /// A seed that the operating system's hash keys provide: different in each process.
    pub(crate) fn random() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Seed::new(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    /// The next request's generator.
    pub(crate) fn next(&self) -> Generator {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        // The generator's own seeding spreads neighbouring seeds apart.
        Generator(SmallRng::seed_from_u64(self.seed.wrapping_add(request.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// One request's draws.
#[derive(Clone, Debug)]
pub(crate) struct Generator(SmallRng);

impl Draws for Generator {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
