//! A bound that callers share by their address. Whoever is alone may have all of it. At the bound whoever holds the most
//! makes way, and of what it holds, what has waited for it the longest.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who holds a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(IpAddr);

impl Holder {
    /// An IPv6 caller owns at least a /64, so that is what counts.
    pub fn at(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }

    /// Where the connection does not tell.
    pub fn unknown() -> Self {
        Self(Ipv4Addr::UNSPECIFIED.into())
    }
}

/// There is no room, and nobody who holds as much keeps us waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room")]
pub struct Full;

/// So much, for all who want some of it.
#[derive(Clone)]
pub struct Shares(Arc<Pool>);

struct Pool {
    max: usize,
    started: Instant,
    table: Mutex<Table>,
}

/// A part of the bound, given back when dropped.
pub struct Claim {
    pool: Arc<Pool>,
    id: u64,
    waiting: Arc<Waiting>,
    ends: CancellationToken,
}

/// Since when a claim waits for its caller: only what does may be ended for another.
pub struct Waiting {
    started: Instant,
    /// Microseconds since `started`, and one more; 0 while the caller waits for us.
    since: AtomicU64,
}

/// Who holds what. Touches nothing: what it ends is told by a token.
#[derive(Default)]
struct Table {
    held: usize,
    last_id: u64,
    claims: HashMap<u64, Entry>,
    holders: HashMap<Holder, usize>,
}

struct Entry {
    holder: Holder,
    amount: usize,
    waiting: Arc<Waiting>,
    ends: CancellationToken,
}

impl Shares {
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Pool {
            max,
            started: Instant::now(),
            table: Mutex::default(),
        }))
    }

    /// A claim to nothing yet, that waits for its caller from now on. Its end is told by `ends`.
    pub fn claim(&self, holder: Holder, ends: CancellationToken) -> Claim {
        let waiting = Arc::new(Waiting {
            started: self.0.started,
            since: AtomicU64::new(0),
        });
        waiting.restart();
        let mut table = self.0.table();
        table.last_id += 1;
        let id = table.last_id;
        table.claims.insert(
            id,
            Entry {
                holder,
                amount: 0,
                waiting: Arc::clone(&waiting),
                ends: ends.clone(),
            },
        );
        Claim {
            pool: Arc::clone(&self.0),
            id,
            waiting,
            ends,
        }
    }

    /// How much is held, by everybody.
    pub fn held(&self) -> usize {
        self.0.table().held
    }
}

impl Pool {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Takes more, if need be from whoever holds the most.
    pub fn grow(&self, more: usize) -> Result<(), Full> {
        self.pool.table().grow(self.id, more, self.pool.max)
    }

    /// Counts the claim for another holder from now on.
    pub fn pass_to(&self, holder: Holder) {
        self.pool.table().pass_to(self.id, holder);
    }

    pub fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// Cancelled when the claim is ended for another; whoever cancels it ends what the claim is for.
    pub fn ends(&self) -> &CancellationToken {
        &self.ends
    }

    /// Until the claim was ended for another.
    pub async fn ended(&self) {
        self.ends.cancelled().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.pool.table();
        table.give_back(self.id);
        table.claims.remove(&self.id);
    }
}

impl Waiting {
    /// The caller is waited for; if it was, for as long as before.
    pub fn begin(&self) {
        if self.since.load(Ordering::Relaxed) == 0 {
            self.restart();
        }
    }

    /// The caller has moved, and is waited for again.
    pub fn restart(&self) {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.since.store(micros + 1, Ordering::Relaxed);
    }

    /// It is our turn.
    pub fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }
}

impl Table {
    fn grow(&mut self, id: u64, more: usize, max: usize) -> Result<(), Full> {
        let entry = self.claims.get(&id).ok_or(Full)?;
        if entry.ends.is_cancelled() || more > max {
            return Err(Full);
        }
        let holder = entry.holder;
        while self.held.saturating_add(more) > max {
            let ended = self.whose_turn_to_go(id, more).ok_or(Full)?;
            self.end(ended);
        }
        self.held += more;
        *self.holders.entry(holder).or_default() += more;
        if let Some(entry) = self.claims.get_mut(&id) {
            entry.amount += more;
        }
        Ok(())
    }

    /// Of what others than `id` wait with: of the holder who has the most, the oldest. Nobody makes way for one who would
    /// then hold more than it, but for itself.
    fn whose_turn_to_go(&self, id: u64, more: usize) -> Option<u64> {
        let asks = self.claims.get(&id)?.holder;
        let would_hold = self.holds(asks).saturating_add(more);
        let others = self.claims.iter().filter(|(other, _)| **other != id);
        let candidates = others.filter_map(|(other, entry)| {
            let since = entry.waiting.since().filter(|_| entry.amount > 0)?;
            let holds = if entry.holder == asks {
                would_hold
            } else {
                self.holds(entry.holder)
            };
            (holds >= would_hold).then_some((holds, Reverse(since), *other))
        });
        candidates.max().map(|(_, _, other)| other)
    }

    fn holds(&self, holder: Holder) -> usize {
        self.holders.get(&holder).copied().unwrap_or_default()
    }

    fn end(&mut self, id: u64) {
        self.give_back(id);
        if let Some(entry) = self.claims.get(&id) {
            entry.ends.cancel();
        }
    }

    fn give_back(&mut self, id: u64) {
        let Some(entry) = self.claims.get_mut(&id) else {
            return;
        };
        let (holder, amount) = (entry.holder, std::mem::take(&mut entry.amount));
        self.held -= amount;
        self.take_from(holder, amount);
    }

    fn take_from(&mut self, holder: Holder, amount: usize) {
        if let Some(holds) = self.holders.get_mut(&holder) {
            *holds -= amount;
            if *holds == 0 {
                self.holders.remove(&holder);
            }
        }
    }

    fn pass_to(&mut self, id: u64, holder: Holder) {
        let Some(entry) = self.claims.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.holder, holder);
        let amount = entry.amount;
        if before != holder && amount > 0 {
            self.take_from(before, amount);
            *self.holders.entry(holder).or_default() += amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn holder(text: &str) -> Holder {
        Holder::at(text.parse().unwrap())
    }

    /// Claims of one each, a second apart, each waiting since it was made.
    async fn claims(shares: &Shares, who: &str, count: usize) -> Vec<Claim> {
        let mut made = Vec::new();
        for _ in 0..count {
            tokio::time::advance(Duration::from_secs(1)).await;
            let claim = shares.claim(holder(who), CancellationToken::new());
            claim.grow(1).unwrap();
            made.push(claim);
        }
        made
    }

    fn ended(claims: &[Claim]) -> Vec<usize> {
        let ended = claims.iter().enumerate();
        ended
            .filter(|(_, claim)| claim.ends.is_cancelled())
            .map(|(place, _)| place)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_alone_may_have_everything_and_at_the_bound_its_own_oldest_goes() {
        let shares = Shares::new(4);
        let alone = claims(&shares, "192.0.2.1", 6).await;

        assert_eq!(ended(&alone), [0, 1]);
        assert_eq!(shares.held(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_holder_makes_way_until_the_shares_are_equal() {
        let shares = Shares::new(4);
        let large = claims(&shares, "192.0.2.1", 4).await;
        let small = claims(&shares, "192.0.2.2", 3).await;

        assert_eq!(ended(&large), [0, 1]);
        assert_eq!(ended(&small), [0], "beyond its half it makes way itself");
        assert_eq!(shares.held(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_who_hold_as_little_the_one_that_waited_longest_goes() {
        let shares = Shares::new(3);
        let mut many = Vec::new();
        for who in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            many.extend(claims(&shares, who, 1).await);
        }
        many[0].waiting().restart();

        let newcomer = claims(&shares, "192.0.2.4", 1).await;

        assert_eq!(ended(&many), [1]);
        assert!(ended(&newcomer).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_us_is_not_ended() {
        let shares = Shares::new(2);
        let large = claims(&shares, "192.0.2.1", 2).await;
        large[0].waiting().end();
        let small = claims(&shares, "192.0.2.2", 1).await;
        assert_eq!(ended(&large), [1]);

        small[0].waiting().end();
        let third = shares.claim(holder("192.0.2.3"), CancellationToken::new());
        assert_eq!(third.grow(1), Err(Full));
        assert_eq!(large[1].grow(1), Err(Full), "what was ended takes no more");

        drop(small);
        assert_eq!(third.grow(1), Ok(()));
        drop((large, third));
        assert_eq!(shares.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_hold_more_takes_from_nobody_who_holds_less() {
        let shares = Shares::new(10);
        let small = shares.claim(holder("192.0.2.1"), CancellationToken::new());
        small.grow(3).unwrap();
        let large = shares.claim(holder("192.0.2.2"), CancellationToken::new());
        large.grow(5).unwrap();

        assert_eq!(large.grow(4), Err(Full));
        assert_eq!(small.grow(2), Ok(()));
        assert_eq!(large.grow(11), Err(Full));
        assert!(!small.ends.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_passed_to_another_counts_for_it() {
        let shares = Shares::new(3);
        let proxy = claims(&shares, "192.0.2.1", 3).await;
        for claim in &proxy[1..] {
            claim.pass_to(holder("198.51.100.1"));
        }

        let _newcomer = claims(&shares, "198.51.100.2", 1).await;

        assert_eq!(ended(&proxy), [1]);
    }

    #[test]
    fn addresses_of_one_network_hold_together_where_a_caller_owns_it() {
        assert_eq!(holder("2001:db8::1"), holder("2001:db8::ffff:1"));
        assert_ne!(holder("2001:db8::1"), holder("2001:db8:0:1::1"));
        assert_eq!(holder("::ffff:192.0.2.1"), holder("192.0.2.1"));
        assert_ne!(holder("192.0.2.1"), holder("192.0.2.2"));
    }
}
