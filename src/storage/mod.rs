//! Where records are kept: the `Engine` trait, its two implementations, and the directory they
//! live in. Plain blocking calls; nothing here knows of actors.

#[cfg(test)]
mod conformance;
mod counts;
pub mod directory;
mod engine;
mod fjall;
mod hints;
pub mod identity;
mod memory;

pub use counts::{Counts, Presence};
pub use directory::{DataDirectory, DirectoryError, Readmission};
pub use engine::{Change, Engine, EngineError, Entry, Sync};
pub use fjall::FjallEngine;
pub use hints::{HintSum, HintTally, hint_bytes};
pub use identity::{Durability, EpochLease, Found, Identity, IdentityError};
pub use memory::MemoryEngine;
