//! The text of a clock's claims, and its way back where a MAC has shown that the text is what was
//! written here. Both are done for every write, by hand because serde takes several times as long;
//! what is not known to be genuine goes through serde, which says what is wrong with it.

use super::VERSION;
use crate::dynamo::node_id::Incarnation;
use crate::dynamo::version::{Actor, Clock, Context, Dot, Reason, Remembered, RequestId};

const REQUESTS_OPEN: &[u8] = b",\"requests\":[";

/// What a genuine token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Genuine {
    pub(super) clock: Clock,
    pub(super) key: u64,
    pub(super) cluster: u64,
}

/// Appends everything up to the MAC.
pub(super) fn write_claims(out: &mut Vec<u8>, clock: &Clock, key: u64, cluster: u64) {
    let seen = &clock.seen;
    out.extend_from_slice(b"{\"v\":");
    decimal(out, VERSION.into());
    out.extend_from_slice(b",\"vector\":{");
    for (i, &(actor, n)) in seen.vector().iter().enumerate() {
        comma_before(out, i);
        name(out, actor);
        decimal(out, n);
    }
    out.extend_from_slice(b"},\"cloud\":{");
    for (i, run) in (seen.cloud().chunk_by(|a, b| a.actor == b.actor)).enumerate() {
        comma_before(out, i);
        for (j, dot) in run.iter().enumerate() {
            if j == 0 {
                name(out, dot.actor);
                out.push(b'[');
            }
            comma_before(out, j);
            decimal(out, dot.n);
        }
        out.push(b']');
    }
    out.push(b'}');
    for (i, named) in clock.remembered.iter().enumerate() {
        out.extend_from_slice(if i == 0 { REQUESTS_OPEN } else { b"," });
        request(out, named);
    }
    if !clock.remembered.is_empty() {
        out.push(b']');
    }
    out.extend_from_slice(b",\"key\":\"");
    hex(out, key);
    out.extend_from_slice(b"\",\"cluster\":\"");
    hex(out, cluster);
    out.push(b'"');
}

/// Takes apart what [`write_claims`] wrote; `None` for any other text.
pub(super) fn read_claims(text: &[u8]) -> Option<Genuine> {
    let mut rest = Rest(text);
    rest.skip(b"{\"v\":")?;
    (rest.decimal()? == u64::from(VERSION)).then_some(())?;
    rest.skip(b",\"vector\":{")?;
    let (mut vector, mut cloud) = (Vec::new(), Vec::new());
    while rest.another(b'}')? {
        let actor = rest.name()?;
        vector.push((actor, rest.decimal()?));
    }
    rest.skip(b",\"cloud\":{")?;
    while rest.another(b'}')? {
        let actor = rest.name()?;
        rest.skip(b"[")?;
        while rest.another(b']')? {
            let n = rest.decimal()?;
            cloud.push(Dot { actor, n });
        }
    }
    let mut remembered = Vec::new();
    if rest.skip(REQUESTS_OPEN).is_some() {
        while rest.another(b']')? {
            remembered.push(rest.request()?);
        }
    }
    rest.skip(b",\"key\":\"")?;
    let key = rest.hex()?;
    rest.skip(b"\",\"cluster\":\"")?;
    let cluster = rest.hex()?;
    rest.skip(b"\"")?;
    let seen = Context::from_parts(vector, cloud);
    let clock = Clock { seen, remembered };
    (rest.0.is_empty()).then_some(Genuine {
        clock,
        key,
        cluster,
    })
}

fn comma_before(out: &mut Vec<u8>, i: usize) {
    if i > 0 {
        out.push(b',');
    }
}

/// `"<incarnation>.<epoch>":`
fn name(out: &mut Vec<u8>, actor: Actor) {
    quoted(out, actor);
    out.push(b':');
}

fn quoted(out: &mut Vec<u8>, actor: Actor) {
    out.push(b'"');
    hex(out, actor.incarnation.0);
    out.push(b'.');
    decimal(out, actor.epoch);
    out.push(b'"');
}

/// `["<incarnation>.<epoch>",<n>,"<reason>","<id, 32 hex digits><fingerprint, 16>"]`
fn request(out: &mut Vec<u8>, named: &Remembered) {
    out.push(b'[');
    quoted(out, named.dot.actor);
    out.push(b',');
    decimal(out, named.dot.n);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(reason_name(named.reason).as_bytes());
    out.extend_from_slice(b"\",\"");
    for byte in named.request.id.to_be_bytes() {
        out.extend_from_slice(&hex_digits(byte));
    }
    hex(out, named.request.fingerprint);
    out.extend_from_slice(b"\"]");
}

pub(super) fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Keyed => "keyed",
        Reason::Afar => "afar",
        Reason::Doubtful => "doubtful",
    }
}

/// 16 lower-case digits.
fn hex(out: &mut Vec<u8>, number: u64) {
    for byte in number.to_be_bytes() {
        out.extend_from_slice(&hex_digits(byte));
    }
}

/// The two lower-case digits of a byte.
pub(super) fn hex_digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| match digit {
        0..10 => b'0' + digit,
        _ => b'a' + digit - 10,
    })
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let begin = out.len();
    loop {
        out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(begin..) {
        digits.reverse();
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn skip(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Whether another entry comes before the end of the list, which is skipped.
    fn another(&mut self, end: u8) -> Option<bool> {
        let (&first, rest) = self.0.split_first()?;
        if first == end || first == b',' {
            self.0 = rest;
        }
        Some(first != end)
    }

    fn name(&mut self) -> Option<Actor> {
        let actor = self.quoted()?;
        self.skip(b":")?;
        Some(actor)
    }

    fn quoted(&mut self) -> Option<Actor> {
        self.skip(b"\"")?;
        let incarnation = Incarnation(self.hex()?);
        self.skip(b".")?;
        let epoch = self.decimal()?;
        self.skip(b"\"")?;
        Some(Actor { incarnation, epoch })
    }

    fn request(&mut self) -> Option<Remembered> {
        self.skip(b"[")?;
        let actor = self.quoted()?;
        self.skip(b",")?;
        let n = self.decimal()?;
        self.skip(b",\"")?;
        let mut reasons = Reason::ALL.into_iter();
        let reason = reasons.find(|r| self.skip(reason_name(*r).as_bytes()).is_some())?;
        self.skip(b"\",\"")?;
        let (high, low) = (self.hex()?, self.hex()?);
        let fingerprint = self.hex()?;
        self.skip(b"\"]")?;
        Some(Remembered {
            dot: Dot { actor, n },
            reason,
            request: RequestId {
                id: u128::from(high) << 64 | u128::from(low),
                fingerprint,
            },
        })
    }

    fn hex(&mut self) -> Option<u64> {
        let (digits, rest) = self.0.split_first_chunk::<16>()?;
        self.0 = rest;
        let digit = |number: u64, digit: &u8| match digit {
            b'0'..=b'9' => Some(number << 4 | u64::from(digit - b'0')),
            b'a'..=b'f' => Some(number << 4 | u64::from(digit - b'a' + 10)),
            _ => None,
        };
        digits.iter().try_fold(0, digit)
    }

    fn decimal(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit());
        let (digits, rest) = self.0.split_at(digits.count());
        self.0 = rest;
        let add = |number: u64, digit: &u8| {
            let tens = number.checked_mul(10)?;
            tens.checked_add(u64::from(digit - b'0'))
        };
        (!digits.is_empty()).then_some(())?;
        digits.iter().try_fold(0, add)
    }
}
