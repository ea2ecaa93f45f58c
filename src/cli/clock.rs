//! `quorate clock`.

use crate::wire::clock::describe;

use super::failure::Failure;
use super::output::{Streams, line};

/// What can be done with a clock.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show what a clock has seen
    Decode {
        /// As an answer gave it
        token: String,
    },
}

/// Prints what the token claims. Only its own cluster can tell whether it is genuine.
pub(super) fn run(verb: &Verb, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let Verb::Decode { token } = verb;
    let claims = describe(token)?;
    let json = if streams.is_terminal {
        serde_json::to_vec_pretty(&claims)?
    } else {
        serde_json::to_vec(&claims)?
    };
    Ok(line(streams.data, &json)?)
}
