use super::*;

#[test]
fn a_suspect_goes_alone_at_its_endpoint_and_others_have_a_turn_between() {
    let mut queues = queues([rules()]);
    let before = queues.reserve(0, None, now(0)).unwrap();
    for position in [1, 2] {
        queues.insert(0, suspect(position, 0), now(0));
    }
    for position in 3..=14 {
        queues.insert(0, item(position, 0), now(0));
    }
    assert!(
        queues.take(now(0), 64).is_empty(),
        "one is on its way already"
    );
    assert!(queues.reserve(0, None, now(0)).is_none());
    assert_eq!(queues.next_look(now(0)), None, "only its end can help");

    assert!(queues.release(&before, GOOD, now(0), 0.0));
    let first = queues.take(now(0), 64);
    assert_eq!((positions(&first), first[0].permit.alone), (vec![1], true));
    assert!(queues.take(now(0), 64).is_empty());
    assert!(queues.reserve(0, None, now(0)).is_none());

    assert!(queues.release(&first[0].permit, GOOD, now(0), 0.0));
    let others = queues.take(now(0), 64);
    assert_eq!(positions(&others), Vec::from_iter(3..=12), "a capful");
    assert!(others.iter().all(|turn| !turn.permit.alone));
    answer(&mut queues, &others[1..], GOOD, now(0));
    assert!(
        queues.take(now(0), 64).is_empty(),
        "the other suspect waits for the last"
    );
    answer(&mut queues, &others[..1], GOOD, now(0));
    let second = queues.take(now(0), 64);
    assert_eq!(
        (positions(&second), second[0].permit.alone),
        (vec![2], true)
    );
    answer(&mut queues, &second, GOOD, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [13, 14]);
}

#[test]
fn suspects_keep_nobody_elses_endpoint_waiting() {
    let mut queues = queues([rules(), rules(), rules()]);
    let hangs = queues.reserve(0, None, now(0)).unwrap();
    queues.insert(0, suspect(1, 0), now(0));
    queues.insert(1, suspect(2, 0), now(0));
    queues.insert(2, item(3, 0), now(0));

    let turns = queues.take(now(0), 64);
    assert_eq!(positions(&turns), [2, 3]);
    assert!(turns[0].permit.alone && !turns[1].permit.alone);
    assert!(queues.reserve(2, None, now(0)).is_some());
    assert!(queues.reserve(1, None, now(0)).is_none());
    assert!(queues.reserve(0, None, now(0)).is_none());

    queues.release(&hangs, UNREACHABLE, now(0), 0.0);
    assert_eq!(positions(&queues.take(now(0), 64)), [1]);
}

#[test]
fn a_suspect_of_a_held_endpoint_stops_nobody() {
    type Hold = fn(&mut Queues);
    let holds: [(&str, Hold); 4] = [
        ("disabled", |queues| {
            let enabled = false;
            queues.set_endpoint(0, Rules { enabled, ..rules() }, now(0));
        }),
        ("its breaker is open", |queues| trip(queues, 0, now(0))),
        ("paused", |queues| {
            let permit = queues.reserve(0, None, now(0)).unwrap();
            let until = Some(at(60));
            queues.release(&permit, Some(Feedback::Throttled { until }), now(0), 0.0);
        }),
        ("removed", |queues| queues.remove_endpoint(0)),
    ];
    for (why, hold) in holds {
        for first in [true, false] {
            let mut queues = queues([rules(), rules()]);
            if first {
                hold(&mut queues);
            }
            queues.insert(0, suspect(1, 1), now(0));
            if !first {
                hold(&mut queues);
            }
            let permit = queues.reserve(1, None, now(2));
            assert!(permit.is_some(), "{why}");
            queues.insert(1, item(2, 0), now(2));
            assert_eq!(positions(&queues.take(now(2), 64)), [2], "{why}");
        }
    }
}

#[test]
fn a_suspect_goes_when_its_endpoint_is_held_no_more() {
    let mut queues = queues([rules()]);
    trip(&mut queues, 0, now(0));
    queues.insert(0, suspect(1, 0), now(0));
    assert!(queues.take(now(4), 64).is_empty());
    let probe = queues.take(now(5), 64);
    assert_eq!(positions(&probe), [1]);
    assert!(probe[0].permit.alone && probe[0].permit.probe);
}

#[test]
fn a_suspect_at_the_head_of_a_line_goes_alone() {
    let strict = Rules {
        strict: true,
        ..rules()
    };
    let mut queues = queues([strict]);
    let place = |order_at| {
        Some(Place {
            line: 1,
            order_at,
            started: order_at == 1,
        })
    };
    queues.insert(
        0,
        Item {
            place: place(2),
            ..item(2, 0)
        },
        now(0),
    );
    queues.insert(
        0,
        Item {
            place: place(1),
            ..suspect(1, 0)
        },
        now(0),
    );
    assert_eq!(queues.open(), 2);
    let turns = queues.take(now(0), 64);
    assert_eq!((positions(&turns), turns[0].permit.alone), (vec![1], true));
    answer(&mut queues, &turns, GOOD, now(0));
    assert!(queues.take(now(0), 64).is_empty());
    queues.end(0, 1, 1, false, now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [2]);
}

#[test]
fn a_suspect_keeps_no_probe_waiting_for_those_that_hang() {
    let hanging = || {
        let mut queues = queues([rules()]);
        let hangs: Vec<_> = (0..4)
            .map(|_| queues.reserve(0, None, now(0)).unwrap())
            .collect();
        trip(&mut queues, 0, now(0));
        queues.insert(0, suspect(1, 0), now(0));
        (queues, hangs)
    };

    let (mut queues, _hangs) = hanging();
    queues.insert(0, item(2, 0), now(0));
    let probe = queues.take(now(5), 64);
    assert_eq!(positions(&probe), [2], "another goes in its stead");
    assert!(probe[0].permit.probe && !probe[0].permit.alone);

    let (mut queues, hangs) = hanging();
    let probe = queues.take(now(5), 64);
    assert_eq!(positions(&probe), [1], "no other is due");
    assert!(probe[0].permit.probe && probe[0].permit.alone);
    queues.insert(0, item(2, 0), now(5));
    for permit in &hangs {
        queues.release(permit, UNREACHABLE, now(6), 0.0);
    }
    assert!(queues.take(now(6), 64).is_empty(), "nothing joins it");
    answer(&mut queues, &probe, GOOD, now(6));
    assert_eq!(positions(&queues.take(now(6), 64)), [2]);
}
