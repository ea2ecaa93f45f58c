//! What the log says of clients' operations: one line each, at the node that coordinates it. The
//! lines are made of borrowed facts, since they are written for every request.

use std::time::Duration;

use slog::{Drain, Level, Logger, Record, Serializer, info};

use super::request::{Applied, Failure, ReadAnswer, WriteAnswer};
use crate::dynamo::key::Key;
use crate::dynamo::quorum::Acks;
use crate::dynamo::version::WriteKind;
use crate::wire::trace::TraceId;

/// What operations are called.
pub const ACTIONS: [&str; 4] = ["set", "update", "delete", "get"];

/// A duration as log lines have it.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How keys are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyNames {
    /// As they are.
    Shown,
    /// Only by their hashes.
    Hashed,
}

impl KeyNames {
    /// Shown, or else only by their hashes.
    #[must_use]
    pub fn shown_if(are_shown: bool) -> Self {
        if are_shown { Self::Shown } else { Self::Hashed }
    }

    /// A key as a list of samples has it.
    #[must_use]
    pub fn show(self, key: &Key) -> String {
        match self {
            Self::Shown => name(key),
            Self::Hashed => format!("{:016x}", key.hash().as_u64()),
        }
    }
}

/// The text that a key is; one that is no text with escapes.
fn name(key: &Key) -> String {
    match std::str::from_utf8(key.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_no_text) => key.as_bytes().escape_ascii().to_string(),
    }
}

/// Notes what becomes of clients' operations; cheap to clone.
#[derive(Debug, Clone)]
pub struct ActionLog {
    log: Option<Logger>,
    keys: KeyNames,
}

/// An operation that is to be noted when it ends.
#[derive(Debug, Clone)]
pub struct Action {
    log: Logger,
    keys: KeyNames,
    name: &'static str,
    key: Key,
    trace: TraceId,
}

/// How an operation ended.
#[derive(Debug)]
struct End {
    outcome: &'static str,
    result: &'static str,
    siblings: Option<usize>,
    acks: Option<Acks>,
}

impl ActionLog {
    /// Notes every operation.
    #[must_use]
    pub fn new(log: Logger, keys: KeyNames) -> Self {
        Self {
            log: Some(log),
            keys,
        }
    }

    /// Notes none.
    #[must_use]
    pub fn off() -> Self {
        Self {
            log: None,
            keys: KeyNames::Hashed,
        }
    }

    /// A read begins.
    #[must_use]
    pub fn read(&self, key: &Key, trace: TraceId) -> Option<Action> {
        self.begin("get", key, trace)
    }

    /// A write begins.
    #[must_use]
    pub fn write(&self, kind: WriteKind, key: &Key, trace: TraceId) -> Option<Action> {
        let name = match kind {
            WriteKind::Create => "set",
            WriteKind::Put => "update",
            WriteKind::Delete => "delete",
        };
        self.begin(name, key, trace)
    }

    fn begin(&self, name: &'static str, key: &Key, trace: TraceId) -> Option<Action> {
        let log = self
            .log
            .as_ref()
            .filter(|log| log.is_enabled(Level::Info))?;
        Some(Action {
            log: log.clone(),
            keys: self.keys,
            name,
            key: key.clone(),
            trace,
        })
    }
}

impl Action {
    /// The read ends.
    pub fn read_ends(&self, answer: &Result<ReadAnswer, Failure>, took: Duration) {
        let end = match answer {
            Ok(answer) => {
                let siblings = answer.state.live().len();
                End {
                    outcome: "success",
                    result: if siblings > 0 { "ok" } else { "not_found" },
                    siblings: Some(siblings),
                    acks: Some(answer.acks),
                }
            }
            Err(failure) => End::of(failure),
        };
        self.note(end, took);
    }

    /// The write ends.
    pub fn write_ends(&self, answer: &Result<WriteAnswer, Failure>, took: Duration) {
        let end = match answer {
            Ok(answer) => End {
                outcome: "success",
                result: "ok",
                siblings: Some(answer.siblings),
                acks: Some(answer.acks),
            },
            Err(failure) => End::of(failure),
        };
        self.note(end, took);
    }

    fn note(&self, end: End, took: Duration) {
        let facts = Facts {
            action: self,
            end,
            took,
        };
        info!(self.log, "a client's operation"; facts);
    }
}

impl End {
    fn of(failure: &Failure) -> Self {
        Self {
            outcome: match failure.applied() {
                Applied::No => "failure",
                Applied::Unknown => "unknown",
            },
            result: failure.code(),
            siblings: None,
            acks: None,
        }
    }
}

/// The line's own fields.
struct Facts<'a> {
    action: &'a Action,
    end: End,
    took: Duration,
}

impl slog::KV for Facts<'_> {
    fn serialize(&self, _: &Record<'_>, out: &mut dyn Serializer) -> slog::Result {
        let (action, end) = (self.action, &self.end);
        let hash = action.key.hash();
        out.emit_str("event.action", action.name)?;
        out.emit_str("event.outcome", end.outcome)?;
        out.emit_u64("event.duration", nanos(self.took))?;
        out.emit_str("trace.id", action.trace.as_str())?;
        out.emit_str("quorate.result", end.result)?;
        out.emit_arguments("quorate.key.hash", &format_args!("{:016x}", hash.as_u64()))?;
        if action.keys == KeyNames::Shown {
            out.emit_str("quorate.key.name", &name(&action.key))?;
        }
        out.emit_u16("quorate.partition", hash.partition().number())?;
        if let Some(siblings) = end.siblings {
            out.emit_usize("quorate.siblings", siblings)?;
        }
        if let Some(acks) = end.acks {
            out.emit_usize("quorate.acks.home", acks.home)?;
            if let Some(incoming) = acks.incoming {
                out.emit_usize("quorate.acks.incoming", incoming)?;
            }
            out.emit_usize("quorate.acks.hinted", acks.hinted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::fake::key;

    #[test]
    fn keys_are_shown_only_when_asked() {
        let odd = Key::new(bytes::Bytes::from_static(b"a\xff\n")).unwrap();
        let rows = [
            (KeyNames::Shown, key("caf\u{e9} 1"), "caf\u{e9} 1"),
            (KeyNames::Shown, odd, "a\\xff\\n"),
            (KeyNames::Hashed, key("foobar"), "2c22194922d1672b"),
        ];
        for (names, key, shown) in rows {
            assert_eq!(names.show(&key), shown);
        }
    }
}
