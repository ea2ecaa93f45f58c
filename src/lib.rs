//! Quorate: a leaderless, always-writable key-value store in the manner of Dynamo.
//!
//! `dynamo` decides, `actors` own and move, `http` speaks; see ARCHITECTURE.md for the map.

// For what the tests of this crate and those beside it share.
#[cfg(test)]
extern crate self as quorate;

pub mod actors;
pub mod cli;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod dynamo;
pub mod http;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod mutant;
pub mod node;
pub mod storage;
pub mod wire;
