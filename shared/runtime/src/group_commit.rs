//! Group commit (R1): one writer takes whatever is queued, commits it as one transaction, and answers everybody.
//!
//! Nobody waits for company: a write that comes alone is committed alone, and those that arrive meanwhile form the next
//! group. Urgent writes (counts and outcomes) go before the others; the others take turns by payer, so that nobody waits
//! behind another's backlog.

mod turns;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use turns::Turns;

/// What commits: a store's one writer. Runs on a thread of its own.
pub trait Commit: Send + 'static {
    type Write: Send + 'static;
    type Answer: Send + 'static;
    type Error: Clone + Send + 'static;

    /// Commits all writes as one transaction, durably, and answers each in order; or none of them.
    fn commit(&mut self, writes: &[Self::Write]) -> Result<Vec<Self::Answer>, Self::Error>;

    /// How much of the group's bound this write takes: its rows.
    fn weight(write: &Self::Write) -> usize;

    /// Whose turn a write that is not urgent takes: a client. Writes of one payer are committed in the order in which they
    /// came, those of different payers in turn. A payer may hold a quarter of the capacity; 0, for writes that are
    /// nobody's, all of it.
    fn payer(_write: &Self::Write) -> u64 {
        NOBODY
    }

    /// Called after each group, with its size, before the answers are given out.
    fn committed(&mut self, _weight: usize) {}
}

/// Why a write was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal<E> {
    /// The queue is full; nothing was written.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The payer's share of the queue is full, whatever room there is for others; nothing was written.
    #[error("too many writes of this payer are waiting")]
    OverShare,
    /// The writer has stopped; nothing was written.
    #[error("the writer has stopped")]
    Stopped,
    /// The transaction failed as a whole.
    #[error("{0}")]
    Failed(E),
}

/// The most weight (rows) of one transaction, save that a single heavier write goes alone.
const GROUP_MAX: usize = 512;
/// The payer of what no client pays for.
const NOBODY: u64 = 0;
/// One payer may hold one part in so many of the capacity, so that the others find room.
const SHARES: usize = 4;

/// The way to the writer. Dropping the last clone stops it, after what is queued.
pub struct GroupCommit<C: Commit> {
    shared: Arc<Shared<C>>,
    _stop: Arc<StopOnDrop<C>>,
}

impl<C: Commit> Clone for GroupCommit<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            _stop: Arc::clone(&self._stop),
        }
    }
}

struct Shared<C: Commit> {
    queue: Mutex<Queue<C>>,
    arrived: Condvar,
    capacity: usize,
}

struct Queue<C: Commit> {
    urgent: VecDeque<Waiting<C>>,
    normal: Turns<Waiting<C>>,
    /// The writer sleeps until it is woken.
    idle: bool,
    stopped: bool,
}

struct Waiting<C: Commit> {
    write: C::Write,
    answer: oneshot::Sender<Result<C::Answer, Refusal<C::Error>>>,
}

struct StopOnDrop<C: Commit> {
    shared: Arc<Shared<C>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl<C: Commit> Drop for StopOnDrop<C> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.arrived.notify_one();
        if let Some(thread) = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            // A writer that panicked has told so in the log.
            let _ended = thread.join();
        }
    }
}

impl<C: Commit> Shared<C> {
    /// A panic of the writer between two field updates cannot happen: nothing under the lock can panic.
    fn lock(&self) -> MutexGuard<'_, Queue<C>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Commit> GroupCommit<C> {
    /// Starts the writer's thread. At most `capacity` weight waits, of one payer a quarter of it; what comes beyond is
    /// refused.
    pub fn start(name: &str, backend: C, capacity: usize) -> std::io::Result<Self> {
        let queue = Queue {
            urgent: VecDeque::new(),
            normal: Turns::new(),
            idle: false,
            stopped: false,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            arrived: Condvar::new(),
            capacity,
        });
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let _closed = CloseOnExit(&shared);
                run(backend, &shared);
            }
        })?;
        let stop = StopOnDrop {
            shared: Arc::clone(&shared),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self {
            shared,
            _stop: Arc::new(stop),
        })
    }

    /// Commits the write with whatever else is queued. Durable on return.
    pub async fn submit(&self, write: C::Write) -> Result<C::Answer, Refusal<C::Error>> {
        self.enqueue(write, false).await
    }

    /// As [`submit`](Self::submit), ahead of what is not urgent, and never refused for want of room: who holds counts and
    /// outcomes is bounded elsewhere.
    pub async fn submit_urgent(&self, write: C::Write) -> Result<C::Answer, Refusal<C::Error>> {
        self.enqueue(write, true).await
    }

    async fn enqueue(&self, write: C::Write, urgent: bool) -> Result<C::Answer, Refusal<C::Error>> {
        let (answer, answered) = oneshot::channel();
        let sleeps = {
            let mut queue = self.shared.lock();
            if queue.stopped {
                return Err(Refusal::Stopped);
            }
            let weight = C::weight(&write);
            if urgent {
                queue.urgent.push_back(Waiting { write, answer });
            } else {
                let payer = C::payer(&write);
                admit(&queue.normal, payer, weight, self.shared.capacity)?;
                queue.normal.push(payer, weight, Waiting { write, answer });
            }
            std::mem::take(&mut queue.idle)
        };
        // A writer at work looks by itself, and to wake it is a system call.
        if sleeps {
            self.shared.arrived.notify_one();
        }
        answered.await.unwrap_or(Err(Refusal::Stopped))
    }
}

/// A write heavier than its bound is taken where nothing else waits: it would never find room.
fn admit<W, E>(
    waiting: &Turns<W>,
    payer: u64,
    weight: usize,
    capacity: usize,
) -> Result<(), Refusal<E>> {
    let beyond = |held: usize, bound: usize| held > 0 && held + weight > bound;
    if payer != NOBODY && beyond(waiting.weight_of(payer), capacity / SHARES) {
        return Err(Refusal::OverShare);
    }
    if beyond(waiting.weight(), capacity) {
        return Err(Refusal::Overloaded);
    }
    Ok(())
}

/// However the writer ends, nobody waits for it any more.
struct CloseOnExit<'a, C: Commit>(&'a Shared<C>);

impl<C: Commit> Drop for CloseOnExit<'_, C> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.stopped = true;
        queue.urgent.clear();
        queue.normal.clear();
    }
}

fn run<C: Commit>(mut backend: C, shared: &Shared<C>) {
    while let Some((writes, answers)) = next_group(shared) {
        let weight = writes.iter().map(C::weight).sum();
        match backend.commit(&writes) {
            Ok(results) => {
                backend.committed(weight);
                for (answer, result) in answers.into_iter().zip(results) {
                    // Nobody waits for an answer whose request was given up; the write stays.
                    let _unheard = answer.send(Ok(result));
                }
            }
            Err(fault) => {
                for answer in answers {
                    let _unheard = answer.send(Err(Refusal::Failed(fault.clone())));
                }
            }
        }
    }
}

type Group<C> = (
    Vec<<C as Commit>::Write>,
    Vec<oneshot::Sender<Result<<C as Commit>::Answer, Refusal<<C as Commit>::Error>>>>,
);

/// What is queued now, urgent first, up to the bound; waits while nothing is. `None` when stopped and empty.
fn next_group<C: Commit>(shared: &Shared<C>) -> Option<Group<C>> {
    let mut queue = shared.lock();
    while queue.urgent.is_empty() && queue.normal.is_empty() {
        if queue.stopped {
            return None;
        }
        queue.idle = true;
        queue = shared
            .arrived
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
    }
    let (mut writes, mut answers, mut weight) = (Vec::new(), Vec::new(), 0);
    loop {
        let urgent = queue.urgent.front().map(|next| C::weight(&next.write));
        let Some(more) = urgent.or_else(|| queue.normal.next_weight()) else {
            break;
        };
        if weight + more > GROUP_MAX && weight > 0 {
            break;
        }
        let next = match urgent {
            Some(_) => queue.urgent.pop_front(),
            None => queue.normal.pop(),
        };
        let Some(Waiting { write, answer }) = next else {
            break;
        };
        weight += more;
        writes.push(write);
        answers.push(answer);
    }
    Some((writes, answers))
}

#[cfg(test)]
mod tests;
