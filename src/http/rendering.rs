//! Answers as bytes. Values are put in verbatim, as their clients wrote them, so answers are
//! concatenated rather than serialised.

use bytes::Bytes;

use crate::dynamo::version::{Sibling, State};

/// A JSON object in the making; fields come in the order they are added.
pub(super) struct Object(Vec<u8>);

impl Object {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A field whose text needs no escapes: a name of ours, or base64.
    pub(super) fn plain(mut self, name: &str, text: &str) -> Self {
        self.open(name);
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
        self
    }

    /// A field with any text.
    pub(super) fn text(self, name: &str, text: &str) -> Self {
        let escaped = serde_json::Value::from(text).to_string();
        self.raw(name, escaped.as_bytes())
    }

    /// A field whose value is JSON already.
    pub(super) fn raw(mut self, name: &str, json: &[u8]) -> Self {
        self.open(name);
        self.0.extend_from_slice(json);
        self
    }

    pub(super) fn number(self, name: &str, number: usize) -> Self {
        self.raw(name, number.to_string().as_bytes())
    }

    /// Ends the object, and its line.
    pub(super) fn finish(mut self) -> Bytes {
        self.0.extend_from_slice(b"}\n");
        self.0.into()
    }

    fn open(&mut self, name: &str) {
        let opening: &[u8] = if self.0.is_empty() { b"{\"" } else { b",\"" };
        self.0.extend_from_slice(opening);
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// The live values as a JSON array.
pub(super) fn values(state: &State) -> Vec<u8> {
    let live = state.live();
    let mut out = Vec::with_capacity(bytes_of(&live));
    push_values(&mut out, &live);
    out
}

/// What a read answers: `{"value":[…],"clock":"…"}`, in one allocation.
pub(super) fn read_answer(state: &State, clock: &str) -> Bytes {
    const FRAME: usize = "{\"value\":,\"clock\":\"\"}\n".len();
    let live = state.live();
    let mut out = Object::with_capacity(FRAME + bytes_of(&live) + clock.len());
    out.open("value");
    push_values(&mut out.0, &live);
    out.plain("clock", clock).finish()
}

fn push_values(out: &mut Vec<u8>, live: &[(&Sibling, &Bytes)]) {
    out.push(b'[');
    for (i, (_, value)) in live.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(value);
    }
    out.push(b']');
}

fn bytes_of(live: &[(&Sibling, &Bytes)]) -> usize {
    live.iter().map(|(_, value)| value.len() + 1).sum::<usize>() + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::node_id::Incarnation;
    use crate::dynamo::version::{Actor, Body, Context, Dot, RequestId};

    fn sibling(n: u64, body: Body) -> Sibling {
        let actor = Actor {
            incarnation: Incarnation(n),
            epoch: 1,
        };
        let request = RequestId {
            id: n.into(),
            fingerprint: 0,
        };
        Sibling {
            dot: Dot { actor, n: 1 },
            body,
            request,
        }
    }

    #[test]
    fn values_are_shown_as_they_were_written_and_tombstones_not_at_all() {
        let bodies = [
            Body::Value(Bytes::from_static(b"1e400")),
            Body::Tombstone,
            Body::Value(Bytes::from_static(b"{ \"b\":1, \"a\":-0 }")),
        ];
        let numbered = bodies.into_iter().zip(1..).map(|(b, n)| sibling(n, b));
        let siblings: Vec<Sibling> = numbered.collect();
        let state = State {
            context: Context::from_parts(Vec::new(), siblings.iter().map(|s| s.dot).collect()),
            siblings,
            remembered: Vec::new(),
        };
        let answer = read_answer(&state, "e30=");
        assert_eq!(
            answer,
            "{\"value\":[1e400,{ \"b\":1, \"a\":-0 }],\"clock\":\"e30=\"}\n"
        );
        assert_eq!(values(&state), b"[1e400,{ \"b\":1, \"a\":-0 }]");
    }

    #[test]
    fn an_object_escapes_what_needs_it() {
        let object = Object::with_capacity(0)
            .text("m", "a\"b\u{1b}")
            .number("n", 3);
        assert_eq!(object.finish(), "{\"m\":\"a\\\"b\\u001b\",\"n\":3}\n");
    }
}
