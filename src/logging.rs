//! The root logger: one JSON object a line under ECS names, or text for people.
//!
//! A record is stamped and formatted where it is logged; a thread for each file writes what has
//! gathered. The most important level, with which a node ends, waits until it is written. Nothing
//! that goes wrong with the log ends a node or holds it up: lines that are lost are counted. Keys
//! must be unique along a logger's chain and its record: log stores refuse a line that has one twice.

mod control;
mod fields;
mod json;
mod queue;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, o};
use slog_term::{FullFormat, PlainSyncDecorator};

pub use self::control::{LevelName, LogControl};
pub use self::fields::{FIELDS, Field, Kind};

use self::queue::Queue;
use crate::clock;
use crate::config::{Config, LogFormat};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file cannot be opened.
    #[error("--log-file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output or standard error cannot be used, or there is no thread to write with.
    #[error("cannot log: {0}")]
    Console(#[from] io::Error),
}

/// The node's root logger, as configured, and the handle on it.
///
/// # Errors
/// [`LogError`].
pub fn start(config: &Config) -> Result<(Logger, LogControl), LogError> {
    let mut drain = Outlets {
        control: LogControl::nowhere(),
        json: Vec::new(),
        tail: json::tail(config.name.as_str()),
        text: None,
    };
    let format = match config.log_format {
        LogFormat::Auto if io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        format @ (LogFormat::Json | LogFormat::Text | LogFormat::Off) => format,
    };
    let console_queue = match format {
        LogFormat::Json | LogFormat::Auto => {
            let queue = console("log", io::stdout().as_fd())?;
            drain.json.push(queue.clone());
            Some(queue)
        }
        LogFormat::Text => {
            let queue = console("log", io::stderr().as_fd())?;
            drain.text = Some(text(queue.clone()));
            Some(queue)
        }
        LogFormat::Off => None,
    };
    let file = match &config.log_file {
        Some(path) => {
            let opened = control::open(path).and_then(|file| Queue::start("log-file", file));
            let queue = opened.map_err(|source| LogError::File {
                path: path.clone(),
                source,
            })?;
            drain.json.push(queue.clone());
            Some((path.clone(), queue))
        }
        None => None,
    };
    drain.control = LogControl::new(config.log_level, console_queue, file);
    let control = drain.control.clone();
    Ok((Logger::root(drain, o!()), control))
}

fn console(name: &str, stream: BorrowedFd<'_>) -> io::Result<Queue> {
    Queue::start(name, File::from(stream.try_clone_to_owned()?))
}

/// Where lines go.
struct Outlets {
    control: LogControl,
    json: Vec<Queue>,
    /// What a line of JSON ends with.
    tail: Vec<u8>,
    text: Option<FullFormat<PlainSyncDecorator<Queue>>>,
}

impl Drain for Outlets {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !self.is_enabled(record.level()) {
            return Ok(());
        }
        let push = |line: &[u8]| self.json.iter().for_each(|queue| queue.push(line));
        if !self.json.is_empty() && !json::with_line(record, values, &self.tail, push) {
            self.control.lose();
        }
        if let Some(text) = &self.text
            && text.log(record, values).is_err()
        {
            self.control.lose();
        }
        if record.level() == Level::Critical {
            self.control.flush();
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.control.is_enabled(level)
    }
}

fn text<W: Write + Send + 'static>(out: W) -> FullFormat<PlainSyncDecorator<W>> {
    FullFormat::new(PlainSyncDecorator::new(out))
        .use_custom_timestamp(|out| write!(out, "{}", clock::stamp()))
        .use_original_order()
        .build()
}

#[cfg(test)]
pub(crate) mod tests;
