//! What waits for the writer, in turn by payer.

use std::collections::{HashMap, VecDeque};

/// The weight at which a turn ends. More than one, so that who sends single rows is not served one row for each heavy
/// write of another.
const TURN: usize = 8;

/// A ring of payers, each with its own line. A push and a pop take the same time however many wait.
pub(super) struct Turns<W> {
    lines: HashMap<u64, Line<W>>,
    /// Who has something waiting, each once; whose turn it is in front.
    ring: VecDeque<u64>,
    /// The weight that the payer in front has taken in this turn.
    taken: usize,
    weight: usize,
}

/// One payer's writes, first come first.
struct Line<W> {
    waiting: VecDeque<(usize, W)>,
    weight: usize,
}

impl<W> Turns<W> {
    pub(super) fn new() -> Self {
        Self {
            lines: HashMap::new(),
            ring: VecDeque::new(),
            taken: 0,
            weight: 0,
        }
    }

    /// The weight of all that waits.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// The weight of what waits for one payer.
    pub(super) fn weight_of(&self, payer: u64) -> usize {
        self.lines.get(&payer).map_or(0, |line| line.weight)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(super) fn push(&mut self, payer: u64, weight: usize, write: W) {
        let ring = &mut self.ring;
        let line = self.lines.entry(payer).or_insert_with(|| {
            ring.push_back(payer);
            Line {
                waiting: VecDeque::new(),
                weight: 0,
            }
        });
        line.waiting.push_back((weight, write));
        line.weight += weight;
        self.weight += weight;
    }

    /// The weight of what [`pop`](Self::pop) would take.
    pub(super) fn next_weight(&self) -> Option<usize> {
        let line = self.lines.get(self.ring.front()?)?;
        line.waiting.front().map(|(weight, _)| *weight)
    }

    pub(super) fn pop(&mut self) -> Option<W> {
        let payer = *self.ring.front()?;
        let line = self.lines.get_mut(&payer)?;
        let (weight, write) = line.waiting.pop_front()?;
        line.weight -= weight;
        self.weight -= weight;
        self.taken += weight.max(1);
        let done = line.waiting.is_empty();
        if done {
            self.lines.remove(&payer);
        }
        if done || self.taken >= TURN {
            self.end_turn(done);
        }
        Some(write)
    }

    fn end_turn(&mut self, done: bool) {
        self.taken = 0;
        let payer = self.ring.pop_front();
        self.ring.extend(payer.filter(|_| !done));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
impl<W> Turns<W> {
    pub(super) fn len(&self) -> usize {
        self.lines.values().map(|line| line.waiting.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with its payer and its weight.
    type Writes<'a> = &'a [(u64, usize)];

    /// The payers in the order in which they are served.
    fn served(turns: &mut Turns<u64>) -> Vec<u64> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    fn waiting(writes: Writes<'_>) -> Turns<u64> {
        let mut turns = Turns::new();
        for (payer, weight) in writes {
            turns.push(*payer, *weight, *payer);
        }
        turns
    }

    #[test]
    fn payers_take_turns_by_weight() {
        let cases: [(&str, Writes<'_>, &[u64]); 4] = [
            (
                "heavy ones",
                &[(1, 8), (1, 8), (2, 8), (3, 8)],
                &[1, 2, 3, 1],
            ),
            ("one alone", &[(1, 8), (1, 8)], &[1, 1]),
            (
                "several light ones are one turn",
                &[(1, 500), (1, 500), (2, 1), (2, 1), (2, 1)],
                &[1, 2, 2, 2, 1],
            ),
            (
                "a turn ends at its weight",
                &[(1, 4), (1, 4), (1, 4), (2, 1)],
                &[1, 1, 2, 1],
            ),
        ];
        for (name, writes, expected) in cases {
            let mut turns = waiting(writes);

            assert_eq!(served(&mut turns), expected, "{name}");
            assert!(turns.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_payer_is_served_in_the_order_in_which_it_came() {
        let mut turns = Turns::new();
        for write in 0..100 {
            turns.push(write % 3, 1, write);
        }

        let served = served(&mut turns);

        for payer in 0..3 {
            let own = served.iter().filter(|write| **write % 3 == payer);
            assert!(own.is_sorted(), "{payer}");
        }
        assert_eq!(served.len(), 100);
    }

    #[test]
    fn what_waits_is_told_for_each_payer_and_forgotten_when_it_has_gone() {
        let mut turns = waiting(&[(1, 3), (2, 5), (1, 4)]);

        assert_eq!((turns.weight(), turns.weight_of(1)), (12, 7));
        assert_eq!(turns.next_weight(), Some(3));
        served(&mut turns);

        assert_eq!((turns.weight(), turns.weight_of(1)), (0, 0));
        assert_eq!(turns.next_weight(), None);
        assert!(turns.lines.is_empty());
    }

    #[test]
    fn a_turn_that_was_cut_short_is_not_the_next_payers() {
        let mut turns = waiting(&[(1, 4), (2, 8), (2, 8), (3, 1)]);

        assert_eq!(served(&mut turns), [1, 2, 3, 2]);
    }
}
