//! The signalpost command: up, send, events.
