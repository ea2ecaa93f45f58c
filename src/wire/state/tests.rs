//! The encoding of states: golden bytes, laws, refusals.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};

use super::*;

/// A state with everything a state can have.
pub(crate) fn golden_state() -> State {
    let a = actor_in(0x0102_0304_0506_0708, 1);
    let b = actor_in(u64::MAX, 65_536);
    let dot = |actor, n| Dot { actor, n };
    let request = |id, fingerprint| RequestId { id, fingerprint };
    let first = Sibling {
        dot: dot(a, 2),
        body: Body::Value(Bytes::from_static(b"\"Luke Skywalker\"")),
        request: request((7 << 64) | 8, 9),
    };
    let second = Sibling {
        dot: dot(b, 5),
        body: Body::Tombstone,
        request: request(1, 2),
    };
    State {
        context: Context::from_parts(vec![(a, 3)], vec![dot(b, 5)]),
        siblings: vec![first, second],
        remembered: vec![Remembered {
            dot: dot(a, 2),
            reason: Reason::Keyed,
            request: request((7 << 64) | 8, 9),
        }],
    }
}

/// The bytes of a golden file: lines of hexadecimal.
pub(crate) fn golden(text: &str) -> Bytes {
    let digits: Vec<char> = text.split_whitespace().flat_map(str::chars).collect();
    let pair = |p: &[char]| p.iter().collect::<String>();
    digits
        .chunks(2)
        .map(|p| u8::from_str_radix(&pair(p), 16).unwrap())
        .collect()
}

#[test]
fn the_golden_state_is_still_read_and_written() {
    let golden = golden(include_str!("../../../tests/golden/state-v1.hex"));
    assert_eq!(encode_state(&golden_state()), golden);
    assert_eq!(decode_state(&golden).unwrap(), golden_state());
}

#[test]
fn values_are_slices_of_the_encoded_state() {
    let bytes = encode_state(&golden_state());
    let state = decode_state(&bytes).unwrap();
    let (_, value) = state.live()[0];
    assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn the_size_hint_is_enough() {
    for state in [State::default(), golden_state()] {
        let length = encode_state(&state).len();
        assert!((length..length + 200).contains(&size_hint(&state)));
    }
}

/// One actor's writes: those of the vector, single ones beyond, and what each left.
type Writes = (u64, Vec<(u64, Option<Vec<u8>>, bool)>);

fn writes() -> impl Strategy<Value = Vec<Writes>> {
    let write = (1..12_u64, any::<Option<Vec<u8>>>(), any::<bool>());
    vec((0..6_u64, vec(write, 0..5)), 0..4)
}

fn state_of(actors: Vec<Writes>) -> State {
    let mut state = State::default();
    for (epoch, (n, rest)) in (1..).zip(actors) {
        let actor = actor_in(epoch * 0x0fff_ffff, epoch);
        let single: Vec<Dot> = rest.iter().map(|w| Dot { actor, n: w.0 }).collect();
        state
            .context
            .join(&Context::from_parts(vec![(actor, n)], single));
        for (n, value, remember) in rest {
            let dot = Dot { actor, n };
            let request = request_in((n, epoch, n));
            let body = value.map_or(Body::Tombstone, |v| Body::Value(v.into()));
            state.siblings.push(Sibling { dot, body, request });
            if remember {
                let reason = Reason::ALL[usize::try_from(n % 3).unwrap()];
                let remembered = Remembered {
                    dot,
                    reason,
                    request,
                };
                state.remembered.push(remembered);
            }
        }
    }
    state.siblings.sort_by_key(|s| s.dot);
    state.siblings.dedup_by_key(|s| s.dot);
    state.remembered.sort();
    state.remembered.dedup_by_key(|r| r.dot);
    state
}

proptest! {
    #[test]
    fn a_state_reads_back_and_is_written_the_same_again(actors in writes()) {
        let state = state_of(actors);
        let bytes = encode_state(&state);
        let back = decode_state(&bytes).unwrap();
        assert_eq!(back, state);
        assert_eq!(encode_state(&back), bytes);
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused(noise in vec(any::<u8>(), 0..200)) {
        if let Ok(state) = decode_state(&noise.into()) {
            assert!(decode_state(&encode_state(&state)).is_ok());
        }
    }

    #[test]
    fn a_damaged_state_is_read_or_refused(
        actors in writes(),
        at: proptest::sample::Index,
        byte: u8,
    ) {
        let mut bytes = encode_state(&state_of(actors)).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(state) = decode_state(&bytes.into()) {
            assert_eq!(decode_state(&encode_state(&state)).unwrap(), state);
        }
    }

    #[test]
    fn a_cut_state_is_refused(actors in writes(), at: proptest::sample::Index) {
        let bytes = encode_state(&state_of(actors));
        assert!(decode_state(&bytes.slice(..at.index(bytes.len()))).is_err());
    }
}

#[derive(Serialize)]
struct Newer<'a> {
    surprise: Vec<u8>,
    vector: Vec<DotFields>,
    cloud: Vec<DotFields>,
    siblings: Vec<NewerSibling<'a>>,
    remembered: Vec<RememberedFields>,
}

#[derive(Serialize)]
struct NewerSibling<'a> {
    dot: DotFields,
    value: Option<&'a serde_bytes::Bytes>,
    expires: Option<u64>,
    request: RequestFields,
}

fn newer() -> Newer<'static> {
    Newer {
        surprise: vec![1, 2, 3],
        vector: vec![(1, 1, 2), (2, 1, 1)],
        cloud: vec![(1, 1, 5), (1, 1, 7)],
        siblings: [(1, 1, 1), (1, 1, 5)].map(newer_sibling).into(),
        remembered: Vec::new(),
    }
}

fn newer_sibling(dot: DotFields) -> NewerSibling<'static> {
    NewerSibling {
        dot,
        value: Some(serde_bytes::Bytes::new(b"1")),
        expires: Some(9),
        request: (0, 1, 2),
    }
}

fn read(newer: &Newer<'_>) -> Result<State, StateError> {
    decode_state(&rmp_serde::to_vec_named(newer).unwrap().into())
}

#[test]
fn fields_of_a_newer_node_are_skipped() {
    let state = read(&newer()).unwrap();
    assert_eq!(state.siblings.len(), 2);
    assert_eq!(state.context.cloud().len(), 2);
}

#[test]
fn a_sibling_of_an_unknown_kind_is_not_taken_for_a_tombstone() {
    #[derive(Serialize)]
    struct Kindless {
        vector: Vec<DotFields>,
        siblings: Vec<RememberedFields>,
    }
    let dot = (1, 1, 1);
    let request = (0, 0, 0);
    let kindless = Kindless {
        vector: vec![dot],
        siblings: vec![RememberedFields {
            dot,
            request,
            brief: false,
            doubtful: false,
        }],
    };
    let bytes = rmp_serde::to_vec_named(&kindless).unwrap();
    assert!(matches!(
        decode_state(&bytes.into()),
        Err(StateError::Malformed(_))
    ));
}

#[test]
fn bytes_after_the_state_are_refused() {
    let mut bytes = encode_state(&golden_state()).to_vec();
    bytes.push(0xc0);
    assert!(matches!(
        decode_state(&bytes.into()),
        Err(StateError::Trailing)
    ));
}

type Spoil = fn(&mut Newer<'static>);

#[test]
fn states_that_no_node_makes_are_refused() {
    let remembered = |n| RememberedFields {
        dot: (1, 1, n),
        request: (0, n, 0),
        brief: false,
        doubtful: false,
    };
    let rows: [(&str, Spoil, &str); 10] = [
        ("unsorted vector", |s| s.vector.reverse(), "order"),
        (
            "repeated vector",
            |s| s.vector.insert(1, (1, 1, 1)),
            "order",
        ),
        ("unsorted cloud", |s| s.cloud.reverse(), "order"),
        ("repeated cloud", |s| s.cloud.insert(0, (1, 1, 5)), "order"),
        (
            "cloud that touches the vector",
            |s| s.cloud.insert(0, (1, 1, 3)),
            "order",
        ),
        (
            "zero in the vector",
            |s| s.vector.insert(0, (0, 0, 0)),
            "numbered 0",
        ),
        (
            "zero in the cloud",
            |s| s.cloud.insert(0, (0, 0, 0)),
            "numbered 0",
        ),
        (
            "endless count",
            |s| s.vector[0].2 = u64::MAX,
            "numbered 18446744073709551615",
        ),
        ("unsorted siblings", |s| s.siblings.reverse(), "order"),
        ("unknown sibling", |s| s.siblings[1].dot.2 = 6, "context"),
    ];
    for (name, spoil, expected) in rows {
        let mut state = newer();
        spoil(&mut state);
        let error = read(&state).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let mut crowded = newer();
    crowded.vector[0].2 = 20;
    crowded.cloud.clear();
    crowded.remembered = (1..=9).map(remembered).collect();
    assert!(matches!(
        read(&crowded),
        Err(StateError::NotCanonical("remembered requests"))
    ));
    crowded.remembered[8].brief = true;
    assert!(read(&crowded).is_ok(), "bounded apart");
    crowded.remembered[8].doubtful = true;
    assert!(read(&crowded).is_ok(), "bounded apart");
    crowded.remembered.pop();
    assert!(read(&crowded).is_ok());
    crowded.remembered.reverse();
    assert!(matches!(
        read(&crowded),
        Err(StateError::NotCanonical("remembered requests"))
    ));
    crowded.remembered = vec![remembered(21)];
    assert!(matches!(read(&crowded), Err(StateError::NotInContext)));
}
