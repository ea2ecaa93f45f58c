//! What counting costs.

use std::time::Duration;

use super::calls::{CallCounts, CallKind, CallOutcome};
use super::histogram::Histogram;
use super::operations::{Operation, OperationCounts, Outcome};
use super::requests::RequestCounts;
use crate::clock::monotonic;

/// Two hundredths of the processor time that all nodes together spend on a PUT at the least:
/// 0.087 ms, in docs/performance.md.
const MOST: Duration = Duration::from_nanos(1740);
const PUTS: u32 = 1000;

/// All that is counted of one PUT by three nodes, as if nothing of it shared a batch.
fn count_put(
    requests: &RequestCounts,
    operations: &OperationCounts,
    peers: &[CallCounts],
    stores: &[[Histogram; 2]],
) {
    let began = monotonic();
    for store in stores {
        let began = monotonic();
        let took = began.elapsed();
        for histogram in store {
            histogram.took(took);
        }
    }
    for peer in peers {
        peer.ended(CallKind::Write, CallOutcome::Answered, began.elapsed());
    }
    operations.took(Operation::Put, began.elapsed());
    operations.ended(Operation::Put, Outcome::Done);
    requests.answered("PUT", "/v1/some-key", 200);
}

#[test]
fn counting_a_put_costs_less_than_two_hundredths_of_it() {
    let (requests, operations) = (RequestCounts::default(), OperationCounts::default());
    let peers = [(); 2].map(|()| CallCounts::default());
    let stores = [(); 3].map(|()| [(); 2].map(|()| Histogram::of_durations()));
    let rounds = (0..50).map(|_| {
        let began = monotonic();
        (0..PUTS).for_each(|_| count_put(&requests, &operations, &peers, &stores));
        began.elapsed() / PUTS
    });
    // The quickest round is the one that nothing else on the machine disturbed.
    let least = rounds.min().unwrap();
    println!("counting a PUT takes {least:?}");
    assert!(least < MOST, "{least:?}");
    assert_eq!(operations.durations(Operation::Put).count(), 50_000);
}
