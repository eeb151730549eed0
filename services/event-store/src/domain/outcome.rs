//! What is kept of a delivery's reports: the latest by (epoch, position), and whether it was ever delivered.

use schema::delivery::{DeliveryState, Outcome, Status};

/// What is known of one delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub epoch: u64,
    pub position: u64,
    pub state: DeliveryState,
    /// Stays true, whatever is reported later: somebody has it.
    pub delivered: bool,
}

/// What is known after a report; `None` when it changes nothing. Reports may come twice and in any order.
pub fn learn(known: Option<&Known>, report: &Outcome) -> Option<Known> {
    let delivered = report.state.status == Status::Delivered;
    let latest = Known {
        epoch: report.epoch,
        position: report.position,
        state: report.state.clone(),
        delivered: delivered || known.is_some_and(|known| known.delivered),
    };
    match known {
        Some(known) if (known.epoch, known.position) >= (report.epoch, report.position) => {
            (delivered && !known.delivered).then(|| Known {
                delivered: true,
                ..known.clone()
            })
        }
        _ => Some(latest),
    }
}

/// No more attempts will come.
pub fn settled(status: Status) -> bool {
    match status {
        Status::Delivered | Status::Exhausted | Status::Skipped => true,
        Status::Pending | Status::Failed => false,
    }
}

/// The destinations that have it: sorted, each once.
pub fn delivered_to(destinations: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut destinations: Vec<String> = destinations.into_iter().collect();
    destinations.sort_unstable();
    destinations.dedup();
    destinations
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(epoch: u64, position: u64, status: Status) -> Outcome {
        Outcome {
            epoch,
            position,
            event_id: schema::EventId::parse("evt_1").unwrap(),
            revision: 0,
            correlation_id: schema::CorrelationId::parse("c").unwrap(),
            state: DeliveryState {
                destination: "pagerduty".to_owned(),
                delivery_id: "dlv_1".to_owned(),
                status,
                attempts: 1,
                reason: None,
                at: "2024-01-15T10:00:00Z".parse().unwrap(),
            },
        }
    }

    fn told(reports: &[Outcome]) -> Option<Known> {
        reports.iter().fold(None, |known, report| {
            learn(known.as_ref(), report).or(known)
        })
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_end_in_the_same(
            statuses in prop::collection::vec(0..Status::ALL.len(), 1..12),
            shuffle in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let in_order: Vec<Outcome> = (0_u64..)
                .zip(&statuses)
                .map(|(at, status)| report(at / 4, at % 4, Status::ALL[*status]))
                .collect();
            let mut as_came: Vec<Outcome> = shuffle.iter().map(|at| at.get(&in_order).clone()).collect();
            as_came.extend(in_order.iter().rev().cloned());

            let known = told(&as_came).unwrap();

            prop_assert_eq!(&known, &told(&in_order).unwrap());
            prop_assert_eq!(known.state.status, Status::ALL[*statuses.last().unwrap()]);
            let once = statuses.iter().any(|status| Status::ALL[*status] == Status::Delivered);
            prop_assert_eq!(known.delivered, once);
        }
    }
}
