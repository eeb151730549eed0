//! Polls Statuspage pages and turns them into events.
