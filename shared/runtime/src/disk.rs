//! How much disk is left (R6).

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Free disk below which a store takes nothing new, so that outcomes and deletes still fit.
pub const RESERVE_BYTES: u64 = 64 << 20;

/// How long one look counts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Free bytes below which nothing new is taken.
#[derive(Debug)]
pub struct DiskReserve {
    directory: PathBuf,
    bytes: u64,
    last_look: Mutex<Option<(Instant, bool)>>,
}

impl DiskReserve {
    pub fn new(directory: PathBuf, bytes: u64) -> Self {
        Self {
            directory,
            bytes,
            last_look: Mutex::default(),
        }
    }

    /// Whether less is free. A file system that does not tell counts as having room: the write itself will say.
    pub fn reached(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_reached_when_less_is_free_and_not_when_nobody_can_tell() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().to_owned();
        for (directory, bytes, reached) in [
            (here.clone(), 0, false),
            (here.clone(), u64::MAX, true),
            (here.join("gone"), u64::MAX, false),
        ] {
            let reserve = DiskReserve::new(directory, bytes);
            assert_eq!(reserve.reached(), reached, "{reserve:?}");
        }
    }
}
