//! How much disk is left.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one look counts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Free bytes below which nothing new is taken.
pub(super) struct DiskReserve {
    directory: PathBuf,
    bytes: u64,
    last_look: Mutex<Option<(Instant, bool)>>,
}

impl DiskReserve {
    pub(super) fn new(directory: PathBuf, bytes: u64) -> Self {
        Self {
            directory,
            bytes,
            last_look: Mutex::default(),
        }
    }

    /// Whether less is free. A file system that does not tell counts as having room: the write itself will say.
    pub(super) fn reached(&self) -> bool {
        let mut last_look = self
            .last_look
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((at, reached)) = *last_look
            && at.elapsed() < LOOK_EVERY
        {
            return reached;
        }
        let reached = rustix::fs::statvfs(&self.directory)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < self.bytes);
        *last_look = Some((Instant::now(), reached));
        reached
    }
}
