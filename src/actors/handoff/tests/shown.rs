//! What an operator is shown of transfers, and how many there are at the same time.

use std::collections::BTreeMap;

use super::*;
use crate::actors::giver::digest;

/// Starts to bring what `d` gains.
fn begin(d: &FakeNode, at_once: Option<u32>) -> Addr<Handoff> {
    let (tell, _) = mpsc::unbounded_channel();
    let parts = HandoffParts {
        view: d.view.clone(),
        link: Link::new(proof()),
        records: d.records.clone(),
        store: d.store.clone(),
        ring_keeper: d.ring_keeper.clone(),
        quorums: Quorums { read: 2, write: 2 },
        background: background(),
        log: quiet(),
    };
    let handoff = Handoff::new(parts, Told(tell).start().recipient()).start();
    if let Some(at_once) = at_once {
        handoff.do_send(SetAtOnce(at_once));
    }
    handoff.do_send(StartTransfers { epoch: 5 });
    handoff
}

async fn shown(handoff: &Addr<Handoff>) -> Transfer {
    let all = handoff.send(GetTransfers).await.unwrap();
    let [one] = &all[..] else {
        panic!("one partition moves: {all:?}");
    };
    one.clone()
}

/// From whom, how far, and what it waits for.
async fn told(handoff: &Addr<Handoff>) -> String {
    let t = shown(handoff).await;
    let (from, waits) = (t.from.as_deref(), t.waiting_for.as_deref());
    let (from, waits) = (from.unwrap_or("-"), waits.unwrap_or("-"));
    format!("{from} {:?} {}/{} {waits}", t.step, t.done, t.total)
}

fn page(of: &[Key], last: bool) -> PullReply {
    let record = |key: &Key| (key.as_bytes().clone(), encode_state(&state(&[1])));
    PullReply::new(of.iter().map(record).collect(), last)
}

fn holding(records: u64) -> DigestReply {
    DigestReply {
        root: 1,
        records,
        recovering: false,
    }
}

async fn digest_of(wire: &mut Wire, records: u64) {
    let call = wire.call("/peer/v1/digest").await;
    call.answer(200, encoded(&holding(records)));
}

async fn silence(wire: &mut Wire, path: &str) {
    wire.call(path).await.answer(503, Vec::new());
}

/// In three pages of an owner that has got more meanwhile. The other two keep silent, then one of
/// them, and then two do not flip.
#[actix::test]
async fn a_transfer_shows_where_it_comes_from_how_far_how_fast_and_what_it_waits_for() {
    let (mut wire, d) = scripted().await;
    let handoff = begin(&d, None);
    let some: Vec<Key> = keys(moving(), true).take(4).collect();
    let (first, second) = some.split_at(2);

    let call = wire.call("/peer/v1/digest").await;
    assert_eq!(told(&handoff).await, "- Queued 0/0 -");
    call.answer(200, encoded(&holding(3)));
    let call = wire.call("/peer/v1/pull").await;
    assert_eq!(told(&handoff).await, "a Pulling 0/3 -");
    let begun = page(first, false);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    call.answer(200, encoded(&begun));
    let call = wire.call("/peer/v1/pull").await;
    assert_eq!(told(&handoff).await, "a Pulling 2/3 -");
    let (rate, bytes) = (shown(&handoff).await.rate_bytes_s, begun.bytes());
    let slowly = bytes / 4..=bytes / 2;
    assert!(slowly.contains(&rate), "{bytes} in 2 s are {rate}/s");
    call.answer(200, encoded(&page(second, true)));
    digest_of(&mut wire, 4).await;
    let call = wire.call("/peer/v1/pull").await;
    assert_eq!(
        told(&handoff).await,
        "a Pulling 4/4 -",
        "more than was said"
    );
    call.answer(200, encoded(&page(&[], true)));
    digest_of(&mut wire, 4).await;
    for _ in ["b", "c"] {
        silence(&mut wire, "/peer/v1/digest").await;
    }

    // The next attempt is under way, and may wait for the same.
    digest_of(&mut wire, 4).await;
    let call = wire.call("/peer/v1/pull").await;
    assert_eq!(told(&handoff).await, "a Pulling 0/4 b, c to answer");
    call.answer(200, encoded(&page(&[], true)));
    digest_of(&mut wire, 4).await;
    nothing_to_give(&mut wire).await;
    silence(&mut wire, "/peer/v1/digest").await;

    let call = wire.call("/peer/v1/flip").await;
    assert_eq!(told(&handoff).await, "b Verified 1/1 -");
    call.answer(200, encoded(&FlipReply::Flipped));
    for _ in ["b", "c"] {
        silence(&mut wire, "/peer/v1/flip").await;
    }
    for owner in ["a", "b"] {
        let call = wire.call("/peer/v1/flip").await;
        let waits = "b Verified 1/1 b, c to stop serving reads";
        assert_eq!(told(&handoff).await, waits, "{owner} is asked again");
        call.answer(200, encoded(&FlipReply::Flipped));
    }
    silence(&mut wire, "/peer/v1/flip").await;
    let flipped = async {
        while told(&handoff).await != "b Flipped 1/1 -" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, flipped).await.unwrap();
}

/// The partitions that are being brought, and how many of their calls have been answered.
#[derive(Default)]
struct UnderWay {
    calls: BTreeMap<u16, usize>,
    ended: usize,
}

impl UnderWay {
    /// Lets a partition take one step: of three owners a digest of nothing, and a flip.
    async fn step(&mut self, wire: &mut Wire, nothing: &DigestReply) {
        let next = tokio::time::timeout(PATIENCE, wire.any()).await;
        let call = next.expect("a call in time");
        let asked: PartitionCall = rmp_serde::from_slice(&call.body).unwrap();
        let answered = self.calls.entry(asked.partition).or_default();
        *answered += 1;
        if *answered == 6 {
            self.calls.remove(&asked.partition);
            self.ended += 1;
        }
        let reply = if call.path.ends_with("/digest") {
            encoded(nothing)
        } else {
            encoded(&FlipReply::Flipped)
        };
        call.answer(200, reply);
    }
}

/// Set before the move, and raised and lowered in its middle, while all the others wait for their
/// turns.
#[actix::test]
async fn no_more_partitions_are_brought_at_once_than_was_said() {
    let (mut wire, d) = (Wire::new().await, FakeNode::new("d"));
    let at = wire.address.as_str();
    let members = [("a", at), ("b", at), ("c", at), ("d", "127.0.0.1:1")];
    let to = ["b", "c", "d"];
    d.install(ring_of(&members, &["a", "b", "c"], Some(&to)))
        .await;
    let (nothing, _) = digest(&d.records, moving()).unwrap();
    let handoff = begin(&d, Some(2));
    let mut under_way = UnderWay::default();
    // How many at once, how many of those that have begun are too many, how many are looked at.
    for (at_once, too_many, partitions) in [(2, 0, 6), (5, 0, 20), (1, 4, 6)] {
        handoff.send(SetAtOnce(at_once)).await.unwrap();
        let at_once = usize::try_from(at_once).unwrap();
        let begun = under_way.ended + too_many;
        while under_way.ended < begun {
            under_way.step(&mut wire, &nothing).await;
        }
        let (mut most, end) = (0, under_way.ended + partitions);
        while under_way.ended < end {
            under_way.step(&mut wire, &nothing).await;
            most = most.max(under_way.calls.len());
        }
        assert_eq!(most, at_once);
    }
}
