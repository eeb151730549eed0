use super::*;

#[test]
fn what_was_superseded_is_not_handed_out() {
    let mut queues = queues([rules()]);
    for position in 1..=3 {
        queues.insert(0, item(position, 10), now(0));
    }
    queues.supersede(0, 2, now(0));
    assert_eq!(queues.open(), 2);
    queues.supersede(0, 3, now(0));
    queues.insert(0, retry(3, 10), now(0));
    assert_eq!(queues.open(), 2);
    let turns = queues.take(now(10), 64);
    assert_eq!(positions(&turns), [1, 3]);
    answer(&mut queues, &turns, None, now(10));
    queues.insert(0, item(3, 10), now(10));
    assert_eq!(positions(&queues.take(now(10), 64)), [3]);
    assert_eq!(queues.open(), 1);
}

#[test]
fn of_one_that_was_superseded_the_new_due_time_counts() {
    for (before, after) in [(10, 5), (5, 10)] {
        let mut queues = queues([rules()]);
        queues.insert(0, item(9, 0), now(0));
        queues.insert(0, item(1, before), now(0));
        queues.supersede(0, 1, now(0));
        queues.insert(0, item(1, after), now(0));
        assert_eq!(positions(&queues.take(now(0), 64)), [9]);
        assert_eq!(
            queues.oldest_due(),
            Some(at(after)),
            "{before}, then {after}"
        );
        let first = positions(&queues.take(now(5), 64));
        assert_eq!(first.is_empty(), after > 5, "{before}, then {after}");
        let rest = positions(&queues.take(now(10), 64));
        assert_eq!([first, rest].concat(), [1]);
    }
}

#[test]
fn many_superseded_ones_take_no_room() {
    let mut queues = queues([rules()]);
    for position in 0..10_000 {
        queues.insert(0, item(position, 100), now(0));
    }
    for position in 1..10_000 {
        queues.supersede(0, position, now(0));
        let rest = usize::try_from(10_000 - position).unwrap();
        assert_eq!(queues.open(), rest);
        assert!(queues.fresh_of(1) <= 2 * rest + 65);
    }
    assert_eq!(positions(&queues.take(now(100), 64)), [0]);
}

#[test]
fn a_suspect_that_was_superseded_is_not_handed_out() {
    let mut queues = queues([rules()]);
    queues.insert(0, suspect(1, 0), now(0));
    queues.supersede(0, 1, now(0));
    queues.insert(0, item(2, 0), now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [2]);
    assert_eq!(queues.open(), 1);
}

#[test]
fn a_removed_endpoint_is_forgotten_and_its_permits_come_back() {
    let mut queues = queues([rules(), rules()]);
    queues.insert(0, item(1, 0), now(0));
    queues.insert(0, suspect(2, 9), now(0));
    queues.insert(0, item(3, 9), now(0));
    let turns = queues.take(now(0), 64);
    queues.remove_endpoint(0);
    assert_eq!((queues.open(), queues.open_of(0)), (1, 0));
    assert!(queues.take(now(9), 64).is_empty());
    assert_eq!(queues.next_look(now(9)), None);

    queues.set_endpoint(0, rules(), now(9));
    let permit = queues.reserve(0, None, now(9)).unwrap();
    answer(&mut queues, &turns, UNREACHABLE, now(9));
    assert_eq!(
        (queues.open(), queues.open_of(0)),
        (1, 1),
        "the slot of another endpoint"
    );
    queues.release(&permit, None, now(9), 0.0);
    assert_eq!(queues.open(), 0);
}
