//! Chance, handed in: a simulation replays it from a seed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A source of jitter, shared by the worker's tasks. Nothing secret is made of it.
pub struct Chance(Mutex<StdRng>);

impl Chance {
    /// Another sequence in each process.
    pub fn of_the_system() -> Self {
        Self::seeded(rand::rng().random())
    }

    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// In 0..1.
    pub(crate) fn part(&self) -> f64 {
        self.draw().random()
    }

    /// For one decision; not to be held beyond it.
    pub(crate) fn draw(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
