//! What every Signalpost service does the same way: configuration, logs, correlation, the accept loop, problems,
//! bounds on JSON, the internal key, health, metrics, outbound HTTP, group commit, time and the end.

mod allocator;
pub mod base;
pub mod clock;
mod complaint;
pub mod config;
pub mod disk;
pub mod extract;
pub mod failure;
pub mod group_commit;
pub mod health;
pub mod http_client;
pub mod ids;
pub mod internal_key;
pub mod lock_file;
mod log_lines;
pub mod metrics;
pub mod printable;
pub mod problem;
pub mod proxies;
pub mod retry_after;
pub mod server;
pub mod shape;
pub mod shares;
pub mod shutdown;
pub mod telemetry;
pub mod upstream;
