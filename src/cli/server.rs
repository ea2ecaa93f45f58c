//! `quorate server`.

use std::io::{self, Read};

use rustix::process::{Signal, getpid, kill_process};
use slog::{error, warn};

use crate::config::{Config, Settings};
use crate::{logging, node};

use super::failure::Failure;
use super::output::Streams;

/// Runs a node until it is told to end.
pub(super) fn run(flags: Settings, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let config = Config::load(flags)?;
    let (log, logs) = logging::start(&config)?;
    for notice in &config.notices {
        warn!(log, "{}", notice);
    }
    if config.exit_with_stdin {
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(terminate_when_stdin_ends)?;
    }
    let end = actix::System::new().block_on(node::run(config, log.clone(), logs.clone()));
    if let Err(why) = &end {
        error!(log, "the node ends"; "error.message" => %why);
    }
    logs.flush();
    let lost = logs.lost();
    if lost > 0 {
        writeln!(streams.chatter, "{lost} log lines could not be written")?;
    }
    Ok(end?)
}

/// A parent that dies cannot send a signal any more, but its end of a pipe closes: the node then
/// tells itself.
fn terminate_when_stdin_ends() {
    let mut ignored = [0; 256];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut ignored) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if kill_process(getpid(), Signal::TERM).is_err() {
        std::process::abort();
    }
}
