//! How much of what waits is fresh work: first attempts that could go now.

/// First attempts that wait in one place. What came while nothing there could go is no fresh work, before it is gone.
#[derive(Default)]
pub(super) struct Fresh {
    waiting: usize,
    /// Of those, came while nothing could go; the oldest go first, so that this is never too many.
    gathered: usize,
    can_go: bool,
}

impl Fresh {
    /// Notices how many wait, after each change of it and of whether they can go.
    pub(super) fn look(&mut self, waiting: usize, can_go: bool) {
        let (more, fewer) = (
            waiting.saturating_sub(self.waiting),
            self.waiting.saturating_sub(waiting),
        );
        if !can_go {
            self.gathered += more;
        }
        self.gathered = self.gathered.saturating_sub(fewer).min(waiting);
        (self.waiting, self.can_go) = (waiting, can_go);
    }

    pub(super) fn count(&self) -> usize {
        match self.can_go {
            true => self.waiting - self.gathered,
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_while_nothing_could_go_is_not_fresh_before_it_is_gone() {
        let mut fresh = Fresh::default();
        for (waiting, can_go, expected) in [
            (5, true, 5),
            (5, false, 0),
            (105, false, 0),
            (105, true, 5),
            // A short pause excuses what comes in it, not what came before.
            (115, true, 15),
            (115, false, 0),
            (117, false, 0),
            (117, true, 15),
            // As it drains.
            (20, true, 15),
            (15, true, 15),
            (3, true, 3),
            (0, true, 0),
            (9, true, 9),
        ] {
            fresh.look(waiting, can_go);
            assert_eq!(fresh.count(), expected, "{waiting} {can_go}");
        }
    }
}
