use super::*;

#[test]
fn a_suspect_goes_alone_and_others_have_a_turn_between() {
    let mut queues = queues([rules(), rules()]);
    let before = queues.reserve(0, None, now(0)).unwrap();
    queues.insert(0, suspect(1, 0), now(0));
    queues.insert(0, suspect(2, 0), now(0));
    queues.insert(0, item(3, 0), now(0));
    assert!(
        queues.take(now(0), 64).is_empty(),
        "one is on its way already"
    );
    assert!(
        queues.reserve(1, None, now(0)).is_none(),
        "and no further one may join while a suspect waits"
    );
    assert_eq!(queues.next_look(now(0)), None, "only its end can help");

    assert!(queues.release(&before, GOOD, now(0), 0.0));
    let first = queues.take(now(0), 64);
    assert_eq!((positions(&first), first[0].permit.alone), (vec![1], true));
    assert!(queues.take(now(0), 64).is_empty());
    assert!(queues.reserve(0, None, now(0)).is_none());

    assert!(queues.release(&first[0].permit, GOOD, now(0), 0.0));
    let third = queues.take(now(0), 64);
    assert_eq!(positions(&third), [3]);
    assert!(queues.take(now(0), 64).is_empty());
    assert!(queues.release(&third[0].permit, GOOD, now(0), 0.0));
    assert_eq!(positions(&queues.take(now(0), 64)), [2]);
    assert_eq!(queues.open(), 1);
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
            queues.release(&permit, Some(Answer::Throttled { until }), now(0), 0.0);
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
