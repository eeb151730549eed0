use super::*;

#[test]
fn an_open_breaker_holds_all_then_probes_once_then_ramps_up() {
    let mut queues = queues([rules(), rules()]);
    trip(&mut queues, 0, now(0));
    for position in 1..=30 {
        queues.insert(0, item(position, 0), now(0));
    }
    queues.insert(1, item(99, 0), now(0));
    assert_eq!(positions(&queues.take(now(0), 64)), [99]);
    assert!(queues.reserve(0, None, now(4)).is_none());
    assert_eq!(queues.next_look(now(1)), Some(Duration::from_secs(4)));
    assert_eq!((queues.breakers_open(), queues.fresh_of(1)), (1, 0));

    let probe = queues.take(now(5), 64);
    assert_eq!(positions(&probe), [1]);
    assert!(probe[0].permit.probe);
    assert_eq!(queues.breaker(0), "half_open");
    assert_eq!(queues.next_look(now(6)), None, "only the probe can help");
    answer(&mut queues, &probe, GOOD, now(6));

    // A strained endpoint has a cap of five: from four at once it is closed.
    for count in [1, 2, 4, 5] {
        let turns = queues.take(now(7), 64);
        assert_eq!(turns.len(), count);
        answer(&mut queues, &turns[..1], GOOD, now(7));
        answer(&mut queues, &turns[1..], None, now(7));
    }
    assert_eq!(queues.breaker(0), "closed");
}

#[test]
fn a_probe_is_another_delivery_of_another_kind_than_the_last_where_one_is_due() {
    let of = |kind, position, due| Item {
        kind: Kind::of(kind),
        ..item(position, due)
    };
    let mut queues = queues([rules()]);
    trip(&mut queues, 0, now(0));
    for position in 0..80 {
        queues.insert(0, of("order.paid", position, 0), now(0));
    }
    queues.insert(0, of("order.sent", 80, 1), now(1));
    let probe = |queues: &mut Queues, second| {
        let turns = queues.take(now(second), 64);
        answer(queues, &turns, FAILED, now(second));
        positions(&turns)
    };
    assert_eq!(probe(&mut queues, 5), [0]);
    assert_eq!(probe(&mut queues, 15), [80]);
    assert_eq!(probe(&mut queues, 35), [1]);
    // Nothing of another kind is due; it comes back as the first, and is not the next.
    queues.insert(0, of("order.paid", 1, 0), now(36));
    queues.insert(0, of("order.sent", 80, 999), now(36));
    assert_eq!(probe(&mut queues, 75), [2]);
    queues.supersede(0, 1, now(76));
    for position in 3..80 {
        queues.supersede(0, position, now(76));
    }
    queues.insert(0, of("order.paid", 2, 0), now(76));
    assert_eq!(probe(&mut queues, 155), [2], "it is all there is");
    assert_eq!(queues.open(), 1);
}

#[test]
fn a_probe_of_another_kind_breaks_no_line() {
    let strict = Rules {
        strict: true,
        ..rules()
    };
    let of = |kind, position: Position| Item {
        kind: Kind::of(kind),
        place: Some(Place {
            line: position % 2,
            order_at: position,
            started: false,
        }),
        ..item(position, 0)
    };
    let mut queues = queues([strict]);
    trip(&mut queues, 0, now(0));
    for (position, kind) in [(0, "a"), (1, "a"), (2, "b"), (3, "b")] {
        queues.insert(0, of(kind, position), now(0));
    }
    let first = queues.take(now(5), 64);
    assert_eq!(positions(&first), [0]);
    answer(&mut queues, &first, FAILED, now(5));
    assert_eq!(
        positions(&queues.take(now(15), 64)),
        [1],
        "2 is behind 0, 3 behind 1"
    );
}

#[test]
fn the_probe_does_not_wait_for_what_still_hangs() {
    let mut queues = queues([rules()]);
    (1..=10).for_each(|position| queues.insert(0, item(position, 0), now(0)));
    let turns = queues.take(now(0), 64);
    answer(&mut queues, &turns[..3], UNREACHABLE, now(0));
    queues.insert(0, item(11, 0), now(0));
    let probe = queues.take(now(5), 64);
    assert_eq!(positions(&probe), [11]);
    answer(&mut queues, &turns[3..], UNREACHABLE, now(6));
    assert_eq!(
        queues.breaker(0),
        "half_open",
        "those were started before it opened"
    );
    answer(&mut queues, &probe, FAILED, now(6));
    assert_eq!(queues.breaker(0), "open");
}

#[test]
fn one_that_is_presumed_well_needs_more_than_three_refusals() {
    let mut queues = queues([rules()]);
    queues.presume_well(now(0));
    for _ in 0..14 {
        let permit = queues.reserve(0, None, now(1)).unwrap();
        queues.release(&permit, UNREACHABLE, now(1), 0.0);
    }
    assert_eq!(queues.breaker(0), "closed");
    let permit = queues.reserve(0, None, now(1)).unwrap();
    queues.release(&permit, UNREACHABLE, now(1), 0.0);
    assert_eq!(queues.breaker(0), "open");
}

#[test]
fn one_that_must_be_probed_soon_is_held_by_no_breaker_and_no_pause_for_longer() {
    let pages = Rules {
        probe_within: Some(Duration::from_secs(15)),
        ..rules()
    };
    let mut queues = queues([pages]);
    trip(&mut queues, 0, now(0));
    (0..99).for_each(|position| queues.insert(0, item(position, 0), now(0)));
    let mut began = now(0);
    for _ in 0..20 {
        let wait = queues.next_look(began).unwrap();
        assert!(wait <= Duration::from_secs(15), "{wait:?}");
        began = later(began, u64::try_from(wait.as_millis()).unwrap());
        let probe = queues.take(began, 64);
        assert_eq!(probe.len(), 1);
        // It hangs, and that is a part of the time.
        let hung = later(began, 9_000);
        answer(&mut queues, &probe, UNREACHABLE, hung);
        assert!(queues.next_look(hung).unwrap() <= Duration::from_secs(6));
        began = hung;
    }

    let wait = queues.next_look(began).unwrap();
    began = later(began, u64::try_from(wait.as_millis()).unwrap());
    let probe = queues.take(began, 64);
    let until = Some(at(999_999));
    let asked = Some(Feedback::Throttled { until });
    answer(&mut queues, &probe, asked, began);
    assert_eq!(queues.next_look(began), Some(Duration::from_secs(15)));
}

#[test]
fn an_endpoint_that_is_enabled_again_is_probed_at_once() {
    let mut queues = queues([rules()]);
    trip(&mut queues, 0, now(0));
    let disabled = Rules {
        enabled: false,
        ..rules()
    };
    queues.set_endpoint(0, disabled, now(0));
    queues.insert(0, item(1, 0), now(0));
    assert!(queues.take(now(1), 64).is_empty());
    assert_eq!(queues.next_look(now(1)), None);
    assert!(queues.reserve(0, None, now(1)).is_none());

    queues.set_endpoint(0, rules(), now(1));

    let turns = queues.take(now(1), 64);
    assert_eq!(positions(&turns), [1]);
    assert!(turns[0].permit.probe);
}

#[test]
fn a_retry_after_pauses_for_as_long_as_it_asks_and_an_hour_at_most() {
    for (asked, paused) in [(30, 30), (3_600, 3_600), (86_400, 3_600)] {
        let mut queues = queues([rules(), rules()]);
        let permit = queues.reserve(0, None, now(0)).unwrap();
        queues.insert(0, item(1, 0), now(0));
        queues.insert(1, item(2, 0), now(0));
        let until = Some(at(asked));
        queues.release(&permit, Some(Feedback::Throttled { until }), now(0), 0.0);
        assert_eq!(positions(&queues.take(now(0), 64)), [2]);
        assert_eq!(queues.next_look(now(0)), Some(Duration::from_secs(paused)));
        assert!(queues.take(now(paused - 1), 64).is_empty());
        assert!(queues.reserve(0, None, now(paused - 1)).is_none());
        assert_eq!(positions(&queues.take(now(paused), 64)), [1]);
        assert_eq!(queues.breaker(0), "closed");
    }
}

#[test]
fn a_rate_limit_holds_reservations_too() {
    let slow = Rules {
        rate_per_s: Some(2),
        ..rules()
    };
    let mut queues = queues([slow]);
    assert!(queues.reserve(0, None, now(1)).is_some());
    assert!(queues.reserve(0, None, now(1)).is_none());
    for position in 1..=3 {
        queues.insert(0, item(position, 0), now(1));
    }
    assert!(queues.take(now(1), 64).is_empty());
    assert_eq!(queues.next_look(now(1)), Some(Duration::from_millis(500)));
    for (millis, position) in [(500, 1), (1_000, 2), (1_500, 3)] {
        let turns = queues.take(later(now(1), millis), 64);
        assert_eq!(positions(&turns), [position]);
    }
    assert_eq!(queues.next_look(now(3)), None);
}

#[test]
fn the_cap_is_earned_and_halved_under_strain() {
    let wide = Rules {
        max_in_flight: 64,
        ..rules()
    };
    let mut queues = queues([wide]);
    (0..500).for_each(|position| queues.insert(0, item(position, 0), now(0)));
    let turns = queues.take(now(0), 100);
    assert_eq!(turns.len(), 16);
    answer(&mut queues, &turns, GOOD, now(0));
    let turns = queues.take(now(0), 100);
    assert_eq!(turns.len(), 18);
    let throttled = Some(Feedback::Throttled { until: None });
    answer(&mut queues, &turns, throttled, now(0));
    assert_eq!(queues.take(now(0), 100).len(), 9);
}

#[test]
fn what_it_waits_for_is_the_first_that_holds_it() {
    let strict = Rules {
        strict: true,
        ..rules()
    };
    let mut queues = queues([strict.clone()]);
    let head = Place {
        line: 7,
        order_at: 1,
        started: false,
    };
    queues.insert(
        0,
        Item {
            place: Some(head),
            ..item(1, 0)
        },
        now(0),
    );
    let ask =
        |queues: &Queues, due, position| queues.waiting_for(0, at(due), position, Some(7), now(10));
    assert_eq!(ask(&queues, 10, 1), WaitingFor::Slot);
    assert_eq!(ask(&queues, 11, 1), WaitingFor::Schedule);
    assert_eq!(ask(&queues, 11, 2), WaitingFor::Order);

    let rate_per_s = Some(1);
    let limited = Rules {
        rate_per_s,
        ..strict
    };
    queues.set_endpoint(0, limited, now(10));
    let permit = queues.reserve(0, Some(8), now(10));
    assert!(permit.is_none(), "one that is due waits before it");
    queues.supersede(0, 1, now(10));
    let permit = queues.reserve(0, Some(8), now(10)).unwrap();
    queues.insert(
        0,
        Item {
            place: Some(head),
            ..item(1, 0)
        },
        now(0),
    );
    assert_eq!(ask(&queues, 10, 1), WaitingFor::Rate);
    queues.set_endpoint(0, strict.clone(), now(10));

    let throttled = Feedback::Throttled {
        until: Some(at(20)),
    };
    queues.release(&permit, Some(throttled), now(10), 0.0);
    assert_eq!(ask(&queues, 10, 1), WaitingFor::RetryAfter);
    assert_eq!(ask(&queues, 11, 1), WaitingFor::Schedule);
    let enabled = false;
    let disabled = Rules { enabled, ..strict };
    queues.set_endpoint(0, disabled, now(10));
    assert_eq!(ask(&queues, 11, 2), WaitingFor::Disabled);
    queues.set_endpoint(0, strict, now(10));
    queues.supersede(0, 1, now(10));
    trip(&mut queues, 0, now(10));
    queues.insert(
        0,
        Item {
            place: Some(head),
            ..item(1, 0)
        },
        now(10),
    );
    assert_eq!(queues.take(now(15), 64).len(), 1);
    let ask = |line| queues.waiting_for(0, at(0), 5, Some(line), now(15));
    assert_eq!((ask(7), ask(9)), (WaitingFor::Order, WaitingFor::Breaker));
}

#[test]
fn fresh_work_is_what_could_be_done_now() {
    let of = |client| Rules { client, ..rules() };
    let mut queues = queues([of(1), of(1), of(1), of(2)]);
    for endpoint in 0..4 {
        queues.insert(endpoint, item(10 * endpoint, 5), now(0));
        queues.insert(endpoint, retry(10 * endpoint + 1, 5), now(0));
    }
    assert_eq!(
        (queues.fresh_of(1), queues.fresh_of(2), queues.fresh_of(3)),
        (3, 1, 0)
    );
    trip(&mut queues, 0, now(0));
    let permit = queues.reserve(1, None, now(0)).unwrap();
    let until = Some(at(60));
    queues.release(&permit, Some(Feedback::Throttled { until }), now(0), 0.0);
    assert_eq!(queues.fresh_of(1), 1);
}

#[test]
fn what_gathered_while_an_endpoint_was_held_is_no_fresh_work_until_it_is_gone() {
    let mut queues = queues([rules()]);
    let disabled = Rules {
        enabled: false,
        ..rules()
    };
    queues.set_endpoint(0, disabled, now(0));
    (0..10).for_each(|position| queues.insert(0, item(position, 0), now(0)));
    assert_eq!(queues.fresh_of(rules().client), 0);
    queues.set_endpoint(0, rules(), now(0));
    assert_eq!(queues.fresh_of(rules().client), 0);
    queues.insert(0, item(10, 0), now(0));
    assert_eq!(queues.fresh_of(rules().client), 1);
    let turns = queues.take(now(0), 3);
    answer(&mut queues, &turns, GOOD, now(0));
    queues.insert(0, item(11, 0), now(0));
    assert_eq!(queues.fresh_of(rules().client), 2);
}

#[test]
fn what_waits_in_a_strict_line_is_fresh_work_while_the_line_moves() {
    let strict = Rules {
        strict: true,
        ..rules()
    };
    let mut queues = queues([strict]);
    let of_line = |position: Position, started: bool, due| Item {
        place: Some(Place {
            line: position % 2,
            order_at: position,
            started,
        }),
        class: if started { Class::Retry } else { Class::First },
        ..item(position, due)
    };
    let fresh = |queues: &Queues| queues.fresh_of(rules().client);
    for position in 0..10 {
        queues.insert(0, of_line(position, false, 0), now(0));
    }
    assert_eq!(fresh(&queues), 10);
    let turns = queues.take(now(0), 64);
    assert_eq!(fresh(&queues), 8, "two are on their way");

    answer(&mut queues, &turns, FAILED, now(0));
    queues.insert(0, of_line(0, true, 60), now(0));
    queues.end(0, 1, 1, true, now(0));
    assert_eq!(
        fresh(&queues),
        0,
        "one line waits for a retry, one is blocked"
    );
    queues.insert(0, of_line(10, false, 0), now(0));
    let retry = queues.take(now(60), 64);
    assert_eq!(positions(&retry), [0]);
    assert_eq!(fresh(&queues), 0, "it may fail again");

    answer(&mut queues, &retry, GOOD, now(60));
    queues.end(0, 0, 0, false, now(60));
    assert_eq!(fresh(&queues), 4, "what came meanwhile is none");
}

#[test]
fn an_endpoint_may_move_to_another_client() {
    let mut queues = queues([rules()]);
    queues.insert(0, item(1, 0), now(0));
    queues.set_endpoint(
        0,
        Rules {
            client: 2,
            ..rules()
        },
        now(0),
    );
    assert_eq!((queues.fresh_of(1), queues.fresh_of(2)), (0, 1));
    assert_eq!(positions(&queues.take(now(0), 64)), [1]);
}
