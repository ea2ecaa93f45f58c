//! The pure core: decides, and never waits, logs, or reads a clock.

pub mod entropy;
pub mod health;
pub mod key;
pub mod membership;
pub mod merkle;
pub mod node_id;
pub mod pacing;
pub mod quarantine;
pub mod quorum;
pub mod reaping;
pub mod ring;
pub mod version;
