//! What the allocator of every program here does with memory.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

// Linked in for its allocator.
use runtime as _;

const PIECE: usize = 1024;
const PIECES: usize = 64 * 1024;
/// The allocator takes a second; a busy machine more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that this process holds of the machine's memory.
fn resident() -> Option<usize> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn what_one_thread_made_and_another_frees_goes_back_to_the_system() {
    let before = resident().unwrap();
    let make = || -> Vec<Box<[u8; PIECE]>> { (0..PIECES).map(|_| Box::new([1; PIECE])).collect() };
    let mut pieces = thread::spawn(make).join().unwrap();
    assert!(resident().unwrap() - before > PIECE * PIECES / 2);

    // The newest stays, as something always does.
    let newest = pieces.pop();
    drop(pieces);

    let is_back = || resident().unwrap().saturating_sub(before) < PIECE * PIECES / 8;
    let deadline = Instant::now() + PATIENCE;
    while !is_back() && Instant::now() < deadline {
        // It looks at what is free as threads come and go, which those that read from the store do.
        thread::spawn(|| drop(vec![1_u8; 64 * 1024]))
            .join()
            .unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    assert!(is_back(), "{:?} after {before} bytes", resident());
    drop(newest);
}

#[test]
fn no_huge_pages_are_asked_for() {
    drop(vec![1_u8; 8 << 20]);

    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let flags = maps
        .lines()
        .filter_map(|line| line.strip_prefix("VmFlags:"));
    assert!(flags.clone().count() > 0);
    for flags in flags {
        assert!(!flags.split(' ').any(|flag| flag == "hg"), "{maps}");
    }
}
