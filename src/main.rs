//! The `quorate` command.

use std::process::ExitCode;

use clap::Parser;

/// A node makes many small allocations that another thread frees, for which the system's allocator
/// keeps asking the kernel.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quorate::cli::run(quorate::cli::Cli::parse())
}
