//! A bound that callers share by their address. Whoever is alone may have all of it. At the bound whoever holds the most
//! makes way, and of what it holds, what has waited for it the longest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who holds a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    holder_of: HashMap<u64, Holder>,
    shares: HashMap<Holder, Share>,
    /// Whoever holds something, by how much: a search for who makes way passes over all who hold less.
    by_amount: BTreeSet<(usize, Holder)>,
}

/// What one holder has.
#[derive(Default)]
struct Share {
    amount: usize,
    claims: BTreeMap<u64, Entry>,
}

struct Entry {
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
        let entry = Entry {
            amount: 0,
            waiting: Arc::clone(&waiting),
            ends: ends.clone(),
        };
        table.put(id, holder, entry);
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
        self.pool.table().remove(self.id);
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
    /// Nobody makes way for what is refused.
    fn grow(&mut self, id: u64, more: usize, max: usize) -> Result<(), Full> {
        let entry = self.entry(id).ok_or(Full)?;
        if entry.ends.is_cancelled() || more > max {
            return Err(Full);
        }
        let amount = entry.amount;
        let mut make_way = Vec::new();
        while self.held.saturating_add(more) > max {
            let Some(other) = self.whose_turn_to_go(id, more) else {
                for (other, amount) in make_way {
                    self.set_amount(other, amount);
                }
                return Err(Full);
            };
            make_way.push((other, self.set_amount(other, 0)));
        }
        for (other, _) in make_way {
            self.end(other);
        }
        self.set_amount(id, amount.saturating_add(more));
        Ok(())
    }

    /// Of what others than `id` wait with: of the holder who has the most, the oldest. Nobody makes way for one who would
    /// then hold more than it, but for itself.
    fn whose_turn_to_go(&self, id: u64, more: usize) -> Option<u64> {
        let asks = *self.holder_of.get(&id)?;
        let would_hold = self.holds(asks).saturating_add(more);
        let holders = self.by_amount.iter().rev().copied();
        let as_large = holders.take_while(|(holds, _)| *holds >= would_hold);
        let mut chosen = None;
        for (holds, holder) in as_large.chain([(would_hold, asks)]) {
            if chosen.is_some_and(|(most, _, _)| most > holds) {
                break;
            }
            let oldest = self.oldest_that_waits(holder, id);
            chosen = chosen.max(oldest.map(|(since, other)| (holds, since, other)));
        }
        chosen.map(|(_, _, other)| other)
    }

    /// Of what a holder has and waits with, `but` one.
    fn oldest_that_waits(&self, holder: Holder, but: u64) -> Option<(Reverse<u64>, u64)> {
        let claims = self.shares.get(&holder)?.claims.iter();
        let waits = claims.filter(|(id, entry)| **id != but && entry.amount > 0);
        waits
            .filter_map(|(id, entry)| Some((Reverse(entry.waiting.since()?), *id)))
            .max()
    }

    fn holds(&self, holder: Holder) -> usize {
        self.shares.get(&holder).map_or(0, |share| share.amount)
    }

    fn entry(&self, id: u64) -> Option<&Entry> {
        let holder = self.holder_of.get(&id)?;
        self.shares.get(holder)?.claims.get(&id)
    }

    fn end(&self, id: u64) {
        if let Some(entry) = self.entry(id) {
            entry.ends.cancel();
        }
    }

    /// Tells what the claim held before.
    fn set_amount(&mut self, id: u64, amount: usize) -> usize {
        let Some(holder) = self.holder_of.get(&id).copied() else {
            return 0;
        };
        let Some(share) = self.shares.get_mut(&holder) else {
            return 0;
        };
        let Some(entry) = share.claims.get_mut(&id) else {
            return 0;
        };
        let before = std::mem::replace(&mut entry.amount, amount);
        self.by_amount.remove(&(share.amount, holder));
        share.amount = share.amount - before + amount;
        if share.amount > 0 {
            self.by_amount.insert((share.amount, holder));
        }
        self.held = self.held - before + amount;
        before
    }

    /// The claim holds nothing yet.
    fn put(&mut self, id: u64, holder: Holder, entry: Entry) {
        self.holder_of.insert(id, holder);
        let share = self.shares.entry(holder).or_default();
        share.claims.insert(id, entry);
    }

    /// What the claim held is given back.
    fn remove(&mut self, id: u64) -> Option<Entry> {
        self.set_amount(id, 0);
        let holder = self.holder_of.remove(&id)?;
        let share = self.shares.get_mut(&holder)?;
        let entry = share.claims.remove(&id);
        if share.claims.is_empty() {
            self.shares.remove(&holder);
        }
        entry
    }

    fn pass_to(&mut self, id: u64, holder: Holder) {
        let amount = self.set_amount(id, 0);
        if let Some(entry) = self.remove(id) {
            self.put(id, holder, entry);
            self.set_amount(id, amount);
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
    async fn a_growth_that_is_refused_leaves_everybody_untouched() {
        let shares = Shares::new(4);
        let others = claims(&shares, "192.0.2.1", 4).await;
        others[3].waiting().end();
        let newcomer = shares.claim(holder("192.0.2.2"), CancellationToken::new());

        assert_eq!(newcomer.grow(3), Err(Full), "after two its share is larger");
        assert!(ended(&others).is_empty());
        assert_eq!(shares.held(), 4);

        assert_eq!(newcomer.grow(2), Ok(()));
        assert_eq!(ended(&others), [0, 1]);
        assert_eq!(shares.held(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_largest_waits_with_nothing_the_next_makes_way() {
        let shares = Shares::new(6);
        let large = claims(&shares, "192.0.2.1", 3).await;
        let next = claims(&shares, "192.0.2.2", 2).await;
        let small = claims(&shares, "192.0.2.3", 1).await;
        for claim in &large {
            claim.waiting().end();
        }

        let _newcomer = claims(&shares, "192.0.2.4", 1).await;

        assert_eq!(ended(&next), [0]);
        assert!(ended(&large).is_empty() && ended(&small).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_dropped_is_forgotten() {
        let shares = Shares::new(4);
        let made = claims(&shares, "192.0.2.1", 4).await;
        made[0].pass_to(holder("192.0.2.2"));

        drop(made);

        let table = shares.0.table();
        assert_eq!(table.held, 0);
        assert!(table.holder_of.is_empty() && table.shares.is_empty());
        assert!(table.by_amount.is_empty());
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
