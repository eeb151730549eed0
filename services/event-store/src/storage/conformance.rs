//! What every backend must do: the cases once, a backend a line. A case that is not listed is dead code, and so an error.

use std::time::Duration;

use runtime::metrics::Metrics;
use schema::delivery::{self, DeliveryState};
use schema::feed::Action;
use schema::{CorrelationId, Event, Kind, Severity, Source};
use serde_json::value::RawValue;

use super::*;
use crate::domain::query::{Filter, Needle};
use crate::domain::record::Record;
use crate::error::FeedError;
use crate::metrics::StoreMetrics;

macro_rules! conformance {
    ($backend:ident) => {
        conformance! { $backend:
            inserting_twice_keeps_one,
            an_id_twice_in_one_batch_is_stored_once,
            a_duplicate_tells_the_decision_of_the_first,
            raw_is_kept_byte_for_byte,
            every_field_is_told_as_it_came,
            an_unknown_event_is_none,
            pages_are_newest_first_and_show_each_event_once,
            each_filter_keeps_what_it_names,
            since_is_inclusive_and_until_is_not,
            a_page_of_large_events_ends_early,
            the_feed_is_in_commit_order_and_can_be_resumed,
            the_routed_feed_goes_on_past_what_does_not_match,
            a_page_of_the_feed_with_large_events_ends_early,
            a_token_of_another_history_diverges,
            a_reader_left_behind_is_told,
            who_waits_for_the_feed_is_told_of_commits,
            an_open_event_is_closed_once_with_a_notice,
            the_feed_tells_an_event_as_it_stands_now,
            a_later_outcome_never_loses_to_an_earlier,
            who_has_it_once_has_it_for_ever,
            an_outcome_of_an_unknown_event_is_counted,
            what_is_old_enough_leaves_and_its_id_with_it,
            what_is_open_undelivered_or_newest_stays,
            retention_goes_slice_by_slice,
        }
    };
    ($backend:ident: $($case:ident,)+) => {
        mod $backend {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$case(super::Subject::$backend()).await;
            })+
        }
    };
}

conformance!(memory);
conformance!(sqlite);

/// A store under test, empty.
struct Subject {
    storage: Arc<dyn Storage>,
    _directory: Option<tempfile::TempDir>,
}

impl Subject {
    fn memory() -> Self {
        Self {
            storage: Arc::new(Memory::new(100_000, clock(), metrics())),
            _directory: None,
        }
    }

    fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.db");
        Self {
            storage: Arc::new(Sqlite::open(&path, clock(), metrics()).unwrap()),
            _directory: Some(directory),
        }
    }

    async fn insert(&self, drafts: Vec<Draft>) -> Vec<Inserted> {
        self.storage.insert(drafts.into()).await.unwrap()
    }

    async fn page(&self, query: EventsQuery) -> Page {
        self.storage.events(query).await.unwrap()
    }

    async fn ids(&self, query: EventsQuery) -> Vec<String> {
        ids(&self.page(query).await.records)
    }

    async fn history(&self, event_id: &str) -> Option<History> {
        self.storage.event(id(event_id)).await.unwrap()
    }

    async fn read(&self, query: FeedQuery) -> FeedSlice {
        self.storage.feed(query).await.unwrap()
    }

    async fn report(&self, outcomes: &[Outcome]) -> usize {
        self.storage
            .record_outcomes(outcomes.to_vec())
            .await
            .unwrap()
    }

    async fn resolve(&self, event_ids: &[&str]) -> usize {
        let resolution = |event_id: &&str| Resolution {
            event_id: id(event_id),
            resolved_at: "2024-01-15T12:00:00Z".parse().unwrap(),
            correlation_id: CorrelationId::parse("the-end").unwrap(),
        };
        let resolutions = event_ids.iter().map(resolution).collect();
        self.storage.resolve(resolutions).await.unwrap()
    }

    /// Forgets all that is there now and may leave; answers how many events left.
    async fn forget_all(&self) -> usize {
        tokio::time::advance(Duration::from_secs(60)).await;
        let (mut after, mut left) = (0, 0);
        loop {
            let forgotten = self.storage.forget(clock_at(3600), after).await.unwrap();
            left += forgotten.events;
            match forgotten.next {
                Some(next) => after = next,
                None => return left,
            }
        }
    }
}

const START: &str = "2024-01-15T10:00:00Z";

fn clock() -> Clock {
    Clock::starting_at(START.parse().unwrap())
}

/// Seconds after the clock's start.
fn clock_at(seconds: i64) -> Timestamp {
    let start: Timestamp = START.parse().unwrap();
    start + jiff::SignedDuration::from_secs(seconds)
}

pub(crate) fn metrics() -> CommitMetrics {
    StoreMetrics::new(&Metrics::new()).commits
}

fn id(text: &str) -> EventId {
    EventId::parse(text).unwrap()
}

/// An ordinary payment that pages nobody.
pub(crate) fn payment(event_id: &str) -> Draft {
    Draft {
        event: Event {
            event_id: id(event_id),
            source: Source::stripe(),
            kind: Kind::Payment,
            severity: Severity::Info,
            service: "stripe".to_owned(),
            summary: "charge.succeeded: ch_1".to_owned(),
            description: None,
            started_at: "2024-01-15T09:00:00Z".parse().unwrap(),
            resolved_at: None,
            raw: raw("{}"),
        },
        correlation_id: CorrelationId::parse("c-1").unwrap(),
        routed: false,
    }
}

pub(crate) fn paging(event_id: &str) -> Draft {
    let mut draft = payment(event_id);
    draft.event.severity = Severity::Critical;
    draft.routed = true;
    draft
}

fn incident(event_id: &str, vendor: &str) -> Draft {
    let mut draft = payment(event_id);
    draft.event.source = Source::status_page(vendor).unwrap();
    draft.event.kind = Kind::Incident;
    draft.event.severity = Severity::Warning;
    draft
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn large(event_id: &str, bytes: usize) -> Draft {
    let mut draft = payment(event_id);
    draft.event.raw = raw(&format!("\"{}\"", "x".repeat(bytes)));
    draft
}

fn numbered(numbers: std::ops::Range<u32>, draft: impl Fn(&str) -> Draft) -> Vec<Draft> {
    numbers
        .map(|number| draft(&format!("evt_{number}")))
        .collect()
}

pub(crate) fn outcome(
    event_id: &str,
    epoch: u64,
    position: u64,
    status: delivery::Status,
) -> Outcome {
    Outcome {
        epoch,
        position,
        event_id: id(event_id),
        revision: 0,
        correlation_id: CorrelationId::parse("c-1").unwrap(),
        state: DeliveryState {
            destination: "pagerduty".to_owned(),
            delivery_id: "dlv_1".to_owned(),
            status,
            attempts: 1,
            reason: Some("http_500".to_owned()),
            at: "2024-01-15T10:00:01Z".parse().unwrap(),
        },
    }
}

pub(crate) fn newest(limit: usize) -> EventsQuery {
    EventsQuery {
        filter: Filter::default(),
        since: None,
        until: None,
        before: None,
        limit,
    }
}

fn filtered(filter: Filter) -> EventsQuery {
    EventsQuery {
        filter,
        ..newest(500)
    }
}

pub(crate) fn after(token: Option<Token>) -> FeedQuery {
    FeedQuery {
        after: token,
        routed_only: false,
        limit: 500,
    }
}

pub(crate) fn ids(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| record.event_id.clone())
        .collect()
}

pub(crate) fn noticed(slice: &FeedSlice) -> Vec<String> {
    let of = |notice: &Notice| format!("{} {}", notice.action, notice.record.event_id);
    slice.notices.iter().map(of).collect()
}

async fn inserting_twice_keeps_one(subject: Subject) {
    let first = subject.insert(vec![payment("evt_1")]).await;
    let second = subject.insert(vec![payment("evt_1")]).await;

    assert_eq!(first, [Inserted::New { routed: false }]);
    assert_eq!(second, [Inserted::Known { routed: false }]);
    assert_eq!(subject.ids(newest(50)).await, ["evt_1"]);
    assert_eq!(noticed(&subject.read(after(None)).await), ["store evt_1"]);
}

async fn an_id_twice_in_one_batch_is_stored_once(subject: Subject) {
    let inserted = subject
        .insert(vec![payment("evt_1"), payment("evt_2"), payment("evt_1")])
        .await;

    assert_eq!(inserted[2], Inserted::Known { routed: false });
    assert_eq!(subject.ids(newest(50)).await, ["evt_2", "evt_1"]);
    assert_eq!(subject.read(after(None)).await.notices.len(), 2);
}

async fn a_duplicate_tells_the_decision_of_the_first(subject: Subject) {
    subject.insert(vec![paging("evt_1")]).await;

    let again = subject.insert(vec![payment("evt_1")]).await;

    assert_eq!(again, [Inserted::Known { routed: true }]);
    assert!(subject.history("evt_1").await.unwrap().record.routed);
}

async fn raw_is_kept_byte_for_byte(subject: Subject) {
    let bytes =
        r#"{"z": 1.0, "a":18446744073709551616, "a":-0, "e":1e-400,  "u":"\u0000\ud83d\ude00é"}"#;
    let mut draft = payment("evt_1");
    draft.event.raw = raw(bytes);

    subject.insert(vec![draft]).await;

    assert_eq!(subject.history("evt_1").await.unwrap().record.raw, bytes);
    let page = subject.page(newest(1)).await;
    assert_eq!(page.records[0].raw, bytes);
    let slice = subject.read(after(None)).await;
    assert_eq!(slice.notices[0].record.raw, bytes);
}

async fn every_field_is_told_as_it_came(subject: Subject) {
    let mut draft = incident("braze_status:incident:1", "braze");
    draft.event.service = "Braze \"EU\"".to_owned();
    draft.event.description = Some("línea\nnueva\0".to_owned());
    draft.event.started_at = "2024-01-15T09:00:00.123456789Z".parse().unwrap();
    draft.event.resolved_at = Some("2024-01-15T09:30:00Z".parse().unwrap());

    subject.insert(vec![draft.clone()]).await;

    let expected = Record::new(&draft, 1, clock_at(0));
    let history = subject.history("braze_status:incident:1").await.unwrap();
    assert_eq!(history.record, expected);
    assert_eq!(history.deliveries, []);
    assert_eq!(subject.page(newest(1)).await.records[0], expected);
    let slice = subject.read(after(None)).await;
    let expected = Notice {
        position: 1,
        revision: 0,
        action: Action::Store,
        stored_at: clock_at(0),
        correlation_id: "c-1".to_owned(),
        record: expected,
    };
    assert_eq!(slice.notices, [expected]);
}

async fn an_unknown_event_is_none(subject: Subject) {
    subject.insert(vec![payment("evt_1")]).await;

    assert_eq!(subject.history("evt_2").await, None);
}

async fn pages_are_newest_first_and_show_each_event_once(subject: Subject) {
    subject.insert(numbered(0..7, payment)).await;
    let mut seen = Vec::new();
    let mut query = newest(3);

    loop {
        let page = subject.page(query.clone()).await;
        seen.extend(ids(&page.records));
        // What comes meanwhile is newer, and so on no later page.
        subject
            .insert(vec![payment(&format!("late_{}", seen.len()))])
            .await;
        match page.next {
            Some(next) => query.before = Some(next),
            None => break,
        }
    }

    let expected: Vec<String> = (0..7).rev().map(|n| format!("evt_{n}")).collect();
    assert_eq!(seen, expected);
}

async fn each_filter_keeps_what_it_names(subject: Subject) {
    let mut drafts = Vec::new();
    for kind in Kind::ALL {
        for severity in Severity::ALL {
            for source in ["stripe", "braze_status", "github_status"] {
                for ended in [None, Some("2024-01-15T11:00:00Z".parse().unwrap())] {
                    let mut draft = payment(&format!("evt_{}", drafts.len()));
                    draft.event.kind = *kind;
                    draft.event.severity = *severity;
                    draft.event.source = Source::parse(source).unwrap();
                    draft.event.resolved_at = ended;
                    draft.event.description = Some(format!("{kind} of {source}"));
                    drafts.push(draft);
                }
            }
        }
    }
    subject.insert(drafts.clone()).await;

    let some = |source: &str| Source::parse(source);
    let filters = [
        Some("stripe"),
        Some("braze_status"),
        Some("nobody_status"),
        None,
    ]
    .into_iter()
    .flat_map(|source| [None, Some(Kind::Payment), Some(Kind::Status)].map(|kind| (source, kind)))
    .flat_map(|pair| {
        [None, Some(Severity::Info), Some(Severity::Critical)].map(|severity| (pair, severity))
    })
    .flat_map(|pair| [None, Some(true), Some(false)].map(|open| (pair, open)))
    .flat_map(|pair| [None, Some("STATUS OF")].map(|text| (pair, text)));
    for ((((source, kind), severity), open), text) in filters {
        let filter = Filter {
            source: source.and_then(some),
            kind,
            severity,
            open,
            text: text.map(Needle::new),
        };
        let expected: Vec<&str> = drafts
            .iter()
            .rev()
            .map(|draft| &draft.event)
            .filter(|event| {
                let is_open = event.resolved_at.is_none() && event.kind != Kind::Payment;
                source.is_none_or(|source| event.source.as_str() == source)
                    && kind.is_none_or(|kind| event.kind == kind)
                    && severity.is_none_or(|severity| event.severity == severity)
                    && open.is_none_or(|open| is_open == open)
                    && text.is_none_or(|_| event.kind == Kind::Status)
            })
            .map(|event| event.event_id.as_str())
            .collect();
        assert_eq!(
            subject.ids(filtered(filter.clone())).await,
            expected,
            "{filter:?}"
        );
    }
}

async fn since_is_inclusive_and_until_is_not(subject: Subject) {
    for number in 0..5 {
        subject
            .insert(vec![payment(&format!("evt_{number}"))])
            .await;
        tokio::time::advance(Duration::from_secs(10)).await;
    }

    for (since, until, expected) in [
        (
            None,
            None,
            vec!["evt_4", "evt_3", "evt_2", "evt_1", "evt_0"],
        ),
        (Some(20), None, vec!["evt_4", "evt_3", "evt_2"]),
        (Some(21), None, vec!["evt_4", "evt_3"]),
        (None, Some(20), vec!["evt_1", "evt_0"]),
        (None, Some(21), vec!["evt_2", "evt_1", "evt_0"]),
        (Some(10), Some(30), vec!["evt_2", "evt_1"]),
        (
            Some(-60),
            Some(600),
            vec!["evt_4", "evt_3", "evt_2", "evt_1", "evt_0"],
        ),
        (Some(30), Some(10), vec![]),
        (Some(41), None, vec![]),
    ] {
        let query = EventsQuery {
            since: since.map(clock_at),
            until: until.map(clock_at),
            ..newest(50)
        };
        assert_eq!(subject.ids(query).await, expected, "{since:?} to {until:?}");
    }
}

async fn a_page_of_large_events_ends_early(subject: Subject) {
    for number in 0..5 {
        subject
            .insert(vec![large(&format!("evt_{number}"), 3 << 20)])
            .await;
    }

    let first = subject.page(newest(50)).await;
    let second = subject
        .page(EventsQuery {
            before: first.next,
            ..newest(50)
        })
        .await;

    assert_eq!(ids(&first.records), ["evt_4", "evt_3"]);
    assert_eq!(ids(&second.records), ["evt_2", "evt_1"]);
}

async fn the_feed_is_in_commit_order_and_can_be_resumed(subject: Subject) {
    subject.insert(numbered(0..3, payment)).await;
    subject.insert(vec![paging("evt_3")]).await;

    let first = subject
        .read(FeedQuery {
            limit: 2,
            ..after(None)
        })
        .await;
    let rest = subject.read(after(Some(first.next.clone()))).await;
    let nothing = subject.read(after(Some(rest.next.clone()))).await;
    subject.insert(vec![payment("evt_4")]).await;
    let later = subject.read(after(Some(nothing.next.clone()))).await;

    assert_eq!(noticed(&first), ["store evt_0", "store evt_1"]);
    assert_eq!(noticed(&rest), ["store evt_2", "page evt_3"]);
    assert_eq!((first.more, rest.more, nothing.more), (true, false, false));
    assert_eq!((nothing.notices.len(), nothing.head), (0, 4));
    assert_eq!(nothing.next, rest.next);
    assert_eq!(noticed(&later), ["store evt_4"]);
}

async fn the_routed_feed_goes_on_past_what_does_not_match(subject: Subject) {
    subject
        .insert(vec![payment("evt_0"), paging("evt_1")])
        .await;
    subject.insert(numbered(2..5, payment)).await;
    let routed = |token| FeedQuery {
        routed_only: true,
        ..after(token)
    };

    let first = subject.read(routed(None)).await;
    subject.insert(numbered(5..8, payment)).await;
    let second = subject.read(routed(Some(first.next.clone()))).await;

    assert_eq!(noticed(&first), ["page evt_1"]);
    assert_eq!(first.next.position, 5);
    assert_eq!(noticed(&second), [""; 0]);
    assert_eq!((second.next.position, second.head), (8, 8));
}

async fn a_page_of_the_feed_with_large_events_ends_early(subject: Subject) {
    for number in 0..3 {
        subject
            .insert(vec![large(&format!("evt_{number}"), 3 << 20)])
            .await;
    }

    let first = subject.read(after(None)).await;
    let second = subject.read(after(Some(first.next.clone()))).await;

    assert_eq!(noticed(&first), ["store evt_0"]);
    assert_eq!(noticed(&second), ["store evt_1"]);
    assert!(first.more && second.more);
}

async fn a_token_of_another_history_diverges(subject: Subject) {
    subject.insert(vec![payment("evt_1")]).await;
    let ours = subject.read(after(None)).await.next;
    let past_the_head = Token {
        position: ours.position + 1,
        ..ours.clone()
    };
    let of_another_run = Token {
        run: "0".repeat(32),
        position: 0,
    };

    for token in [past_the_head, of_another_run] {
        let refused = subject.storage.feed(after(Some(token.clone()))).await;
        assert_eq!(refused.unwrap_err(), FeedError::Diverged, "{token}");
    }
    assert!(subject.storage.feed(after(Some(ours))).await.is_ok());
}

async fn a_reader_left_behind_is_told(subject: Subject) {
    subject.insert(vec![payment("evt_1")]).await;
    let early = subject.read(after(None)).await.next;
    subject.insert(numbered(2..5, payment)).await;
    subject.forget_all().await;

    let refused = subject.storage.feed(after(Some(early))).await;

    assert_eq!(refused.unwrap_err(), FeedError::TooOld);
    let again = subject.read(after(None)).await;
    assert_eq!(noticed(&again), ["store evt_4"]);
    assert!(subject.storage.feed(after(Some(again.next))).await.is_ok());
}

async fn who_waits_for_the_feed_is_told_of_commits(subject: Subject) {
    let heads = subject.storage.heads();
    assert_eq!(*heads.borrow(), Heads::default());

    subject
        .insert(vec![paging("evt_1"), payment("evt_2")])
        .await;
    assert_eq!(*heads.borrow(), Heads { all: 2, routed: 1 });

    subject
        .insert(vec![paging("evt_1"), payment("evt_3")])
        .await;
    assert_eq!(*heads.borrow(), Heads { all: 3, routed: 1 });
}

async fn an_open_event_is_closed_once_with_a_notice(subject: Subject) {
    let mut over = incident("over", "braze");
    over.event.resolved_at = Some("2024-01-15T09:30:00Z".parse().unwrap());
    subject
        .insert(vec![incident("open", "braze"), over, payment("evt_1")])
        .await;
    tokio::time::advance(Duration::from_secs(5)).await;

    let first = subject
        .resolve(&["open", "over", "evt_1", "unknown", "open"])
        .await;
    let second = subject.resolve(&["open"]).await;

    assert_eq!((first, second), (1, 0));
    let record = subject.history("open").await.unwrap().record;
    assert_eq!(record.resolved_at.as_deref(), Some("2024-01-15T12:00:00Z"));
    assert_eq!(record.revision, 1);
    assert_eq!(record.stored_at, clock_at(0));
    let slice = subject.read(after(None)).await;
    let notice = &slice.notices[3];
    assert_eq!((slice.notices.len(), slice.head), (4, 4));
    assert_eq!((notice.action, notice.revision), (Action::Resolve, 1));
    assert_eq!(notice.stored_at, clock_at(5));
    assert_eq!(notice.correlation_id, "the-end");
    let open = Filter {
        open: Some(true),
        ..Filter::default()
    };
    assert_eq!(subject.ids(filtered(open)).await, [""; 0]);
}

async fn the_feed_tells_an_event_as_it_stands_now(subject: Subject) {
    let mut draft = incident("open", "braze");
    draft.routed = true;
    subject.insert(vec![draft]).await;
    subject.resolve(&["open"]).await;
    subject
        .report(&[outcome("open", 1, 1, delivery::Status::Delivered)])
        .await;

    let slice = subject.read(after(None)).await;

    assert_eq!(noticed(&slice), ["page open", "resolve open"]);
    for notice in slice.notices {
        assert!(notice.record.resolved_at.is_some());
        assert_eq!(notice.record.delivered_to, ["pagerduty"]);
    }
}

async fn a_later_outcome_never_loses_to_an_earlier(subject: Subject) {
    use delivery::Status::{Exhausted, Failed, Pending};
    subject.insert(vec![paging("evt_1")]).await;

    for (epoch, position, status, stands) in [
        (2, 5, Failed, Failed),
        (2, 4, Pending, Failed),
        (2, 5, Pending, Failed),
        (1, 9, Exhausted, Failed),
        (2, 6, Pending, Pending),
        (3, 1, Exhausted, Exhausted),
    ] {
        subject
            .report(&[outcome("evt_1", epoch, position, status)])
            .await;
        let deliveries = subject.history("evt_1").await.unwrap().deliveries;
        assert_eq!(deliveries.len(), 1);
        assert_eq!(
            deliveries[0].status, stands,
            "after {status} at {epoch}.{position}"
        );
    }
    let told = subject.history("evt_1").await.unwrap().deliveries.remove(0);
    assert_eq!(told, outcome("evt_1", 3, 1, Exhausted).state);
}

async fn who_has_it_once_has_it_for_ever(subject: Subject) {
    use delivery::Status::{Delivered, Exhausted, Failed};
    subject.insert(vec![paging("evt_1")]).await;
    let mut elsewhere = outcome("evt_1", 1, 9, Delivered);
    elsewhere.state.destination = "audit".to_owned();
    elsewhere.state.delivery_id = "dlv_2".to_owned();
    let delivered_to = async || subject.history("evt_1").await.unwrap().record.delivered_to;

    subject.report(&[outcome("evt_1", 1, 1, Failed)]).await;
    assert_eq!(delivered_to().await, [""; 0]);
    subject.report(&[outcome("evt_1", 2, 2, Exhausted)]).await;
    // Late, but true.
    subject.report(&[outcome("evt_1", 1, 2, Delivered)]).await;
    assert_eq!(delivered_to().await, ["pagerduty"]);
    subject
        .report(&[outcome("evt_1", 2, 3, Failed), elsewhere])
        .await;

    assert_eq!(delivered_to().await, ["audit", "pagerduty"]);
    let page = subject.page(newest(1)).await;
    assert_eq!(page.records[0].delivered_to, ["audit", "pagerduty"]);
    assert_eq!(
        subject.history("evt_1").await.unwrap().deliveries[0].status,
        Failed
    );
}

async fn an_outcome_of_an_unknown_event_is_counted(subject: Subject) {
    use delivery::Status::Delivered;
    subject.insert(vec![paging("evt_1")]).await;

    let unknown = subject
        .report(&[
            outcome("evt_0", 1, 1, Delivered),
            outcome("evt_1", 1, 2, Delivered),
        ])
        .await;

    assert_eq!(unknown, 1);
    assert_eq!(
        subject.history("evt_1").await.unwrap().record.delivered_to,
        ["pagerduty"]
    );
}

async fn what_is_old_enough_leaves_and_its_id_with_it(subject: Subject) {
    subject
        .insert(vec![payment("old"), incident("ended", "braze")])
        .await;
    subject.resolve(&["ended"]).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    subject.insert(numbered(0..2, payment)).await;

    let forgotten = subject.storage.forget(clock_at(10), 0).await.unwrap();

    let expected = Forgotten {
        events: 2,
        kept: 0,
        next: None,
    };
    assert_eq!(forgotten, expected);
    assert_eq!(subject.ids(newest(50)).await, ["evt_1", "evt_0"]);
    assert_eq!(subject.history("old").await, None);
    let slice = subject.read(after(None)).await;
    assert_eq!(noticed(&slice), ["store evt_0", "store evt_1"]);
    let again = subject.insert(vec![payment("old")]).await;
    assert_eq!(again, [Inserted::New { routed: false }]);
}

async fn what_is_open_undelivered_or_newest_stays(subject: Subject) {
    use delivery::Status::{Delivered, Exhausted, Failed, Skipped};
    subject
        .insert(vec![incident("open", "braze"), paging("untold")])
        .await;
    for (event_id, status) in [
        ("failing", Failed),
        ("delivered", Delivered),
        ("exhausted", Exhausted),
        ("skipped", Skipped),
    ] {
        subject.insert(vec![paging(event_id)]).await;
        subject.report(&[outcome(event_id, 1, 1, status)]).await;
    }
    subject.insert(vec![payment("newest")]).await;

    assert_eq!(subject.forget_all().await, 3);

    assert_eq!(
        subject.ids(newest(50)).await,
        ["newest", "failing", "untold", "open"]
    );
}

async fn retention_goes_slice_by_slice(subject: Subject) {
    subject.insert(numbered(0..600, payment)).await;
    tokio::time::advance(Duration::from_secs(10)).await;

    let first = subject.storage.forget(clock_at(10), 0).await.unwrap();

    let expected = Forgotten {
        events: 256,
        kept: 0,
        next: Some(256),
    };
    assert_eq!(first, expected);
    assert_eq!(subject.forget_all().await, 600 - 256 - 1);
    assert_eq!(subject.ids(newest(50)).await, ["evt_599"]);
}
