//! The lock of a store: one process at a time, which says who it is.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::printable;

/// What another release may have left in it is not told whole.
const TOLD_MAX: u64 = 128;

/// Held until it is dropped, or its process has ended, however that was.
#[derive(Debug)]
pub struct LockFile {
    _held: File,
}

impl LockFile {
    /// Takes the lock and writes process and service into the file, if it can: a disk that is full keeps nobody from
    /// starting for want of a name.
    ///
    /// # Errors
    /// When another process holds it, which is named as far as it is known.
    pub fn take(path: &Path, service: &str) -> anyhow::Result<Self> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        Self::hold(file, path, service)
    }

    fn hold(mut file: File, path: &Path, service: &str) -> anyhow::Result<Self> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{} is held by another process{}",
                    path.display(),
                    holder(&mut file)
                )
            }
            Err(TryLockError::Error(fault)) => {
                return Err(fault).with_context(|| format!("locking {}", path.display()));
            }
        }
        if let Err(fault) = sign(&mut file, service) {
            tracing::warn!(path = %path.display(), %fault, "a lock does not say who holds it");
        }
        Ok(Self { _held: file })
    }
}

fn sign(file: &mut File, service: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{service}, pid {}", std::process::id())
}

/// ` (delivery, pid 4711)`, or nothing: the file is empty for a moment after it was taken, and with an earlier release.
fn holder(file: &mut File) -> String {
    let mut told = String::new();
    let read = file.take(TOLD_MAX).read_to_string(&mut told);
    match printable::plain(told.trim()) {
        told if read.is_ok() && !told.is_empty() => format!(" ({told})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is_until_it_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db.lock");
        std::fs::write(&path, "what another left in it, which is longer").unwrap();

        let first = LockFile::take(&path, "delivery").unwrap();
        let refused = LockFile::take(&path, "delivery").unwrap_err().to_string();
        drop(first);

        let told = format!("another process (delivery, pid {})", std::process::id());
        assert!(refused.ends_with(&told), "{refused}");
        LockFile::take(&path, "delivery").unwrap();
    }

    #[test]
    fn a_lock_that_cannot_be_signed_is_held_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db.lock");
        std::fs::write(&path, "").unwrap();
        let mut unwritable = File::open(&path).unwrap();
        assert!(sign(&mut unwritable, "delivery").is_err());

        let first = LockFile::hold(unwritable, &path, "delivery").unwrap();

        LockFile::take(&path, "delivery").unwrap_err();
        drop(first);
        LockFile::take(&path, "delivery").unwrap();
    }

    #[test]
    fn a_holder_that_says_nothing_is_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db.lock");
        let silent = File::create(&path).unwrap();
        silent.try_lock().unwrap();

        let refused = LockFile::take(&path, "delivery").unwrap_err().to_string();

        assert!(refused.ends_with("held by another process"), "{refused}");
    }
}
