//! A record as the engine keeps it: a version byte, a CRC-32C of all that follows it, the local
//! actor, and the encoded state.
//!
//! ```text
//! 1 byte version | 4 bytes CRC-32C, big-endian | 1 byte 0, or 1 and 16 bytes actor | state
//! ```

use bytes::{BufMut, Bytes};

use crate::dynamo::node_id::Incarnation;
use crate::dynamo::version::{Actor, State};
use crate::wire::state::{append_state, size_hint};

/// The format written here.
pub const RECORD_VERSION: u8 = 1;

const CHECKED_FROM: usize = 5;
const WITHOUT_ACTOR: u8 = 0;
const WITH_ACTOR: u8 = 1;
const LONGEST_HEADER: usize = CHECKED_FROM + 1 + 16;

/// What the engine holds for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// This node's own actor for the record, if it has minted on it. Local: never sent.
    pub minted: Option<Actor>,
    /// The encoded state, a slice of the record.
    pub state: Bytes,
}

/// Why bytes are not a record. To the store each is a damaged record, to be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It ends before its header does.
    #[error("the record is cut off")]
    Truncated,
    /// A later program wrote it, or its first byte is damaged.
    #[error("the record has the unknown format {0}")]
    UnknownVersion(u8),
    /// It is not what was written.
    #[error("the record's checksum is wrong")]
    Checksum,
    /// The checksum is right and the header makes no sense.
    #[error("the record's header is malformed")]
    Header,
}

/// The record of an encoded state.
#[must_use]
pub fn encode_record(state: &[u8], minted: Option<Actor>) -> Bytes {
    let mut out = Vec::with_capacity(LONGEST_HEADER + state.len());
    put_header(&mut out, minted);
    out.extend_from_slice(state);
    seal(out)
}

/// The record of a state, without a copy between the two encodings. The encoded state is the
/// second result, a slice of the first.
#[must_use]
pub fn encode_state_record(state: &State, minted: Option<Actor>) -> (Bytes, Bytes) {
    let mut out = Vec::with_capacity(LONGEST_HEADER + size_hint(state));
    put_header(&mut out, minted);
    let header = out.len();
    append_state(&mut out, state);
    let record = seal(out);
    let state = record.slice(header..);
    (record, state)
}

/// The parts of a record; its state is not decoded.
///
/// # Errors
/// [`RecordError`]; never panics, whatever the bytes.
pub fn decode_record(mut record: Bytes) -> Result<Record, RecordError> {
    let (&version, rest) = record.split_first().ok_or(RecordError::Truncated)?;
    if version != RECORD_VERSION {
        return Err(RecordError::UnknownVersion(version));
    }
    let (sum, checked) = rest.split_first_chunk().ok_or(RecordError::Truncated)?;
    if u32::from_be_bytes(*sum) != crc32c::crc32c(checked) {
        return Err(RecordError::Checksum);
    }
    let (&flag, rest) = checked.split_first().ok_or(RecordError::Truncated)?;
    let (minted, length) = match flag {
        WITHOUT_ACTOR => (None, 0),
        WITH_ACTOR => (Some(actor_in(rest).ok_or(RecordError::Truncated)?), 16),
        _ => return Err(RecordError::Header),
    };
    let state = record.split_off(CHECKED_FROM + 1 + length);
    Ok(Record { minted, state })
}

fn put_header(out: &mut Vec<u8>, minted: Option<Actor>) {
    out.put_u8(RECORD_VERSION);
    out.put_u32(0);
    if let Some(actor) = minted {
        out.put_u8(WITH_ACTOR);
        out.put_u64(actor.incarnation.0);
        out.put_u64(actor.epoch);
    } else {
        out.put_u8(WITHOUT_ACTOR);
    }
}

fn seal(mut out: Vec<u8>) -> Bytes {
    if let Some((head, checked)) = out.split_first_chunk_mut::<CHECKED_FROM>() {
        let [_version, sum @ ..] = head;
        *sum = crc32c::crc32c(checked).to_be_bytes();
    }
    out.into()
}

fn actor_in(bytes: &[u8]) -> Option<Actor> {
    let (incarnation, rest) = bytes.split_first_chunk()?;
    let epoch = rest.first_chunk()?;
    Some(Actor {
        incarnation: Incarnation(u64::from_be_bytes(*incarnation)),
        epoch: u64::from_be_bytes(*epoch),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::*;
    use crate::wire::state::encode_state;
    use crate::wire::state::tests::{golden, golden_state};

    const ACTOR: Actor = Actor {
        incarnation: Incarnation(0x1122_3344_5566_7788),
        epoch: 65_537,
    };

    fn minted() -> impl Strategy<Value = Option<Actor>> {
        prop_oneof![Just(None), Just(Some(ACTOR))]
    }

    proptest! {
        #[test]
        fn a_record_reads_back(state: Vec<u8>, minted in minted()) {
            let record = decode_record(encode_record(&state, minted)).unwrap();
            assert_eq!((record.minted, record.state.as_ref()), (minted, state.as_slice()));
        }

        #[test]
        fn a_flipped_bit_or_a_cut_is_noticed(
            state: Vec<u8>,
            minted in minted(),
            at: proptest::sample::Index,
            bit in 0..8_u8,
        ) {
            let whole = encode_record(&state, minted);
            let at = at.index(whole.len());
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << bit;
            assert!(decode_record(flipped.into()).is_err());
            assert!(decode_record(whole.slice(..at)).is_err());
        }

        #[test]
        fn any_bytes_at_all_are_read_or_refused(
            noise in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut out = vec![RECORD_VERSION, 0, 0, 0, 0];
            out.extend_from_slice(&noise);
            let sealed = decode_record(seal(out));
            let whole = match noise.first() {
                Some(0) => true,
                Some(1) => noise.len() > 16,
                _ => false,
            };
            assert_eq!(sealed.is_ok(), whole);
            assert!(decode_record(Bytes::from(noise)).is_err());
        }
    }

    #[test]
    fn each_damage_has_its_error() {
        let good = encode_record(b"state", Some(ACTOR)).to_vec();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let resealed = |bytes: Vec<u8>| seal(bytes).to_vec();
        let rows = [
            ("empty", Vec::new(), RecordError::Truncated),
            ("header cut", good[..4].to_vec(), RecordError::Truncated),
            (
                "no flag",
                resealed(good[..5].to_vec()),
                RecordError::Truncated,
            ),
            (
                "actor cut",
                resealed(good[..20].to_vec()),
                RecordError::Truncated,
            ),
            ("version", with(0, 2), RecordError::UnknownVersion(2)),
            ("sum", with(4, good[4] ^ 1), RecordError::Checksum),
            ("state cut", good[..25].to_vec(), RecordError::Checksum),
            ("flag", resealed(with(5, 7)), RecordError::Header),
        ];
        for (name, bytes, error) in rows {
            assert_eq!(decode_record(bytes.into()), Err(error), "{name}");
        }
    }

    #[test]
    fn the_golden_record_is_still_read_and_written() {
        let golden = golden(include_str!("../../tests/golden/record-v1.hex"));
        let state = encode_state(&golden_state());
        assert_eq!(encode_record(&state, Some(ACTOR)), golden);
        let (record, slice) = encode_state_record(&golden_state(), Some(ACTOR));
        assert_eq!((record, slice), (golden.clone(), state.clone()));
        let minted = Some(ACTOR);
        assert_eq!(decode_record(golden), Ok(Record { minted, state }));
    }
}
