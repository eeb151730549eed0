//! Sends what was accepted, and keeps every attempt on record.
