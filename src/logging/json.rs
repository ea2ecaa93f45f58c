//! A record as one line of JSON. Each thread keeps its formatter and its buffer, so that a line
//! costs no allocation.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};

use slog::{Drain, Level, OwnedKVList, Record, Serializer, o};
use slog_json::Json;

use crate::clock;

/// The version of the field names.
const ECS_VERSION: &str = "8.11.0";

/// A line's usual length in bytes, and some.
const LINE_BYTES: usize = 512;

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(LINE_BYTES));
    static FORMAT: Json<Line> = format();
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Gives the line of a record to `take`, with `tail` in the place of its last brace. Says whether
/// there is one: a value may fail to be formatted.
pub(super) fn with_line(
    record: &Record<'_>,
    values: &OwnedKVList,
    tail: &[u8],
    take: impl FnOnce(&[u8]),
) -> bool {
    // A value that logs, or panics, while it is formatted finds the thread's own buffers taken.
    if IS_BUSY.replace(true) {
        take(&bare(record, tail));
        return true;
    }
    LINE.with_borrow_mut(Vec::clear);
    let done = FORMAT.with(|format| format.log(record, values)).is_ok();
    if done {
        LINE.with_borrow_mut(|line| finish(line, tail));
        LINE.with_borrow(|line| take(line));
    }
    IS_BUSY.set(false);
    done
}

/// The record without its values, made of nothing that the thread keeps.
fn bare(record: &Record<'_>, tail: &[u8]) -> Vec<u8> {
    let message = serde_json::Value::from(record.msg().to_string());
    let (stamp, level) = (clock::stamp(), level_name(record.level()));
    let mut line = format!(
        "{{\"@timestamp\":\"{stamp}\",\"log.level\":\"{level}\",\"message\":{message},\
         \"ecs.version\":\"{ECS_VERSION}\""
    )
    .into_bytes();
    line.extend_from_slice(tail);
    line
}

fn finish(line: &mut Vec<u8>, tail: &[u8]) {
    if line.last() == Some(&b'}') {
        line.pop();
    }
    line.extend_from_slice(tail);
}

fn format() -> Json<Line> {
    let format = Json::new(Line).set_newlines(false);
    format.add_key_value(o!(Head)).build()
}

/// The thread's line.
struct Line;

impl Write for Line {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        LINE.with_borrow_mut(|line| line.extend_from_slice(part));
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What every line begins with.
struct Head;

impl slog::KV for Head {
    fn serialize(&self, record: &Record<'_>, out: &mut dyn Serializer) -> slog::Result {
        out.emit_arguments("@timestamp", &format_args!("{}", clock::stamp()))?;
        out.emit_str("log.level", level_name(record.level()))?;
        match record.msg().as_str() {
            Some(constant) => out.emit_str("message", constant)?,
            None => out.emit_arguments("message", record.msg())?,
        }
        out.emit_str("ecs.version", ECS_VERSION)
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The fields that every line of a process shares, as a line ends with them.
pub(super) fn tail(node: &str) -> Vec<u8> {
    let node = serde_json::Value::from(node);
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    format!(
        ",\"service.name\":\"{name}\",\"service.version\":\"{version}\",\
         \"service.node.name\":{node},\"event.dataset\":\"quorate.node\"}}\n"
    )
    .into_bytes()
}
