//! The `signalpost` command, and the supervisor that it shares with the system tests.

pub mod backup;
pub mod deliveries;
pub mod endpoints;
pub mod events;
pub mod gateway;
pub mod healthcheck;
pub mod listen;
pub mod output;
pub mod pages;
pub mod send;
pub mod settings;
pub mod supervisor;
pub mod up;
