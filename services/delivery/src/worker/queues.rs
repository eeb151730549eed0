//! Who is next, in memory: by due time for each endpoint, within its slots.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::{SignedDuration, Timestamp};

use crate::domain::delivery::Position;
use crate::domain::schedule::within;

/// An endpoint's place in the worker's list.
pub(crate) type Index = usize;

/// Every open delivery is either in here or on its way, never both.
pub(crate) struct Queues {
    endpoints: Vec<Queue>,
    /// Deliveries that must be sent alone.
    suspects: BinaryHeap<Reverse<(Timestamp, Index, Position)>>,
    in_flight: usize,
    /// A suspect is on its way.
    exclusive: bool,
    /// A suspect has just had its turn.
    others_first: bool,
    /// Where the next round among endpoints begins.
    turn: Index,
    /// When they were last looked at, by the wall clock.
    looked_at: Timestamp,
}

struct Queue {
    waiting: BinaryHeap<Reverse<(Timestamp, Position)>>,
    in_flight: usize,
    max_in_flight: usize,
    longest_wait: SignedDuration,
}

/// A delivery whose slot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) endpoint: Index,
    pub(crate) position: Position,
    pub(crate) due_at: Timestamp,
    pub(crate) alone: bool,
}

impl Queues {
    /// Of each endpoint: how many may be on their way at once, and the longest wait of its schedule.
    pub(crate) fn new(limits: impl IntoIterator<Item = (usize, SignedDuration)>) -> Self {
        let queue = |(max_in_flight, longest_wait)| Queue {
            waiting: BinaryHeap::new(),
            in_flight: 0,
            max_in_flight,
            longest_wait,
        };
        Self {
            endpoints: limits.into_iter().map(queue).collect(),
            suspects: BinaryHeap::new(),
            in_flight: 0,
            exclusive: false,
            others_first: false,
            turn: 0,
            looked_at: Timestamp::MIN,
        }
    }

    pub(crate) fn insert(
        &mut self,
        endpoint: Index,
        position: Position,
        due_at: Timestamp,
        suspect: bool,
        now: Timestamp,
    ) {
        let Some(queue) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let due_at = within(due_at, now, queue.longest_wait);
        if suspect {
            self.suspects.push(Reverse((due_at, endpoint, position)));
        } else {
            queue.waiting.push(Reverse((due_at, position)));
        }
    }

    /// Takes a slot for a delivery that is not in the queues yet.
    pub(crate) fn reserve(&mut self, endpoint: Index) -> bool {
        if self.exclusive || !self.suspects.is_empty() {
            return false;
        }
        let free = self
            .endpoints
            .get_mut(endpoint)
            .filter(|queue| queue.has_slot());
        free.map(|queue| queue.in_flight += 1).is_some_and(|()| {
            self.in_flight += 1;
            true
        })
    }

    /// Takes what is due and has a slot, at most `limit`, endpoints in turn.
    pub(crate) fn take(&mut self, now: Timestamp, limit: usize) -> Vec<Turn> {
        if now < self.looked_at {
            self.rein_in(now);
        }
        self.looked_at = now;
        let suspect_due = self.suspect_due().is_some_and(|due| due <= now);
        if self.exclusive || self.suspect_must_wait(suspect_due) {
            return Vec::new();
        }
        if suspect_due && !self.others_first {
            return self.take_suspect();
        }
        self.others_first = false;
        let turns = self.take_round(now, limit);
        if turns.is_empty() && suspect_due && self.in_flight == 0 {
            return self.take_suspect();
        }
        turns
    }

    /// It is a suspect's turn, which is sent when all that is on its way has ended; nothing joins those.
    fn suspect_must_wait(&self, suspect_due: bool) -> bool {
        suspect_due && !self.others_first && self.in_flight > 0
    }

    /// The clock was set back: nothing stays due at a time that only the wrong clock meant (R7).
    fn rein_in(&mut self, now: Timestamp) {
        for queue in &mut self.endpoints {
            let longest = queue.longest_wait;
            let waiting = std::mem::take(&mut queue.waiting).into_iter();
            queue.waiting = waiting
                .map(|Reverse((due, position))| Reverse((within(due, now, longest), position)))
                .collect();
        }
        let suspects = std::mem::take(&mut self.suspects).into_iter();
        self.suspects = suspects
            .filter_map(|Reverse((due, endpoint, position))| {
                let longest = self.endpoints.get(endpoint)?.longest_wait;
                Some(Reverse((within(due, now, longest), endpoint, position)))
            })
            .collect();
    }

    fn take_suspect(&mut self) -> Vec<Turn> {
        let Some(Reverse((due_at, endpoint, position))) = self.suspects.pop() else {
            return Vec::new();
        };
        self.exclusive = true;
        self.in_flight += 1;
        if let Some(queue) = self.endpoints.get_mut(endpoint) {
            queue.in_flight += 1;
        }
        vec![Turn {
            endpoint,
            position,
            due_at,
            alone: true,
        }]
    }

    fn take_round(&mut self, now: Timestamp, limit: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        let count = self.endpoints.len();
        let mut passed = 0;
        while passed < count && turns.len() < limit {
            let endpoint = self.turn % count;
            self.turn = (endpoint + 1) % count;
            match self.endpoints.get_mut(endpoint).and_then(|q| q.pop(now)) {
                Some((due_at, position)) => {
                    passed = 0;
                    self.in_flight += 1;
                    turns.push(Turn {
                        endpoint,
                        position,
                        due_at,
                        alone: false,
                    });
                }
                None => passed += 1,
            }
        }
        turns
    }

    /// Gives a slot back; tells whether somebody may be waiting for it.
    pub(crate) fn release(&mut self, endpoint: Index, alone: bool) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        if alone {
            self.exclusive = false;
            self.others_first = true;
        }
        let waits = self.endpoints.get_mut(endpoint).is_some_and(|queue| {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            !queue.waiting.is_empty()
        });
        alone || waits || !self.suspects.is_empty()
    }

    /// When to look again, if no slot is given back before. None while only a slot can help.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let suspect_due = self.suspect_due().is_some_and(|due| due <= now);
        if self.exclusive || self.suspect_must_wait(suspect_due) {
            return None;
        }
        // While another is on its way, the end of that one is when to look again.
        let suspect = self.suspect_due().filter(|_| self.in_flight == 0);
        let free = self.endpoints.iter().filter(|queue| queue.has_slot());
        free.filter_map(Queue::oldest).chain(suspect).min()
    }

    fn suspect_due(&self) -> Option<Timestamp> {
        self.suspects.peek().map(|Reverse((due, ..))| *due)
    }

    /// The earliest due time of all that wait, whether or not there is a slot.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        let waiting = self.endpoints.iter().filter_map(Queue::oldest);
        waiting.chain(self.suspect_due()).min()
    }

    /// Open deliveries: those that wait and those on their way.
    pub(crate) fn open(&self) -> usize {
        let waiting: usize = self.endpoints.iter().map(|queue| queue.waiting.len()).sum();
        waiting + self.suspects.len() + self.in_flight
    }
}

impl Queue {
    fn has_slot(&self) -> bool {
        self.in_flight < self.max_in_flight
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.waiting.peek().map(|Reverse((due, _))| *due)
    }

    fn pop(&mut self, now: Timestamp) -> Option<(Timestamp, Position)> {
        self.oldest().filter(|due| *due <= now && self.has_slot())?;
        let Reverse(first) = self.waiting.pop()?;
        self.in_flight += 1;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn queues<const N: usize>(max_in_flight: [usize; N]) -> Queues {
        Queues::new(max_in_flight.map(|max| (max, SignedDuration::from_secs(3_600))))
    }

    fn positions(turns: &[Turn]) -> Vec<Position> {
        turns.iter().map(|turn| turn.position).collect()
    }

    #[test]
    fn what_is_due_goes_by_time_and_the_rest_waits() {
        let mut queues = queues([10]);
        for (position, due) in [(1, 30), (2, 10), (3, 20)] {
            queues.insert(0, position, at(due), false, at(0));
        }
        assert_eq!(positions(&queues.take(at(20), 64)), [2, 3]);
        assert_eq!(queues.next_due(at(20)), Some(at(30)));
        assert_eq!(queues.open(), 3);
    }

    #[test]
    fn a_full_endpoint_holds_its_own_and_nobody_elses() {
        let mut queues = queues([1, 1]);
        for position in 1..=3 {
            queues.insert(0, position, at(0), false, at(0));
        }
        queues.insert(1, 9, at(5), false, at(0));
        assert_eq!(positions(&queues.take(at(5), 64)), [1, 9]);
        assert!(!queues.reserve(0));
        assert!(queues.take(at(5), 64).is_empty());
        assert_eq!(queues.next_due(at(5)), None, "only a slot can help");

        assert!(queues.release(0, false));

        assert_eq!(positions(&queues.take(at(5), 64)), [2]);
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_nothing_due_beyond_the_longest_wait() {
        let mut queues = queues([10]);
        let ahead = 31_536_000;
        for (position, suspect) in [(1, false), (2, true)] {
            queues.insert(0, position, at(ahead + 5), suspect, at(ahead));
        }
        queues.insert(0, 3, at(60), false, at(0));
        assert_eq!(positions(&queues.take(at(ahead), 64)), [3]);

        assert!(queues.take(at(100), 64).is_empty());

        assert_eq!(queues.oldest(), Some(at(3_700)));
        assert!(queues.release(0, false));
        let (first, second) = (queues.take(at(3_700), 64), queues.endpoints[0].oldest());
        assert_eq!((positions(&first), second), (vec![2], Some(at(3_700))));
    }

    #[test]
    fn endpoints_take_turns() {
        let mut queues = queues([10, 10]);
        for position in 1..=3 {
            queues.insert(0, position, at(0), false, at(0));
            queues.insert(1, 10 + position, at(9), false, at(0));
        }
        assert_eq!(positions(&queues.take(at(9), 4)), [1, 11, 2, 12]);
    }

    #[test]
    fn a_suspect_goes_alone_and_others_have_a_turn_between() {
        let mut queues = queues([10]);
        assert!(queues.reserve(0));
        queues.insert(0, 1, at(0), true, at(0));
        queues.insert(0, 2, at(0), true, at(0));
        queues.insert(0, 3, at(0), false, at(0));
        assert!(
            queues.take(at(0), 64).is_empty(),
            "one is on its way already"
        );
        assert!(
            !queues.reserve(0),
            "and no further one may join while a suspect waits"
        );

        assert_eq!(queues.next_due(at(0)), None, "only its end can help");

        assert!(queues.release(0, false));
        let first = queues.take(at(0), 64);
        assert_eq!((positions(&first), first[0].alone), (vec![1], true));
        assert!(queues.take(at(0), 64).is_empty());
        assert!(!queues.reserve(0));

        assert!(queues.release(0, true));
        assert_eq!(positions(&queues.take(at(0), 64)), [3]);
        assert!(queues.take(at(0), 64).is_empty());
        assert!(queues.release(0, false));
        assert_eq!(positions(&queues.take(at(0), 64)), [2]);
    }
}
