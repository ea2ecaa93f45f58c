//! How things look outside memory: between nodes and on the disk. Conversion and validation only.

pub mod clock;
pub mod entropy;
pub mod figures;
pub mod hello;
pub mod membership;
mod mirror;
pub mod peer;
pub mod proof;
pub mod reaping;
pub mod record;
pub mod ring;
pub mod state;
pub mod trace;
pub mod transfer;
pub mod transfers;
