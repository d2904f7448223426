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

/// A generator of draws for each request: all from one seed, so that request `n` of a run always draws the same; or the
/// user's own.
pub(crate) enum Chance {
    Seeded { seed: u64, requests: AtomicU64 },
    Own(Box<dyn Fn() -> Box<dyn Draws + Send + Sync> + Send + Sync>),
}

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Chance::Seeded { seed, requests: AtomicU64::new(0) }
    }

    /// A seed that the operating system's hash keys provide: different in each process.
    pub(crate) fn random() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Chance::seeded(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    pub(crate) fn own<D: Draws + Send + Sync + 'static>(make: impl Fn() -> D + Send + Sync + 'static) -> Self {
        Chance::Own(Box::new(move || Box::new(make())))
    }

    /// The next request's generator.
    pub(crate) fn next(&self) -> Generator {
        match self {
            Chance::Seeded { seed, requests } => {
                let request = requests.fetch_add(1, Ordering::Relaxed);
                // The generator's own seeding spreads neighbouring seeds apart.
                let seed = seed.wrapping_add(request.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                Generator::Seeded(SmallRng::seed_from_u64(seed))
            }
            Chance::Own(make) => Generator::Own(make()),
        }
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chance::Seeded { seed, .. } => f.debug_struct("Seeded").field("seed", seed).finish_non_exhaustive(),
            Chance::Own(_) => f.write_str("Own"),
        }
    }
}

/// One request's draws.
pub(crate) enum Generator {
    Seeded(SmallRng),
    Own(Box<dyn Draws + Send + Sync>),
}

impl Draws for Generator {
    fn next_u64(&mut self) -> u64 {
        match self {
            Generator::Seeded(generator) => generator.next_u64(),
            Generator::Own(draws) => draws.next_u64(),
        }
    }
}
