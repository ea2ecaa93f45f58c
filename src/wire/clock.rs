//! The clock token: what a client has seen of one key, handed out with every answer and handed back
//! with a write.
//!
//! Base64 of compact JSON, so that `base64 -d` shows it. A MAC under a key derived from the cluster
//! secret covers the text and the key's bytes: a token is trusted if it is, letter for letter, one
//! that this cluster has made for this key, and refused otherwise.

mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use self::text::{hex_digits, read_claims, write_claims};
use crate::dynamo::key::Key;
use crate::dynamo::node_id::Incarnation;
use crate::dynamo::ring::ClusterId;
use crate::dynamo::version::{Actor, Clock};

/// Longest token in bytes that is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

const VERSION: u8 = 1;
const KEY_LABEL: &[u8] = b"quorate clock token 1";
const MAC_OPENS: &str = ",\"mac\":\"";
const MAC_CLOSES: &str = "\"}";
const MAC_HEX_DIGITS: usize = 32;

/// Makes and checks the tokens of one cluster.
#[derive(Clone)]
pub struct ClockCodec {
    keyed: Hmac<Sha256>,
    cluster: ClusterId,
}

/// Why a text is not a clock that this cluster made for this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("it is longer than any clock")]
    TooLong,
    /// Not canonical base64 in the standard alphabet, with padding.
    #[error("it is not base64 as it was handed out")]
    NotBase64,
    /// The decoded text does not have a clock's fields.
    #[error("it does not decode to a clock")]
    NotAClock,
    /// It names another key.
    #[error("it belongs to another key")]
    OtherKey,
    /// It names another cluster.
    #[error("it belongs to another cluster")]
    OtherCluster,
    /// The MAC does not fit the text.
    #[error("it was not handed out by this cluster, or has been altered")]
    Forged,
}

/// What a token says of itself, whether or not it is genuine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockClaims {
    /// The format's version.
    #[serde(rename = "v")]
    pub version: u8,
    /// All of an actor's writes up to a number.
    pub vector: BTreeMap<ActorName, u64>,
    /// An actor's single writes beyond that.
    pub cloud: BTreeMap<ActorName, Vec<u64>>,
    /// The requests of those writes of which there may be another attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestClaim>,
    /// The hash of the key, 16 hex digits.
    pub key: Hex64,
    /// The cluster's id, 16 hex digits.
    pub cluster: Hex64,
    mac: String,
}

/// A write's actor and number, why its request is remembered, and the request: its id and its
/// fingerprint, 48 hex digits.
pub type RequestClaim = (ActorName, u64, String, String);

/// An [`Actor`] as text: `<incarnation, 16 hex digits>.<epoch>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActorName(pub Actor);

/// A number as text: 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex64(pub u64);

impl ClockCodec {
    /// Derives the MAC key from the cluster secret, of any length.
    #[must_use]
    pub fn new(secret: &[u8], cluster: ClusterId) -> Self {
        let root = keyed(Sha256::digest(secret).into());
        let derived = root.chain_update(KEY_LABEL).finalize().into_bytes();
        Self {
            keyed: keyed(derived.into()),
            cluster,
        }
    }

    /// The token that says: its holder has seen these writes of this key.
    #[must_use]
    pub fn encode(&self, key: &Key, clock: &Clock) -> String {
        let entries = clock.seen.vector().len() + clock.seen.cloud().len();
        let mut text = Vec::with_capacity(160 + 48 * entries + 112 * clock.remembered.len());
        write_claims(&mut text, clock, key.hash().as_u64(), self.cluster.0);
        let mac = self.mac(&text, key);
        text.extend_from_slice(MAC_OPENS.as_bytes());
        text.extend_from_slice(&mac);
        text.extend_from_slice(MAC_CLOSES.as_bytes());
        STANDARD.encode(text)
    }

    /// What the holder of the token has seen of this key.
    ///
    /// # Errors
    /// [`ClockError`] for every text but those that [`encode`](Self::encode) gave for this key.
    pub fn decode(&self, key: &Key, token: &str) -> Result<Clock, ClockError> {
        let text = open(token)?;
        let (claims, mac) = split(&text).ok_or(ClockError::NotAClock)?;
        let genuine: bool = self.mac(claims, key).as_slice().ct_eq(mac).into();
        let read = read_claims(claims).filter(|_| genuine);
        if let Some(claims) = read.filter(|claims| claims.cluster == self.cluster.0) {
            return Ok(claims.clock);
        }
        let claims = parse(&text)?;
        if claims.cluster.0 != self.cluster.0 {
            return Err(ClockError::OtherCluster);
        }
        if claims.key.0 != key.hash().as_u64() {
            return Err(ClockError::OtherKey);
        }
        Err(ClockError::Forged)
    }

    fn mac(&self, claims: &[u8], key: &Key) -> [u8; MAC_HEX_DIGITS] {
        // JSON text holds no NUL byte, so the two parts cannot be cut in another place.
        let mac = self.keyed.clone().chain_update(claims).chain_update([0]);
        let whole = mac.chain_update(key.as_bytes()).finalize().into_bytes();
        let digits = whole.iter().flat_map(|&byte| hex_digits(byte));
        let mut half = [0; MAC_HEX_DIGITS];
        half.iter_mut()
            .zip(digits)
            .for_each(|(to, digit)| *to = digit);
        half
    }
}

impl fmt::Debug for ClockCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockCodec")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// What a token claims, without the means to check it: for people who look at one.
///
/// # Errors
/// [`ClockError::TooLong`], [`ClockError::NotBase64`] or [`ClockError::NotAClock`].
pub fn describe(token: &str) -> Result<ClockClaims, ClockError> {
    parse(&open(token)?)
}

fn keyed(key: [u8; 32]) -> Hmac<Sha256> {
    // HMAC fills a short key up with zeros itself.
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = from;
    }
    Hmac::new(&block.into())
}

fn open(token: &str) -> Result<Vec<u8>, ClockError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(ClockError::TooLong);
    }
    match STANDARD.decode(token) {
        Ok(text) => Ok(text),
        Err(_not_base64) => Err(ClockError::NotBase64),
    }
}

/// The text that the MAC covers, and the MAC.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_suffix(MAC_CLOSES.as_bytes())?;
    let (rest, mac) = rest.split_at_checked(rest.len().checked_sub(MAC_HEX_DIGITS)?)?;
    Some((rest.strip_suffix(MAC_OPENS.as_bytes())?, mac))
}

fn parse(text: &[u8]) -> Result<ClockClaims, ClockError> {
    match serde_json::from_slice::<ClockClaims>(text) {
        Ok(claims) if claims.version == VERSION => Ok(claims),
        Ok(_) | Err(_) => Err(ClockError::NotAClock),
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.incarnation, self.0.epoch)
    }
}

impl fmt::Display for Hex64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ActorName {
    type Err = ClockError;

    fn from_str(text: &str) -> Result<Self, ClockError> {
        let (incarnation, epoch) = text.split_once('.').ok_or(ClockError::NotAClock)?;
        let plain = epoch.bytes().all(|b| b.is_ascii_digit());
        match (incarnation.parse::<Hex64>(), epoch.parse()) {
            (Ok(Hex64(incarnation)), Ok(epoch)) if plain => Ok(Self(Actor {
                incarnation: Incarnation(incarnation),
                epoch,
            })),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(ClockError::NotAClock),
        }
    }
}

impl FromStr for Hex64 {
    type Err = ClockError;

    fn from_str(text: &str) -> Result<Self, ClockError> {
        let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match u64::from_str_radix(text, 16) {
            Ok(number) if text.len() == 16 && text.bytes().all(plain) => Ok(Self(number)),
            Ok(_) | Err(_) => Err(ClockError::NotAClock),
        }
    }
}

/// Serde through `Display` and `FromStr`, without a copy of the text on the way in.
macro_rules! as_text {
    ($type:ty, $expected:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

as_text!(ActorName, "an incarnation and an epoch");
as_text!(Hex64, "16 hex digits");

#[cfg(test)]
mod tests;
