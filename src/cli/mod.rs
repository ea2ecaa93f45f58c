//! The `quorate` command: one file a verb. Data goes to standard output, chatter to standard error,
//! and the exit code says what happened.

mod admin;
mod bench;
mod clock;
mod cluster;
mod connection;
mod create;
mod delete;
mod dev;
mod endpoints;
mod failure;
mod get;
mod health;
mod lb;
mod log_level;
mod members;
mod output;
mod put;
mod record;
mod response;
mod ring;
mod server;
mod status;
mod verify;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Settings;
use failure::Failure;
use output::Streams;

/// A leaderless, always-writable key-value store in the manner of Dynamo
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str =
    "Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 quorum not met, 5 unauthorised";

#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once a process, by the command line's parser"
)]
enum Verb {
    /// Run a node
    Server(Settings),
    /// Run a cluster on this machine, one process a node, until Ctrl-C
    Dev(dev::Args),
    /// Read a key: its values, one a line
    Get(get::Args),
    /// Write a key that has no value
    Create(create::Args),
    /// Write a key
    Put(put::Args),
    /// Delete a key
    Delete(delete::Args),
    /// Succeed if a node is ready to serve
    Health(health::Args),
    /// Show how a node is
    Status(status::Args),
    /// List the cluster's members
    Members(members::Args),
    /// Show who owns what, or where one key lives
    Ring(ring::Args),
    /// Configure a load balancer
    #[command(subcommand)]
    Lb(lb::Verb),
    /// Change who is a member: plan, commit, leave, replace, forget, and more
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Show or set how much a node logs
    LogLevel(log_level::Args),
    /// Work with clocks
    #[command(subcommand)]
    Clock(clock::Verb),
    /// Measure a cluster
    Bench(bench::Args),
    /// Find out whether a cluster keeps its promises while faults happen
    Verify(Box<verify::Args>),
}

/// Does what the command line says. What went wrong is on standard error.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let is_terminal = stdout.is_terminal();
    // Not locked: the log lines of a server's other threads go to standard output too.
    let mut data = io::BufWriter::new(&stdout);
    let result = {
        let mut streams = Streams {
            data: &mut data,
            chatter: &mut &stderr,
            is_terminal,
        };
        perform(cli.verb, &mut streams).and_then(|()| Ok(data.flush()?))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, &stderr),
    }
}

/// A reader that went away has had enough: that is no failure.
fn report(failure: &Failure, mut stderr: &io::Stderr) -> ExitCode {
    if failure.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    match writeln!(stderr, "quorate: {failure}") {
        Ok(()) => ExitCode::from(failure.exit_code()),
        Err(_) => ExitCode::FAILURE,
    }
}

fn perform(verb: Verb, streams: &mut Streams<'_>) -> Result<(), Failure> {
    match verb {
        Verb::Server(settings) => server::run(settings, streams),
        Verb::Dev(args) => block_on(dev::run(args, streams)),
        Verb::Get(args) => block_on(get::run(args, streams)),
        Verb::Create(args) => block_on(create::run(args, streams)),
        Verb::Put(args) => block_on(put::run(args, streams)),
        Verb::Delete(args) => block_on(delete::run(args, streams)),
        Verb::Health(args) => block_on(health::run(args, streams)),
        Verb::Status(args) => block_on(status::run(args, streams)),
        Verb::Members(args) => block_on(members::run(args, streams)),
        Verb::Ring(args) => block_on(ring::run(args, streams)),
        Verb::Lb(lb::Verb::Render(args)) => block_on(lb::run(args, streams)),
        Verb::Cluster(verb) => block_on(cluster::run(verb, streams)),
        Verb::LogLevel(args) => block_on(log_level::run(args, streams)),
        Verb::Clock(verb) => clock::run(&verb, streams),
        Verb::Bench(args) => block_on(bench::run(args, streams)),
        Verb::Verify(args) => block_on(verify::run(*args, streams)),
    }
}

/// Runs a client verb on this thread.
fn block_on(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(tokio::task::LocalSet::new().run_until(verb))
}
