//! Messages survive the way, and nonsense is refused.

use proptest::prelude::{any, proptest};

use super::*;
use crate::dynamo::node_id::Incarnation;
use crate::dynamo::version::{Actor, Context, Dot, Remembered};

fn context() -> Context {
    let actor = Actor {
        incarnation: Incarnation(7),
        epoch: 3,
    };
    Context::from_parts(vec![(actor, 2)], vec![Dot { actor, n: 9 }])
}

/// That names the request of its single write.
fn clock() -> Clock {
    let seen = context();
    let remembered = seen.cloud().iter().map(|dot| Remembered {
        dot: *dot,
        reason: Reason::Doubtful,
        request: mint(WriteKind::Put, Body::Tombstone, None).request,
    });
    Clock {
        remembered: remembered.collect(),
        seen,
    }
}

fn op(action: Action, set: OwnerSet) -> Op {
    let key = Key::new(Bytes::from_static(b"k\xff")).unwrap();
    Op {
        key,
        set,
        left: Duration::from_millis(1500),
        trace: None,
        action,
    }
}

fn mint(kind: WriteKind, body: Body, merged: Option<State>) -> Mint {
    let request = RequestId {
        id: u128::MAX - 5,
        fingerprint: 42,
    };
    Mint {
        kind,
        seen: context().into(),
        body,
        request,
        remember: merged.is_some().then_some(Reason::Keyed),
        merged: merged.map(Box::new),
    }
}

#[test]
fn batches_arrive_as_they_were_sent() {
    let merged = State {
        context: context(),
        ..State::default()
    };
    let value = Body::Value(Bytes::from_static(b"{\"a\":1}"));
    let ops = vec![
        op(Action::Read, OwnerSet::Incoming),
        op(Action::Read, OwnerSet::Fallback(MemberNumber(0))),
        op(
            Action::Write(Bytes::from_static(b"state")),
            OwnerSet::Current,
        ),
        op(Action::Write(Bytes::new()), OwnerSet::Current),
        op(
            Action::Mint(mint(WriteKind::Put, value.clone(), None)),
            OwnerSet::Current,
        ),
        op(
            Action::Mint(mint(WriteKind::Create, value, Some(merged))),
            OwnerSet::Current,
        ),
        op(
            Action::Mint(Mint {
                seen: clock(),
                ..mint(WriteKind::Delete, Body::Tombstone, None)
            }),
            OwnerSet::Current,
        ),
    ];
    let batch = Batch {
        heard: vec![7, u128::MAX],
        ..batch_of(ops)
    };
    assert_eq!(
        Batch::decode(&batch.encode().unwrap().into()).unwrap(),
        batch
    );
}

#[test]
fn replies_arrive_as_they_were_sent() {
    let state = Bytes::from_static(b"state");
    let results = vec![
        Ok(Done::Read(None)),
        Ok(Done::Read(Some(state.clone()))),
        Ok(Done::Written),
        Ok(Done::Minted(state.clone(), context().into(), 2)),
        Ok(Done::Minted(state.clone(), clock(), 2)),
        Ok(Done::AlreadyExists(state.clone())),
        Ok(Done::NothingToDelete(state.clone())),
        Ok(Done::TooManySiblings(state)),
        Ok(Done::RequestReused),
        Err(Fault::StaleRing),
        Err(Fault::RingBehind),
        Err(Fault::NotOwner),
        Err(Fault::NotReady),
        Err(Fault::Flipped),
        Err(Fault::Overloaded),
        Err(Fault::StorageFull),
        Err(Fault::HintsFull),
        Err(Fault::Damaged),
        Err(Fault::Unreachable),
        Err(Fault::Broken),
        Err(Fault::TimedOut),
    ];
    let reply = BatchReply { epoch: 13, results };
    assert_eq!(
        BatchReply::decode(&reply.encode().unwrap().into()).unwrap(),
        reply
    );
}

/// What this version sends, so that a change of the format is seen.
#[test]
fn the_format_on_the_wire_is_frozen() {
    let golden = include_str!("../../../tests/golden/batch-v1.hex").trim();
    let value = Body::Value(Bytes::from_static(b"1"));
    let ops = vec![
        op(Action::Read, OwnerSet::Incoming),
        op(
            Action::Write(Bytes::from_static(b"state")),
            OwnerSet::Current,
        ),
        op(
            Action::Mint(mint(WriteKind::Put, value, None)),
            OwnerSet::Current,
        ),
    ];
    is_frozen(golden, &batch_of(ops));
    let golden = include_str!("../../../tests/golden/batch-fallback-v1.hex").trim();
    let action = Action::Write(Bytes::from_static(b"state"));
    let ops = vec![op(action, OwnerSet::Fallback(MemberNumber(3)))];
    is_frozen(golden, &batch_of(ops));
}

/// Nodes of a version without it pass it over, as they do with any field that they do not know.
#[test]
fn a_batch_names_the_requests_that_its_operations_are_part_of() {
    let trace = TraceId::new("cart-42._Z");
    assert!(trace.is_some());
    let traced = Op {
        trace,
        ..op(Action::Read, OwnerSet::Current)
    };
    let ops = vec![traced, op(Action::Read, OwnerSet::Current)];
    let golden = include_str!("../../../tests/golden/batch-trace-v1.hex").trim();
    is_frozen(golden, &batch_of(ops));
}

/// A node that does not know of it remembers more; one that is not told remembers more.
#[test]
fn a_batch_tells_which_replies_were_heard_and_which_mints_are_second_attempts() {
    let second = Mint {
        remember: Some(Reason::Doubtful),
        ..mint(WriteKind::Delete, Body::Tombstone, None)
    };
    let batch = Batch {
        heard: vec![258],
        ..batch_of(vec![op(Action::Mint(second), OwnerSet::Current)])
    };
    let golden = include_str!("../../../tests/golden/batch-heard-v1.hex").trim();
    is_frozen(golden, &batch);
}

fn batch_of(ops: Vec<Op>) -> Batch {
    Batch {
        epoch: 12,
        ops,
        heard: Vec::new(),
    }
}

#[track_caller]
fn is_frozen(golden: &str, batch: &Batch) {
    let bytes: Vec<u8> = (0..golden.len() / 2)
        .map(|i| u8::from_str_radix(&golden[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    assert_eq!(batch.encode().unwrap(), bytes);
    assert_eq!(Batch::decode(&bytes.into()).unwrap(), *batch);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in any::<Vec<u8>>()) {
        let bytes = Bytes::from(bytes);
        assert!(Batch::decode(&bytes).is_err() || !bytes.is_empty());
        assert!(BatchReply::decode(&bytes).is_err() || !bytes.is_empty());
    }
}
