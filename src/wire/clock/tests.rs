//! Clocks come back as they were given, and nothing else does.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::dynamo::version::{Context, Dot, Reason, Remembered, RequestId};

const CLUSTER: ClusterId = ClusterId(0xc1);

fn codec() -> ClockCodec {
    ClockCodec::new(b"a secret of the cluster", CLUSTER)
}

fn key(text: &'static str) -> Key {
    Key::new(Bytes::from_static(text.as_bytes())).unwrap()
}

fn actor(incarnation: u64, epoch: u64) -> Actor {
    Actor {
        incarnation: Incarnation(incarnation),
        epoch,
    }
}

fn dot(incarnation: u64, epoch: u64, n: u64) -> Dot {
    Dot {
        actor: actor(incarnation, epoch),
        n,
    }
}

fn seen() -> Clock {
    let vector = vec![(actor(0xaa, 3), 7), (actor(0xbb, 1), 1 << 59)];
    let cloud = vec![dot(0xaa, 3, 9), dot(0xaa, 3, 11), dot(0xcc, 2, 4)];
    Context::from_parts(vector, cloud).into()
}

/// Names two requests, too.
fn seen_in_doubt() -> Clock {
    let named = |dot, reason, id| Remembered {
        dot,
        reason,
        request: RequestId {
            id,
            fingerprint: 0xf,
        },
    };
    let remembered = vec![
        named(dot(0xaa, 3, 11), Reason::Keyed, u128::MAX),
        named(dot(0xcc, 2, 4), Reason::Doubtful, 0x1d),
    ];
    Clock {
        remembered,
        ..seen()
    }
}

#[test]
fn the_token_of_a_known_clock_is_frozen() {
    let token = codec().encode(&key("luke"), &seen());
    let text = String::from_utf8(STANDARD.decode(&token).unwrap()).unwrap();
    assert_eq!(
        text,
        "{\"v\":1,\"vector\":{\"00000000000000aa.3\":7,\"00000000000000bb.1\":576460752303423488},\
         \"cloud\":{\"00000000000000aa.3\":[9,11],\"00000000000000cc.2\":[4]},\
         \"key\":\"8417f1c59273e9d5\",\"cluster\":\"00000000000000c1\",\"mac\":\"23c9c64a1f0db378cd9a946fe8202c83\"}"
    );
    let token = codec().encode(&key("luke"), &seen_in_doubt());
    let text = String::from_utf8(STANDARD.decode(&token).unwrap()).unwrap();
    assert_eq!(
        text,
        "{\"v\":1,\"vector\":{\"00000000000000aa.3\":7,\"00000000000000bb.1\":576460752303423488},\
         \"cloud\":{\"00000000000000aa.3\":[9,11],\"00000000000000cc.2\":[4]},\
         \"requests\":[\
         [\"00000000000000aa.3\",11,\"keyed\",\"ffffffffffffffffffffffffffffffff000000000000000f\"],\
         [\"00000000000000cc.2\",4,\"doubtful\",\"0000000000000000000000000000001d000000000000000f\"]],\
         \"key\":\"8417f1c59273e9d5\",\"cluster\":\"00000000000000c1\",\"mac\":\"fe18239ba6cd234a4ce5122ed1b95620\"}"
    );
    let empty = codec().encode(&key("luke"), &Clock::default());
    let frozen = concat!(
        "eyJ2IjoxLCJ2ZWN0b3IiOnt9LCJjbG91ZCI6e30sImtleSI6Ijg0MTdmMWM1OTI3M2U5ZDUiLCJj",
        "bHVzdGVyIjoiMDAwMDAwMDAwMDAwMDBjMSIsIm1hYyI6IjcxZGE3NDM4MWQyNzVkODBjN2FjOGI3",
        "MjkxMjJjMGYyIn0="
    );
    assert_eq!(empty, frozen);
}

#[test]
fn a_token_is_what_it_says_to_who_has_no_secret() {
    let claims = describe(&codec().encode(&key("luke"), &seen_in_doubt())).unwrap();
    assert_eq!(clock_of(&claims), seen_in_doubt());
    assert_eq!(claims.key.0, key("luke").hash().as_u64());
    assert_eq!(claims.cluster, Hex64(0xc1));
}

/// Seed defect 8: a clock `{node: 2^53}` made by hand pinned a key for ever.
#[test]
fn seed_defect_08_a_forged_clock_is_refused() {
    let genuine = codec().encode(&key("luke"), &Clock::default());
    let text = String::from_utf8(STANDARD.decode(genuine).unwrap()).unwrap();
    let pinned = text.replace(
        "\"vector\":{",
        "\"vector\":{\"00000000000000aa.1\":9007199254740992",
    );
    let rows = [
        (
            "the seed's own form",
            "{\"node\":9007199254740992}".to_owned(),
            ClockError::NotAClock,
        ),
        (
            "a genuine clock with an entry more",
            pinned,
            ClockError::Forged,
        ),
        ("a MAC of zeros", zero_mac(&text), ClockError::Forged),
        ("spaces", text.replace(',', ", "), ClockError::NotAClock),
    ];
    for (name, text, expected) in rows {
        let outcome = codec().decode(&key("luke"), &STANDARD.encode(&text));
        assert_eq!(outcome, Err(expected), "{name}");
    }
}

fn zero_mac(text: &str) -> String {
    let claims = text.split(MAC_OPENS).next().unwrap();
    format!("{claims}{MAC_OPENS}{:032x}{MAC_CLOSES}", 0)
}

#[test]
fn only_the_text_that_was_handed_out_is_a_clock() {
    let token = codec().encode(&key("luke"), &seen());
    let of = |secret: &[u8], cluster| {
        ClockCodec::new(secret, ClusterId(cluster)).encode(&key("luke"), &seen())
    };
    let not_json = STANDARD.encode("not JSON");
    let rows: &[(&str, String, ClockError)] = &[
        (
            "another key",
            codec().encode(&key("leia"), &seen()),
            ClockError::OtherKey,
        ),
        (
            "another cluster",
            of(b"a secret of the cluster", 0xc2),
            ClockError::OtherCluster,
        ),
        (
            "another secret",
            of(b"another secret", 0xc1),
            ClockError::Forged,
        ),
        (
            "no padding",
            token.trim_end_matches('=').to_owned(),
            ClockError::NotBase64,
        ),
        (
            "a space before it",
            format!(" {token}"),
            ClockError::NotBase64,
        ),
        (
            "a line end after it",
            format!("{token}\n"),
            ClockError::NotBase64,
        ),
        (
            "the alphabet of URLs",
            "e30_".to_owned(),
            ClockError::NotBase64,
        ),
        ("nothing", String::new(), ClockError::NotAClock),
        ("not JSON", not_json, ClockError::NotAClock),
        ("an array", STANDARD.encode("[]"), ClockError::NotAClock),
        ("10 MB", "A".repeat(10_000_000), ClockError::TooLong),
        (
            "one byte too long",
            "A".repeat(MAX_TOKEN_BYTES + 1),
            ClockError::TooLong,
        ),
    ];
    // The frozen token ends in padding; a test without it would prove nothing.
    assert!(token.ends_with('='), "{token}");
    for (name, text, expected) in rows {
        assert_eq!(codec().decode(&key("luke"), text), Err(*expected), "{name}");
    }
    assert_eq!(codec().decode(&key("luke"), &token), Ok(seen()));
}

fn clock_of(claims: &ClockClaims) -> Clock {
    let requests = claims.requests.iter().map(|(name, n, reason, request)| {
        let (id, fingerprint) = request.split_at(32);
        let mut reasons = Reason::ALL.into_iter();
        Remembered {
            dot: Dot {
                actor: name.0,
                n: *n,
            },
            reason: reasons.find(|r| text::reason_name(*r) == reason).unwrap(),
            request: RequestId {
                id: u128::from_str_radix(id, 16).unwrap(),
                fingerprint: u64::from_str_radix(fingerprint, 16).unwrap(),
            },
        }
    });
    let vector = claims.vector.iter().map(|(name, n)| (name.0, *n));
    let cloud = claims
        .cloud
        .iter()
        .flat_map(|(name, numbers)| numbers.iter().map(|&n| Dot { actor: name.0, n }));
    Clock {
        seen: Context::from_parts(vector.collect(), cloud.collect()),
        remembered: requests.collect(),
    }
}

fn clocks() -> impl Strategy<Value = Clock> {
    let entry = (any::<u64>(), any::<u64>(), any::<u64>());
    let lists = (
        prop::collection::vec(entry, 0..6),
        prop::collection::vec(entry, 0..6),
        prop::collection::vec((entry, 0..3_usize, any::<(u128, u64)>()), 0..6),
    );
    lists.prop_map(|(vector, cloud, named)| {
        let named = named
            .into_iter()
            .map(|((i, e, n), reason, request)| Remembered {
                dot: dot(i, e, n),
                reason: Reason::ALL[reason],
                request: RequestId {
                    id: request.0,
                    fingerprint: request.1,
                },
            });
        let vector = vector.into_iter().map(|(i, e, n)| (actor(i, e), n >> 1));
        let cloud = cloud.into_iter().map(|(i, e, n)| dot(i, e, n >> 1));
        Clock {
            seen: Context::from_parts(vector.collect(), cloud.collect()),
            remembered: named.collect(),
        }
    })
}

fn keys() -> impl Strategy<Value = Key> {
    prop::collection::vec(any::<u8>(), 1..40).prop_map(|b| Key::new(b.into()).unwrap())
}

proptest! {
    #[test]
    fn every_clock_comes_back_as_it_went(key in keys(), seen in clocks()) {
        let token = codec().encode(&key, &seen);
        prop_assert_eq!(codec().decode(&key, &token), Ok(seen.clone()));
        prop_assert_eq!(clock_of(&describe(&token).unwrap()), seen);
    }

    #[test]
    fn claims_are_read_as_they_were_written_and_no_other_text_is(
        seen in clocks(),
        (key, cluster) in any::<(u64, u64)>(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut text = Vec::new();
        write_claims(&mut text, &seen, key, cluster);
        let cut = text.get(..at.index(text.len())).unwrap();
        prop_assert_eq!(read_claims(cut), None);
        prop_assert_eq!(read_claims(&[&text[..], b" "].concat()), None);
        prop_assert_eq!(read_claims(&text), Some(text::Genuine { clock: seen, key, cluster }));
    }

    #[test]
    fn no_altered_clock_is_taken(key in keys(), seen in clocks(), at in any::<prop::sample::Index>(), bit in 0..7_u8) {
        let token = codec().encode(&key, &seen);
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let flipped = String::from_utf8(bytes).unwrap();
        prop_assert!(codec().decode(&key, &flipped).is_err());
        prop_assert!(codec().decode(&key, &token[..at]).is_err());
    }

    #[test]
    fn any_text_is_answered(text in ".{0,200}", json in "[\\[\\]{}\",:a-z0-9.]{0,200}") {
        prop_assert!(describe(&text).is_err());
        prop_assert!(codec().decode(&key("luke"), &text).is_err());
        prop_assert!(codec().decode(&key("luke"), &STANDARD.encode(json)).is_err());
    }
}
