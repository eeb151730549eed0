//! Where a page ends: at its limit, at its bytes, or after so many rows that the reader has held the store long enough.

use super::record::{Notice, Record};

/// Rows looked at for one page; a rare match deep in the store takes several pages, and no read lasts long.
pub const SCAN_MAX: usize = 20_000;

/// Events, newest first.
#[derive(Debug, Default)]
pub struct Page {
    pub records: Vec<Record>,
    /// The next page holds what lies below this position. `None` on the last page.
    pub next: Option<u64>,
}

impl Page {
    /// About how many bytes it takes, read and rendered.
    pub fn weight(&self) -> usize {
        self.records.iter().map(Record::weight).sum()
    }
}

/// Fills a page from rows offered in order.
pub struct Filler {
    page: Page,
    limit: usize,
    bytes_left: usize,
    scans_left: usize,
    last_seen: u64,
}

/// What to do with the row that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    Skip,
    /// The page is complete without this row.
    Done,
}

impl Filler {
    pub fn new(limit: usize, bytes: usize) -> Self {
        Self {
            page: Page::default(),
            limit,
            bytes_left: bytes,
            scans_left: SCAN_MAX,
            last_seen: 0,
        }
    }

    /// The time is over: the page ends before the next row.
    pub fn stop(&mut self) {
        self.scans_left = 0;
    }

    /// Looks at the next row. Only a further match ends a full page, so that the last page has no next.
    pub fn offer(&mut self, position: u64, matches: bool) -> Verdict {
        if self.scans_left == 0 {
            self.page.next = Some(self.last_seen);
            return Verdict::Done;
        }
        if matches && self.page.records.len() == self.limit {
            self.page.next = self.page.records.last().map(|record| record.position);
            return Verdict::Done;
        }
        self.scans_left -= 1;
        self.last_seen = position;
        if matches {
            Verdict::Take
        } else {
            Verdict::Skip
        }
    }

    /// Takes a row that was to be taken; `false` when it does not fit and the page is complete without it. The first always fits.
    pub fn take(&mut self, record: Record) -> bool {
        let weight = record.weight();
        if let Some(last) = self.page.records.last()
            && weight > self.bytes_left
        {
            self.page.next = Some(last.position);
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(weight);
        self.page.records.push(record);
        true
    }

    pub fn finish(self) -> Page {
        self.page
    }
}

/// Fills a page of the feed from notices offered in order.
pub struct FeedFiller {
    notices: Vec<Notice>,
    limit: usize,
    bytes_left: usize,
    full: bool,
}

impl FeedFiller {
    pub fn new(limit: usize, bytes: usize) -> Self {
        Self {
            notices: Vec::new(),
            limit,
            bytes_left: bytes,
            full: false,
        }
    }

    /// Takes the next notice; `false` when it does not fit and the page is complete without it. The first always fits.
    pub fn take(&mut self, notice: Notice) -> bool {
        let weight = notice.record.weight();
        self.full = !self.notices.is_empty()
            && (self.notices.len() >= self.limit || weight > self.bytes_left);
        if !self.full {
            self.bytes_left = self.bytes_left.saturating_sub(weight);
            self.notices.push(notice);
        }
        !self.full
    }

    /// The notices, the position the reader has reached, and whether matching notices were left out; if not, it is the head.
    pub fn finish(self, head: u64) -> (Vec<Notice>, u64, bool) {
        let reached = match self.notices.last() {
            Some(last) if self.full => last.position,
            _ => head,
        };
        (self.notices, reached, self.full)
    }
}

#[cfg(test)]
mod tests {
    use schema::feed::Action;
    use schema::{Kind, Severity};

    use super::*;

    fn record(position: u64, raw: usize) -> Record {
        Record {
            position,
            event_id: format!("evt_{position}"),
            source: "stripe".to_owned(),
            kind: Kind::Payment,
            severity: Severity::Info,
            service: String::new(),
            summary: String::new(),
            description: None,
            started_at: String::new(),
            resolved_at: None,
            routed: false,
            delivered_to: Vec::new(),
            raw: "0".repeat(raw),
            stored_at: jiff::Timestamp::UNIX_EPOCH,
            revision: 0,
            correlation_id: "c".to_owned(),
        }
    }

    /// Offers rows from the newest down, as a backend does.
    fn fill(
        rows: u64,
        limit: usize,
        bytes: usize,
        matches: impl Fn(u64) -> bool,
    ) -> (Vec<u64>, Option<u64>) {
        let mut filler = Filler::new(limit, bytes);
        for position in (1..=rows).rev() {
            match filler.offer(position, matches(position)) {
                Verdict::Skip => {}
                Verdict::Done => break,
                Verdict::Take if filler.take(record(position, 1000)) => {}
                Verdict::Take => break,
            }
        }
        let page = filler.finish();
        (
            page.records.iter().map(|record| record.position).collect(),
            page.next,
        )
    }

    #[test]
    fn a_page_ends_at_its_limit_and_the_last_has_no_next() {
        assert_eq!(fill(5, 2, usize::MAX, |_| true), (vec![5, 4], Some(4)));
        assert_eq!(fill(2, 2, usize::MAX, |_| true), (vec![2, 1], None));
        // What follows does not match: nothing is left.
        assert_eq!(fill(5, 2, usize::MAX, |at| at > 3), (vec![5, 4], None));
        assert_eq!(fill(0, 2, usize::MAX, |_| true), (vec![], None));
    }

    #[test]
    fn a_page_ends_at_its_bytes_but_holds_at_least_one() {
        assert_eq!(fill(5, 50, 4000, |_| true), (vec![5, 4], Some(4)));
        assert_eq!(fill(5, 50, 1, |_| true), (vec![5], Some(5)));
    }

    #[test]
    fn a_rare_match_takes_several_pages_but_is_found() {
        let rows = SCAN_MAX as u64 + 10;

        let (found, next) = fill(rows, 50, usize::MAX, |at| at == 3);

        assert_eq!(found, [0_u64; 0]);
        assert_eq!(next, Some(11));
        assert_eq!(fill(10, 50, usize::MAX, |at| at == 3), (vec![3], None));
    }

    fn notice(position: u64) -> Notice {
        Notice {
            position,
            revision: 0,
            action: Action::Store,
            stored_at: jiff::Timestamp::UNIX_EPOCH,
            correlation_id: "c".to_owned(),
            record: record(position, 1000),
        }
    }

    #[test]
    fn a_reader_of_the_feed_goes_on_after_the_last_notice_or_at_the_head() {
        for (notices, limit, bytes, taken, reached) in [
            (0, 3, usize::MAX, 0, 9),
            (2, 3, usize::MAX, 2, 9),
            (3, 3, usize::MAX, 3, 9),
            (4, 3, usize::MAX, 3, 3),
            (4, 9, 4000, 2, 2),
            (4, 9, 1, 1, 1),
        ] {
            let mut filler = FeedFiller::new(limit, bytes);
            let all_fit = (1..=notices).all(|position| filler.take(notice(position)));
            let (page, next, more) = filler.finish(9);
            let case = format!("{notices} notices, limit {limit}, {bytes} bytes");
            assert_eq!((page.len(), next), (taken, reached), "{case}");
            assert_eq!(all_fit, reached == 9, "{case}");
            assert_eq!(more, !all_fit, "{case}");
        }
    }
}
