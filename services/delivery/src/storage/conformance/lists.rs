//! Lists, newest first.

use super::*;
use crate::domain::transition::ExhaustReason;

fn all() -> Filter {
    Filter {
        limit: 10,
        ..Filter::default()
    }
}

/// What two clients have: an event at each of the seconds 10, 20, …
struct Shelf {
    acme: Endpoint,
    delivered: Position,
    exhausted: Position,
    failed: Position,
    elsewhere: Position,
    waiting: Position,
}

async fn shelf(storage: &dyn Storage) -> Shelf {
    let epoch = own(storage).await;
    let acme = register(storage, "acme").await;
    let second = register(storage, "acme").await;
    let globex = register(storage, "globex").await;
    let made = async |endpoint: &Endpoint, key: &str, second: i64, state: Option<State>| {
        let plan = seen(storage, &endpoint.client_id).await;
        let accept = accept_of(&endpoint.client_id, plan, "t", &[endpoint.position]);
        let accept = Accept {
            now: at(second),
            ..keyed(accept, key, at(1_000))
        };
        let position = take(storage, accept).await + 1;
        if let Some(state) = state {
            run(storage, epoch, position, state, at(second)).await;
        }
        position
    };
    let poison = Some(State::Exhausted(ExhaustReason::Poison));
    Shelf {
        delivered: made(&acme, "k1", 10, Some(State::Delivered)).await,
        exhausted: made(&acme, "k2", 20, poison).await,
        failed: made(&second, "k3", 30, Some(State::Failed)).await,
        elsewhere: made(&globex, "k1", 40, Some(State::Failed)).await,
        waiting: made(&acme, "k5", 50, None).await,
        acme,
    }
}

/// Filters, and what of the shelf they leave.
fn filters(shelf: &Shelf) -> Vec<(Filter, Vec<Position>)> {
    let Shelf {
        acme,
        delivered,
        exhausted,
        failed,
        elsewhere,
        waiting,
    } = shelf;
    let (delivered, exhausted, failed) = (*delivered, *exhausted, *failed);
    let (elsewhere, waiting) = (*elsewhere, *waiting);
    let text = |text: &str| Some(text.to_owned());
    let acmes = || Filter {
        client_id: text("acme"),
        ..all()
    };
    let endpoints = || Filter {
        endpoint_id: text(acme.endpoint_id.as_str()),
        ..all()
    };
    let status = |status: Status, filter: Filter| Filter {
        status: Some(status),
        ..filter
    };
    vec![
        (
            all(),
            vec![waiting, elsewhere, failed, exhausted, delivered],
        ),
        (status(Status::Pending, all()), vec![waiting]),
        (status(Status::Failed, all()), vec![elsewhere, failed]),
        (status(Status::Exhausted, all()), vec![exhausted]),
        (status(Status::Delivered, all()), vec![delivered]),
        (status(Status::Skipped, all()), vec![]),
        (acmes(), vec![waiting, failed, exhausted, delivered]),
        (status(Status::Failed, acmes()), vec![failed]),
        (status(Status::Pending, acmes()), vec![waiting]),
        (status(Status::Delivered, acmes()), vec![delivered]),
        (endpoints(), vec![waiting, exhausted, delivered]),
        (status(Status::Exhausted, endpoints()), vec![exhausted]),
        (status(Status::Failed, endpoints()), vec![]),
        (status(Status::Pending, endpoints()), vec![waiting]),
        (
            Filter {
                idempotency_key: text("k1"),
                ..all()
            },
            vec![elsewhere, delivered],
        ),
        (
            Filter {
                idempotency_key: text("k1"),
                ..acmes()
            },
            vec![delivered],
        ),
        (
            Filter {
                idempotency_key: text("k1"),
                status: Some(Status::Failed),
                ..acmes()
            },
            vec![],
        ),
        (
            Filter {
                idempotency_key: text("k9"),
                ..acmes()
            },
            vec![],
        ),
        (
            Filter {
                code: text("503"),
                ..all()
            },
            vec![elsewhere, failed, exhausted],
        ),
        (
            Filter {
                code: text("202"),
                ..acmes()
            },
            vec![delivered],
        ),
        (
            Filter {
                since: Some(at(20)),
                until: Some(at(40)),
                ..all()
            },
            vec![failed, exhausted],
        ),
        (
            Filter {
                since: Some(at(20)),
                ..acmes()
            },
            vec![waiting, failed, exhausted],
        ),
        (
            Filter {
                until: Some(at(20)),
                ..endpoints()
            },
            vec![delivered],
        ),
    ]
}

pub(super) async fn deliveries_are_listed_newest_first_and_filtered(storage: &dyn Storage) {
    let shelf = shelf(storage).await;
    for (filter, expected) in filters(&shelf) {
        let page = storage.deliveries(LANE, filter.clone()).await.unwrap();
        let found: Vec<Position> = page.rows.iter().map(|row| row.position).collect();
        assert_eq!(found, expected, "{filter:?}");
        assert_eq!(page.next, None, "{filter:?}");
    }

    let older = Filter {
        before: Some(shelf.waiting),
        limit: 1,
        ..all()
    };
    let page = storage.deliveries(LANE, older).await.unwrap();
    assert_eq!(page.rows[0].position, shelf.elsewhere);
    assert_eq!(page.next, Some(shelf.elsewhere));
    assert_eq!(&*page.rows[0].client_id, "globex");
    assert_eq!(page.rows[0].idempotency_key.as_deref(), Some("k1"));
}

pub(super) async fn a_name_that_stands_for_nothing_lists_nothing(storage: &dyn Storage) {
    let shelf = shelf(storage).await;
    let of_another = Filter {
        client_id: Some("globex".to_owned()),
        endpoint_id: Some(shelf.acme.endpoint_id.as_str().to_owned()),
        ..all()
    };
    let unknown = Filter {
        client_id: Some("nobody".to_owned()),
        ..all()
    };
    let no_endpoint = Filter {
        endpoint_id: Some("ep_9".to_owned()),
        ..all()
    };
    for filter in [of_another, unknown, no_endpoint] {
        let deliveries = storage.deliveries(LANE, filter.clone()).await;
        assert_eq!(deliveries, Ok(Page::default()), "{filter:?}");
        let events = storage.events(LANE, filter.clone()).await;
        assert_eq!(events, Ok(Page::default()), "{filter:?}");
    }
}

pub(super) async fn events_are_listed_newest_first_with_their_counts(storage: &dyn Storage) {
    let shelf = shelf(storage).await;
    // Each event of the shelf has one delivery, at the next position.
    for (filter, expected) in filters(&shelf) {
        let page = storage.events(LANE, filter.clone()).await.unwrap();
        let found: Vec<Position> = page.rows.iter().map(|row| row.position + 1).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
    let plan = seen(storage, "acme").await;
    let at_once = &[shelf.acme.position, shelf.acme.position];
    let mut accept = accept_of("acme", plan, "t", at_once);
    accept.deliveries.push(skipped(shelf.acme.position));
    accept.now = at(60);
    take(storage, accept).await;

    let newest = Filter { limit: 1, ..all() };
    let page = storage.events(LANE, newest).await.unwrap();

    let counts = Counts {
        pending: 2,
        skipped: 1,
        ..Counts::default()
    };
    assert_eq!(page.rows[0].counts, counts);
    assert_eq!(page.next, Some(page.rows[0].position));
}

pub(super) async fn a_list_that_finds_little_ends_early_and_goes_on(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let first = hub.live(storage, "evt_1", State::Delivered).await;
    let others = (0..SCAN_MAX).map(|n| hub.feed_event(&format!("evt_other_{n}")));
    let page = hub.page(others.collect());
    storage.take_in(page).await.unwrap();
    let delivered = Filter {
        status: Some(Status::Delivered),
        ..all()
    };

    let early = storage.deliveries(LANE, delivered.clone()).await.unwrap();
    let rest = Filter {
        before: early.next,
        ..delivered.clone()
    };
    let rest = storage.deliveries(LANE, rest).await.unwrap();

    assert_eq!(early.rows, []);
    assert!(early.next.is_some());
    assert_eq!(rest.rows[0].position, first);
    assert_eq!((rest.rows.len(), rest.next), (1, None));

    let early = storage.events(LANE, delivered.clone()).await.unwrap();
    assert_eq!(early.rows, []);
    let rest = Filter {
        before: early.next,
        ..delivered
    };
    let rest = storage.events(LANE, rest).await.unwrap();
    assert_eq!(rest.rows[0].position, first - 1);
}
