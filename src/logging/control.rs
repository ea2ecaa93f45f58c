//! What can be asked of the log while it is written: its level, what was lost, another file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use slog::Level;

use super::queue::Queue;
use crate::config::LogLevel;

/// How long the end of the process waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A handle on the log of a process; the clones are about the same one.
#[derive(Debug, Clone)]
pub struct LogControl(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    level: AtomicUsize,
    /// Lines that could not even be formatted.
    unformatted: AtomicU64,
    console: Option<Queue>,
    file: Option<(PathBuf, Queue)>,
}

impl LogControl {
    pub(super) fn new(
        level: LogLevel,
        console: Option<Queue>,
        file: Option<(PathBuf, Queue)>,
    ) -> Self {
        Self(Arc::new(Inner {
            level: AtomicUsize::new(as_slog(level).as_usize()),
            unformatted: AtomicU64::new(0),
            console,
            file,
        }))
    }

    /// A log that nobody reads.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::new(LogLevel::Info, None, None)
    }

    /// The least important lines that are written.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        match Level::from_usize(self.0.level.load(Ordering::Relaxed)) {
            Some(Level::Critical | Level::Error) | None => LogLevel::Error,
            Some(Level::Warning) => LogLevel::Warn,
            Some(Level::Info) => LogLevel::Info,
            Some(Level::Debug) => LogLevel::Debug,
            Some(Level::Trace) => LogLevel::Trace,
        }
    }

    /// Sets it, from the next line on.
    pub fn set_level(&self, level: LogLevel) {
        let level = as_slog(level).as_usize();
        self.0.level.store(level, Ordering::Relaxed);
    }

    pub(super) fn is_enabled(&self, level: Level) -> bool {
        level.as_usize() <= self.0.level.load(Ordering::Relaxed)
    }

    /// How many lines found no room or could not be written since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let unformatted = self.0.unformatted.load(Ordering::Relaxed);
        unformatted + self.queues().map(Queue::lost).sum::<u64>()
    }

    pub(super) fn lose(&self) {
        self.0.unformatted.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits, but not for ever, until all lines so far are written.
    pub fn flush(&self) {
        for queue in self.queues() {
            queue.flush(LAST_LINES);
        }
    }

    /// The log file's path, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// Opens the log file's path again, for whoever has moved the file away.
    ///
    /// # Errors
    /// When it cannot be opened; then all goes on in the file that is open.
    pub fn reopen(&self) -> io::Result<()> {
        if let Some((path, queue)) = &self.0.file {
            queue.go_on_in(open(path)?);
        }
        Ok(())
    }

    fn queues(&self) -> impl Iterator<Item = &Queue> {
        let file = self.0.file.as_ref().map(|(_, queue)| queue);
        self.0.console.iter().chain(file)
    }
}

/// The levels by their names, as the command line knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelName(pub LogLevel);

impl LevelName {
    /// Every level, the most important first.
    pub const ALL: [LogLevel; 5] = [
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Debug,
        LogLevel::Trace,
    ];

    /// The level of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<LogLevel> {
        Self::ALL.into_iter().find(|l| Self(*l).as_str() == name)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self.0 {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl fmt::Display for LevelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn as_slog(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}

/// Opens a log file to add lines to it, and makes it if it is not there. A last line that was cut
/// off is ended.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}
