//! What must hold, by name, and the ledger of an observer who sees everything and trusts nobody.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use delivery::domain::now::Now;
use delivery::domain::transition::{ExhaustReason, Life, State};
use jiff::{SignedDuration, Timestamp};

use super::model::{Endpoint, Event, Position, Row, Store, Tables};

/// The promises. S: at every step. L: once the faults have stopped and the endpoints answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// What was acknowledged is on disk, with a delivery for each endpoint that matched or the notice that they come from.
    S1,
    /// One event a key; the same key is answered with the same event, another body is refused and stores nothing.
    S2,
    /// Terminal is final, save that a retry begins a new generation; nothing counted is uncounted.
    S3,
    /// Delivered only if the receiver answered 2xx to an attempt of this generation.
    S4,
    /// `max_attempts` and `poison` only after all attempts; whatever is exhausted says why.
    S5,
    /// Finished ≤ max, started ≤ max + interrupted, and no send that is not counted on disk.
    S6,
    /// One owner at a time; epochs grow and never repeat; no lease is longer than it may be; no send that may outlast the
    /// lease; attempt numbers grow and never repeat.
    S7,
    /// The receiver accepts it once, and once more for each fault at most: killed, paused, reply lost, store crashed.
    S8,
    /// A stale writer changes nothing, and is counted.
    S9,
    /// A breaker that is open lets nothing through; half-open, one probe at a time.
    S10,
    /// Nothing is started before it is due; due moves by the schedule, or by a Retry-After up to an hour.
    S11,
    /// At most an endpoint's cap, a client's share and the total are on their way.
    S12,
    /// Every delivery that ever was is there, in exactly one state.
    S13,
    /// Nothing of one client reaches, or is moved by, another.
    S14,
    /// Strict order: in a line, all sends of a delivery follow each other, and first attempts go in the order of intake.
    Order,
    /// Everything ends within its longest wait, the lease and a poll.
    L1,
    /// What is due, and held by nothing, has its turn.
    L2,
    /// A breaker that is open probes when its time has come.
    L3,
    /// What is enabled again drains without anybody's help.
    L4,
}

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

/// An intake that was answered with success.
#[derive(Debug)]
struct Acked {
    event: Event,
}

/// What was seen of one delivery.
#[derive(Default)]
struct Trace {
    /// The number of the last attempt that was sent.
    sent: u32,
    sends: u32,
    /// Numbers of the attempts that were sent once more, over a connection of their own.
    resent: Vec<u32>,
    /// Numbers of the attempts that the receiver accepted.
    accepted: Vec<u32>,
    /// Numbers of the attempts that met with a fault.
    faults: Vec<u32>,
    seen: Option<Life>,
}

/// What was sent of one line of a strict endpoint.
#[derive(Default)]
struct Sent {
    /// The last, and its generation.
    last: Option<(Position, u32)>,
    /// All before it.
    before: HashSet<(Position, u32)>,
    /// The latest of those that nobody has retried by hand.
    furthest: Position,
}

/// What an observer knows.
pub(crate) struct Ledger {
    first: Option<Violation>,
    acked: Vec<Acked>,
    traces: Vec<Trace>,
    /// By endpoint and line.
    lines: HashMap<(usize, u64), Sent>,
    granted: u64,
    /// Results that were offered too late.
    pub(crate) stale: u64,
    /// When the wall clock was last set back.
    pub(crate) set_back_at: Duration,
    looked_at: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            first: None,
            acked: Vec::new(),
            traces: Vec::new(),
            lines: HashMap::new(),
            granted: 0,
            stale: 0,
            set_back_at: Duration::ZERO,
            looked_at: 0,
        }
    }

    /// The first promise that was broken.
    pub(crate) fn violation(&mut self) -> Option<Violation> {
        self.first.take()
    }

    pub(crate) fn must(
        &mut self,
        holds: bool,
        invariant: Invariant,
        what: impl FnOnce() -> String,
    ) {
        if !holds && self.first.is_none() {
            self.first = Some(Violation {
                invariant,
                what: what(),
            });
        }
    }

    fn trace(&mut self, position: Position) -> &mut Trace {
        let at = usize::try_from(position).expect("a run is short");
        if self.traces.len() <= at {
            self.traces.resize_with(at + 1, Trace::default);
        }
        &mut self.traces[at]
    }

    /// An intake was answered: this event is stored, now or before.
    pub(crate) fn acked(&mut self, event: Event, asked_body: u8) {
        self.must(event.body == asked_body, Invariant::S2, || {
            format!("body {asked_body} was taken for {event:?}")
        });
        let before = self
            .acked
            .iter()
            .find(|acked| (acked.event.client, acked.event.key) == (event.client, event.key));
        match before.map(|acked| acked.event.position) {
            Some(position) => self.must(position == event.position, Invariant::S2, || {
                format!("was answered as {position} before: {event:?}")
            }),
            None => self.acked.push(Acked { event }),
        }
    }

    /// A process may act as the owner.
    pub(crate) fn granted(&mut self, epoch: u64) {
        let before = self.granted;
        self.must(epoch > before, Invariant::S7, || {
            format!("epoch {epoch} after {before}")
        });
        self.granted = before.max(epoch);
    }

    /// A request leaves; `line` where order is strict.
    pub(crate) fn sent(&mut self, store: &Store, row: &Row, line: Option<(usize, u64)>) {
        if let Some(line) = line {
            self.sent_in(line, row);
        }
        let (position, attempt) = (row.position, row.life.started);
        let started = store
            .durable
            .row(position)
            .map_or(0, |row| row.life.started);
        let trace = self.trace(position);
        let last = std::mem::replace(&mut trace.sent, attempt);
        trace.sends += 1;
        let (sends, resent) = (trace.sends, trace.resent.len());
        let are_counted = sends as usize <= started as usize + resent && attempt <= started;
        self.must(are_counted, Invariant::S6, || {
            format!("{position}: send {sends}, {resent} of them once more, attempt {attempt}, of {started} that are counted on disk")
        });
        self.must(attempt > last, Invariant::S7, || {
            format!("{position}: attempt {attempt} after {last}")
        });
    }

    /// The connection that had been kept for it broke before any byte of an answer, and it left once more.
    pub(crate) fn resent(&mut self, position: Position, attempt: u32) {
        let trace = self.trace(position);
        trace.sends += 1;
        let is_first = !trace.resent.contains(&attempt);
        trace.resent.push(attempt);
        self.must(is_first, Invariant::S6, || {
            format!("{position}: attempt {attempt} is sent a third time")
        });
    }

    fn sent_in(&mut self, line: (usize, u64), row: &Row) {
        let Sent {
            last,
            before,
            furthest,
        } = self.lines.entry(line).or_default();
        let this = (row.position, row.life.generation);
        if *last == Some(this) {
            return;
        }
        before.extend(last.replace(this));
        let is_late = row.life.generation == 0 && row.position < *furthest;
        if row.life.generation == 0 {
            *furthest = row.position.max(*furthest);
        }
        let is_new = !before.contains(&this) && !is_late;
        self.must(is_new, Invariant::Order, || {
            format!("{this:?} is sent after what is behind it, in {line:?}")
        });
    }

    /// The receiver accepts it.
    pub(crate) fn accepted(&mut self, store: &Store, position: Position, attempt: u32) {
        let before = store.durable.row(position).map_or(0, |row| row.life.before);
        let trace = self.trace(position);
        trace.accepted.push(attempt);
        let of_generation = |numbers: &[u32]| numbers.iter().filter(|at| **at > before).count();
        let (accepted, faults) = (of_generation(&trace.accepted), of_generation(&trace.faults));
        self.must(accepted <= 1 + faults, Invariant::S8, || {
            format!("{position}: accepted {accepted} times with {faults} faults")
        });
    }

    /// Something happened that excuses one more copy.
    pub(crate) fn fault(&mut self, position: Position, attempt: u32) {
        self.trace(position).faults.push(attempt);
    }

    /// A delivery has its turn. A clock that was set back since it was decided excuses an earlier one: a due time that only
    /// the wrong clock meant is brought back.
    pub(crate) fn taken(&mut self, row: &Row, meant: Timestamp, now: Now) {
        let stored = row.life.due_at.unwrap_or(Timestamp::MIN);
        let is_due =
            meant <= now.wall && (stored <= now.wall || row.decided_at <= self.set_back_at);
        self.must(is_due, Invariant::S11, || {
            format!(
                "{} is taken at {}, meant for {meant}: {:?}",
                row.position, now.wall, row.life
            )
        });
    }

    /// A failed attempt is due again.
    pub(crate) fn due_again(
        &mut self,
        waits: &[u64],
        life: &Life,
        now: Timestamp,
        asked_s: Option<u32>,
    ) {
        let (Some(due), State::Failed) = (life.due_at, life.state) else {
            return;
        };
        let wait = waits
            .get(life.finished as usize)
            .copied()
            .unwrap_or(u64::MAX);
        let asked = i64::from(asked_s.unwrap_or(0)).min(3_600);
        let shortest = i64::try_from(wait).unwrap_or(i64::MAX).max(asked);
        let longest = i64::try_from(wait + wait.div_ceil(5))
            .unwrap_or(i64::MAX)
            .max(asked);
        let after = due.duration_since(now);
        let fits = after >= SignedDuration::from_secs(shortest)
            && after <= SignedDuration::from_secs(longest);
        self.must(fits, Invariant::S11, || {
            format!("due after {after:?}: {life:?}")
        });
    }

    /// Looks at everything that is on disk, if that has changed.
    pub(crate) fn look(&mut self, store: &Store, endpoints: &[Endpoint]) {
        let (stale, refused) = (self.stale, store.refused);
        self.must(stale == refused, Invariant::S9, || {
            format!("{stale} results came too late, {refused} were refused")
        });
        if self.looked_at == store.syncs {
            return;
        }
        self.looked_at = store.syncs;
        self.look_at_intake(&store.durable, endpoints);
        for row in &store.durable.rows {
            self.look_at_row(row, endpoints);
        }
        let ever = self
            .traces
            .iter()
            .filter(|trace| trace.seen.is_some())
            .count();
        let are = store.durable.rows.len();
        self.must(ever == are, Invariant::S13, || {
            format!("{are} of {ever} deliveries are left")
        });
    }

    fn look_at_intake(&mut self, tables: &Tables, endpoints: &[Endpoint]) {
        let mut lost = None;
        for Acked { event } in &self.acked {
            let all = endpoints
                .iter()
                .enumerate()
                .filter(|(_, to)| to.client == event.client);
            let has = |endpoint: usize| {
                tables
                    .rows_of(event.position)
                    .any(|row| row.endpoint == endpoint)
            };
            let has_rows = || all.clone().all(|(endpoint, _)| has(endpoint));
            let is_stored = tables.events.contains(event);
            let notice = tables
                .notices
                .iter()
                .position(|notice| *notice == event.position);
            let is_awaited = event.hub && notice.is_some_and(|at| at >= tables.cursor);
            if !is_stored || !(is_awaited || has_rows()) {
                lost = Some(*event);
            }
        }
        self.must(lost.is_none(), Invariant::S1, || {
            format!("acknowledged, and not there: {lost:?}")
        });
        let twice = tables.events.iter().enumerate().find(|(at, event)| {
            let same = |other: &Event| (other.client, other.key) == (event.client, event.key);
            tables.events[..*at].iter().any(same)
        });
        self.must(twice.is_none(), Invariant::S2, || {
            format!("stored twice: {twice:?}")
        });
    }

    fn look_at_row(&mut self, row: &Row, endpoints: &[Endpoint]) {
        let (life, position) = (&row.life, row.position);
        let trace = self.trace(position);
        if trace.seen.as_ref() == Some(life) {
            return;
        }
        let seen = trace.seen.replace(life.clone());
        let accepted = trace.accepted.iter().any(|attempt| *attempt > life.before);
        if let Some(seen) = seen {
            let final_ = !seen.state.is_terminal()
                || seen.state == life.state
                || life.generation > seen.generation;
            let kept = life.generation >= seen.generation && life.started >= seen.started;
            self.must(final_ && kept, Invariant::S3, || {
                format!("{position} was {seen:?} and is {life:?}")
            });
        }
        self.must(
            life.state != State::Delivered || accepted,
            Invariant::S4,
            || format!("{position} was not accepted: {life:?}"),
        );
        let policy = &endpoints[row.endpoint].policy;
        let max = policy.max_attempts();
        let used_up = [ExhaustReason::MaxAttempts, ExhaustReason::Poison].map(State::Exhausted);
        let tried = !used_up.contains(&life.state) || life.finished == max;
        let says = !matches!(life.state, State::Exhausted(_)) || life.state.reason().is_some();
        self.must(tried && says, Invariant::S5, || {
            format!("{position} of {max}: {life:?}")
        });
        let begun = life.started - life.before;
        let within = life.finished <= max && begun <= max + life.interrupted;
        self.must(within, Invariant::S6, || {
            format!("{position} of {max}: {life:?}")
        });
        let client = endpoints[row.endpoint].client;
        self.must(row.client == client, Invariant::S14, || {
            format!(
                "{position} of client {} goes to client {client}",
                row.client
            )
        });
    }

    /// A lease as it is on disk.
    pub(crate) fn lease(&mut self, store: &Store, now: Duration, longest: Duration) {
        let left = store.durable.lease.end.saturating_sub(now);
        self.must(left <= longest, Invariant::S7, || {
            format!("a lease of {left:?}")
        });
    }
}
