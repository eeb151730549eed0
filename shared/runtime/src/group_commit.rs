//! Group commit (R1): one writer takes whatever is queued, commits it as one transaction, and answers everybody.
//!
//! Nobody waits for company: a write that comes alone is committed alone, and those that arrive meanwhile form the next
//! group. Urgent writes (counts and outcomes) go before the others.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// What commits: a store's one writer. Runs on a thread of its own.
pub trait Commit: Send + 'static {
    type Write: Send + 'static;
    type Answer: Send + 'static;
    type Error: Clone + Send + 'static;

    /// Commits all writes as one transaction, durably, and answers each in order; or none of them.
    fn commit(&mut self, writes: &[Self::Write]) -> Result<Vec<Self::Answer>, Self::Error>;

    /// How much of the group's bound this write takes: its rows.
    fn weight(write: &Self::Write) -> usize;

    /// Called after each group, with its size, before the answers are given out.
    fn committed(&mut self, _weight: usize) {}
}

/// Why a write was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal<E> {
    /// The queue is full; nothing was written.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The writer has stopped; nothing was written.
    #[error("the writer has stopped")]
    Stopped,
    /// The transaction failed as a whole.
    #[error("{0}")]
    Failed(E),
}

/// The most weight (rows) of one transaction, save that a single heavier write goes alone.
const GROUP_MAX: usize = 512;

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
    normal: VecDeque<Waiting<C>>,
    weight: usize,
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
    /// Starts the writer's thread. At most `capacity` weight waits; what comes beyond is refused.
    pub fn start(name: &str, backend: C, capacity: usize) -> std::io::Result<Self> {
        let queue = Queue {
            urgent: VecDeque::new(),
            normal: VecDeque::new(),
            weight: 0,
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
        {
            let mut queue = self.shared.lock();
            if queue.stopped {
                return Err(Refusal::Stopped);
            }
            let weight = C::weight(&write);
            if urgent {
                queue.urgent.push_back(Waiting { write, answer });
            } else {
                if queue.weight + weight > self.shared.capacity && queue.weight > 0 {
                    return Err(Refusal::Overloaded);
                }
                queue.weight += weight;
                queue.normal.push_back(Waiting { write, answer });
            }
        }
        self.shared.arrived.notify_one();
        answered.await.unwrap_or(Err(Refusal::Stopped))
    }
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
        queue = shared
            .arrived
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
    }
    let (mut writes, mut answers, mut weight) = (Vec::new(), Vec::new(), 0);
    loop {
        let urgent = !queue.urgent.is_empty();
        let line = if urgent {
            &mut queue.urgent
        } else {
            &mut queue.normal
        };
        let Some(next) = line.front() else { break };
        let more = C::weight(&next.write);
        if weight + more > GROUP_MAX && weight > 0 {
            break;
        }
        let Some(Waiting { write, answer }) = line.pop_front() else {
            break;
        };
        weight += more;
        if !urgent {
            queue.weight -= more;
        }
        writes.push(write);
        answers.push(answer);
    }
    Some((writes, answers))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Commits nothing until let; tells what each group held.
    struct Gate {
        open: mpsc::Receiver<Result<(), String>>,
        groups: mpsc::Sender<Vec<u32>>,
    }

    impl Commit for Gate {
        type Write = u32;
        type Answer = u32;
        type Error = String;

        fn commit(&mut self, writes: &[u32]) -> Result<Vec<u32>, String> {
            self.groups.send(writes.to_vec()).unwrap();
            self.open.recv().unwrap()?;
            Ok(writes.iter().map(|write| write * 10).collect())
        }

        fn weight(_: &u32) -> usize {
            1
        }
    }

    type Held = (
        GroupCommit<Gate>,
        mpsc::Sender<Result<(), String>>,
        mpsc::Receiver<Vec<u32>>,
    );

    fn gate(capacity: usize) -> Held {
        let (let_through, open) = mpsc::channel();
        let (groups, seen) = mpsc::channel();
        (
            GroupCommit::start("gate", Gate { open, groups }, capacity).unwrap(),
            let_through,
            seen,
        )
    }

    async fn queued(writer: &GroupCommit<Gate>, count: usize) {
        while {
            let queue = writer.shared.lock();
            queue.urgent.len() + queue.normal.len() < count
        } {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_arrives_during_a_commit_is_the_next_group_with_the_urgent_first() {
        let (writer, let_through, seen) = gate(100);
        let first = tokio::spawn({
            let writer = writer.clone();
            async move { writer.submit(1).await }
        });
        assert_eq!(seen.recv().unwrap(), [1]);
        let late = tokio::spawn({
            let writer = writer.clone();
            async move { writer.submit(2).await }
        });
        queued(&writer, 1).await;
        let urgent = tokio::spawn({
            let writer = writer.clone();
            async move { writer.submit_urgent(3).await }
        });
        queued(&writer, 2).await;

        let_through.send(Ok(())).unwrap();
        assert_eq!(seen.recv().unwrap(), [3, 2]);
        let_through.send(Ok(())).unwrap();

        assert_eq!(first.await.unwrap(), Ok(10));
        assert_eq!(late.await.unwrap(), Ok(20));
        assert_eq!(urgent.await.unwrap(), Ok(30));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failed_commit_fails_its_group_and_not_the_next() {
        let (writer, let_through, _seen) = gate(100);
        let_through.send(Err("disk full".to_owned())).unwrap();
        let_through.send(Ok(())).unwrap();
        assert_eq!(
            writer.submit(1).await,
            Err(Refusal::Failed("disk full".to_owned()))
        );
        assert_eq!(writer.submit(2).await, Ok(20));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn beyond_its_capacity_it_refuses_at_once() {
        let (writer, let_through, seen) = gate(2);
        let held = tokio::spawn({
            let writer = writer.clone();
            async move { writer.submit(1).await }
        });
        seen.recv().unwrap();
        let waiting: Vec<_> = (2..4)
            .map(|n| {
                tokio::spawn({
                    let writer = writer.clone();
                    async move { writer.submit(n).await }
                })
            })
            .collect();
        queued(&writer, 2).await;

        assert_eq!(writer.submit(4).await, Err(Refusal::Overloaded));

        let_through.send(Ok(())).unwrap();
        let_through.send(Ok(())).unwrap();
        assert_eq!(held.await.unwrap(), Ok(10));
        for answer in waiting {
            assert!(answer.await.unwrap().is_ok());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_writer_that_panics_leaves_nobody_waiting() {
        let (writer, let_through, _seen) = gate(2);
        drop(let_through);
        let answer = tokio::time::timeout(Duration::from_secs(5), writer.submit(1))
            .await
            .unwrap();
        assert_eq!(answer, Err(Refusal::Stopped));
        assert_eq!(writer.submit(2).await, Err(Refusal::Stopped));
    }
}
