use std::sync::mpsc;
use std::time::Duration;

use tokio::task::JoinSet;

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

    /// The hundreds; below, nobody's.
    fn payer(write: &u32) -> u64 {
        u64::from(write / 100)
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

/// Submits the writes one after the other, behind a first that the gate holds.
async fn queue_up(
    writer: &GroupCommit<Gate>,
    seen: &mpsc::Receiver<Vec<u32>>,
    writes: impl IntoIterator<Item = u32>,
) -> JoinSet<Result<u32, Refusal<String>>> {
    let mut waiting = JoinSet::new();
    let mut submit = |write: u32| {
        let writer = writer.clone();
        waiting.spawn(async move { writer.submit(write).await });
    };
    submit(1);
    assert_eq!(seen.recv().unwrap(), [1]);
    for (index, write) in writes.into_iter().enumerate() {
        submit(write);
        queued(writer, index + 1).await;
    }
    waiting
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

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_with_a_long_queue_delays_another_by_one_group_and_the_urgent_by_none() {
    let (writer, let_through, seen) = gate(10_000);
    let backlog = std::iter::repeat_n(100, 2 * GROUP_MAX);
    let waiting = queue_up(&writer, &seen, backlog.chain([200])).await;
    let urgent = tokio::spawn({
        let writer = writer.clone();
        async move { writer.submit_urgent(300).await }
    });
    queued(&writer, 2 * GROUP_MAX + 2).await;

    let_through.send(Ok(())).unwrap();

    let group = seen.recv().unwrap();
    assert_eq!(group.len(), GROUP_MAX);
    assert_eq!(group[0], 300);
    assert!(group.contains(&200));
    for _ in 0..3 {
        let_through.send(Ok(())).unwrap();
    }
    assert_eq!(urgent.await.unwrap(), Ok(3000));
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_over_its_share_is_refused_while_others_are_taken() {
    let (writer, let_through, seen) = gate(8);
    let waiting = queue_up(&writer, &seen, [100, 101, 200, 2, 3, 4, 5]).await;

    assert_eq!(writer.submit(102).await, Err(Refusal::OverShare));
    let mut last = JoinSet::new();
    last.spawn({
        let writer = writer.clone();
        async move { writer.submit(201).await }
    });
    queued(&writer, 8).await;
    assert_eq!(writer.submit(300).await, Err(Refusal::Overloaded));
    assert_eq!(writer.submit(6).await, Err(Refusal::Overloaded));

    for _ in 0..2 {
        let_through.send(Ok(())).unwrap();
    }
    assert_eq!(seen.recv().unwrap(), [100, 101, 200, 201, 2, 3, 4, 5]);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
    assert!(last.join_all().await.iter().all(Result::is_ok));
}

#[test]
fn a_write_is_refused_by_its_payers_share_first_then_for_want_of_room() {
    let mut waiting = Turns::new();
    for payer in [0, 1, 2] {
        waiting.push(payer, 20, ());
    }
    for (payer, weight, expected) in [
        (0, 40, Ok(())),
        (0, 41, Err(Refusal::Overloaded)),
        (1, 5, Ok(())),
        (1, 6, Err(Refusal::OverShare)),
        (1, 41, Err(Refusal::OverShare)),
        (3, 40, Ok(())),
        (3, 41, Err(Refusal::Overloaded)),
    ] {
        let admitted = admit::<(), String>(&waiting, payer, weight, 100);
        assert_eq!(admitted, expected, "{weight} of {payer}");
    }
    let admitted = admit::<(), String>(&Turns::new(), 1, 1000, 100);
    assert_eq!(admitted, Ok(()));
}
