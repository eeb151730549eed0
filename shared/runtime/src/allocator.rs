//! The allocator of every program here.

use mimalloc::MiMalloc;

/// What one thread makes another frees: of a group commit, of a request passed on. The C library takes a lock for that, and
/// keeps what each thread once needed; this one gives back what was freed within a second or so. Without huge pages: a
/// service that holds 1 MiB took 8 MiB of them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
