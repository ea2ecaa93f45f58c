//! The root logger: one JSON object a line under ECS names, or text for people.
//!
//! A record is stamped and formatted where it is logged, and written with one call, so that the
//! last line before an exit is there. A write that fails is counted, never a panic and never a
//! reason to stop serving. Keys must be unique along a logger's chain and its record: log stores
//! refuse a line that has one twice.

use std::io::{self, IsTerminal, Write};
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use slog::{Drain, Level, LevelFilter, Logger, Never, OwnedKVList, PushFnValue, Record, o};
use slog_json::Json;
use slog_term::{FullFormat, PlainSyncDecorator};

use crate::clock;
use crate::config::{Config, LogFormat, LogLevel};

/// The version of the field names.
const ECS_VERSION: &str = "8.11.0";

/// A line's usual length in bytes, and some.
const LINE_BYTES: usize = 512;

/// How many lines could not be written since the start.
#[derive(Debug, Clone, Default)]
pub struct LostLines(Arc<AtomicU64>);

impl LostLines {
    /// The count so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The node's root logger, as configured: JSON on standard output, text on standard error. The
/// other half tells how many of its lines were lost.
pub fn root(config: &Config) -> (Logger, LostLines) {
    let lost = LostLines::default();
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let level = level(config.log_level);
    let logger = if json {
        let drain = JsonLines(Mutex::new(io::stdout()));
        logger(drain, level, &lost, o!(Identity::of(config)))
    } else {
        logger(text(io::stderr()), level, &lost, o!())
    };
    (logger, lost)
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}

fn logger<D, T>(drain: D, level: Level, lost: &LostLines, values: slog::OwnedKV<T>) -> Logger
where
    D: Drain<Ok = (), Err = io::Error>
        + Send
        + Sync
        + RefUnwindSafe
        + std::panic::UnwindSafe
        + 'static,
    T: slog::SendSyncRefUnwindSafeKV + 'static,
{
    let lost = lost.clone();
    Logger::root(
        LevelFilter::new(Counted { drain, lost }, level).ignore_res(),
        values,
    )
}

/// Who writes: the fields that every line of a process shares.
struct Identity {
    node: String,
}

impl Identity {
    fn of(config: &Config) -> Self {
        Self {
            node: config.name.to_string(),
        }
    }
}

impl slog::KV for Identity {
    fn serialize(&self, _: &Record<'_>, out: &mut dyn slog::Serializer) -> slog::Result {
        out.emit_str("ecs.version", ECS_VERSION)?;
        out.emit_str("service.name", env!("CARGO_PKG_NAME"))?;
        out.emit_str("service.version", env!("CARGO_PKG_VERSION"))?;
        out.emit_str("service.node.name", &self.node)?;
        out.emit_str("event.dataset", "quorate.node")
    }
}

/// Turns failures into a number.
struct Counted<D> {
    drain: D,
    lost: LostLines,
}

impl<D: Drain<Ok = ()>> Drain for Counted<D> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.drain.log(record, values).is_err() {
            self.lost.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// One JSON object a record, written whole.
struct JsonLines<W>(Mutex<W>);

impl<W: Write> Drain for JsonLines<W> {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let mut line = Vec::with_capacity(LINE_BYTES);
        Json::new(&mut line)
            .add_key_value(o!("@timestamp" => clock::stamp().to_string()))
            .add_key_value(o!("log.level" => level_name(record.level())))
            .add_key_value(o!("message" => PushFnValue(|record: &Record<'_>, out| {
                out.emit(record.msg())
            })))
            .build()
            .log(record, values)?;
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&line)?;
        out.flush()
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

fn text<W: Write + Send + 'static>(out: W) -> FullFormat<PlainSyncDecorator<W>> {
    FullFormat::new(PlainSyncDecorator::new(out))
        .use_custom_timestamp(|out| write!(out, "{}", clock::stamp()))
        .use_original_order()
        .build()
}

#[cfg(test)]
mod tests;
