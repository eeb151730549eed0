//! The pages that were received, newest kept, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use schema::{CorrelationId, Event};
use serde::Serialize;

/// The most pages kept.
pub const PAGES_MAX: usize = 10_000;
/// The most bytes of vendors' JSON kept, over all pages.
const RAW_BYTES_MAX: usize = 64 << 20;

/// One accepted page: the event's own fields, then how it came.
#[derive(Debug, Serialize)]
pub struct Page {
    #[serde(flatten)]
    pub event: Event,
    pub received_at: Timestamp,
    pub correlation_id: CorrelationId,
    /// The sender's `webhook-id`, where it sent one.
    pub webhook_id: Option<String>,
}

/// A ring of pages.
#[derive(Debug, Default)]
pub struct Inbox {
    pages: VecDeque<Arc<Page>>,
    raw_bytes: usize,
}

impl Inbox {
    /// Remembers a page, and forgets the oldest ones beyond the bounds.
    pub fn push(&mut self, page: Page) {
        self.raw_bytes += raw_bytes(&page);
        self.pages.push_back(Arc::new(page));
        while self.pages.len() > PAGES_MAX
            || (self.raw_bytes > RAW_BYTES_MAX && self.pages.len() > 1)
        {
            let Some(oldest) = self.pages.pop_front() else {
                break;
            };
            self.raw_bytes -= raw_bytes(&oldest);
        }
    }

    /// At most `limit` pages, newest first.
    pub fn newest(&self, limit: usize) -> Vec<Arc<Page>> {
        self.pages.iter().rev().take(limit).cloned().collect()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn raw_bytes(page: &Page) -> usize {
    page.event.raw.get().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(event_id: usize, raw_bytes: usize) -> Page {
        let raw = "x".repeat(raw_bytes);
        let event = format!(
            r#"{{"event_id":"evt_{event_id}","source":"stripe","kind":"payment","severity":"critical","service":"stripe","summary":"s","description":null,"started_at":"2024-01-15T10:40:00Z","resolved_at":null,"raw":"{raw}"}}"#
        );
        Page {
            event: serde_json::from_str(&event).unwrap(),
            received_at: Timestamp::UNIX_EPOCH,
            correlation_id: CorrelationId::parse("c-1").unwrap(),
            webhook_id: None,
        }
    }

    #[test]
    fn the_oldest_pages_leave_beyond_the_number_kept() {
        let mut inbox = Inbox::default();

        for n in 0..PAGES_MAX + 3 {
            inbox.push(page(n, 0));
        }

        let newest = inbox.newest(usize::MAX);
        assert_eq!(newest.len(), PAGES_MAX);
        assert_eq!(newest[0].event.event_id.as_str(), "evt_10002");
        assert_eq!(newest[PAGES_MAX - 1].event.event_id.as_str(), "evt_3");
    }

    #[test]
    fn large_pages_leave_earlier() {
        let mut inbox = Inbox::default();

        for n in 0..5 {
            inbox.push(page(n, 20 << 20));
        }

        assert_eq!(inbox.newest(10).len(), 3);
    }
}
