//! The system's clock and randomness, and settable ones for tests and simulations.

use gristmill_kernel::port::{Clock, Ids};
use gristmill_kernel::time::Span;
use gristmill_kernel::{RunId, Timestamp};
use rand::rngs::{OsRng, StdRng};
use rand::{RngCore, SeedableRng, TryRngCore};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The system's time in UTC. It never goes back within one process, whatever happens to the system's clock.
#[derive(Debug)]
pub struct SystemClock {
    latest: AtomicI64,
}

impl SystemClock {
    /// A clock.
    pub fn new() -> SystemClock {
        SystemClock { latest: AtomicI64::new(i64::MIN) }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port")]
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
        };
        let latest = self.latest.fetch_max(micros, Ordering::AcqRel);
        Timestamp::from_micros(latest.max(micros))
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> ManualClock {
        ManualClock { now: AtomicI64::new(now.micros()) }
    }
    /// Sets the time.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.micros(), Ordering::Release);
    }
    /// Lets time pass and returns the new time.
    pub fn advance(&self, by: Span) -> Timestamp {
        let before = self.now.fetch_add(by.micros(), Ordering::AcqRel);
        Timestamp::from_micros(before.saturating_add(by.micros()))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::Acquire))
    }
}

/// Ids and bytes from the operating system's random source.
#[derive(Debug, Default, Clone, Copy)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn run(&self) -> RunId {
        id_from(&mut OsRng.unwrap_err())
    }
    #[expect(clippy::disallowed_methods, reason = "this is what others are to use instead")]
    fn random(&self, out: &mut [u8]) {
        // Fit for tokens, and without a call of the system each time; it takes its seed, and a new one now and then, from the system
        // (https://docs.rs/rand/latest/rand/rngs/struct.ThreadRng.html). Without randomness there it stops, which is the only right answer.
        rand::rng().fill_bytes(out);
    }
}

/// Ids and bytes that a seed decides: for tests and simulations, never for tokens of a real system.
#[derive(Debug)]
pub struct SeededIds {
    rng: Mutex<StdRng>,
}

impl SeededIds {
    /// The same seed gives the same ids in the same order.
    pub fn new(seed: u64) -> SeededIds {
        SeededIds { rng: Mutex::new(StdRng::seed_from_u64(seed)) }
    }
}

impl Ids for SeededIds {
    fn run(&self) -> RunId {
        id_from(&mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn random(&self, out: &mut [u8]) {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(out);
    }
}

fn id_from(rng: &mut impl RngCore) -> RunId {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    RunId(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let clock = SystemClock::new();
        let later = Timestamp::from_micros(clock.now().micros() + 3_600_000_000);
        clock.latest.store(later.micros(), Ordering::Release);
        assert_eq!(clock.now(), later);
    }

    #[test]
    fn ids_are_32_hex_digits_and_seeds_repeat() {
        let id = RandomIds.run();
        assert!(id.0.len() == 32 && id.0.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{id}");
        assert_ne!(RandomIds.run(), id);
        assert_eq!(SeededIds::new(7).run(), SeededIds::new(7).run());
        assert_ne!(SeededIds::new(7).run(), SeededIds::new(8).run());
    }

    #[test]
    fn a_manual_clock_obeys() {
        let clock = ManualClock::new(Timestamp::from_micros(5));
        assert_eq!(clock.advance(Span::from_micros(7)), Timestamp::from_micros(12));
        assert_eq!(clock.now(), Timestamp::from_micros(12));
    }
}
