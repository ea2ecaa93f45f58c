//! The `quorate` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    quorate::cli::run(quorate::cli::Cli::parse())
}
