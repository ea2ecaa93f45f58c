//! Where records are kept: the `Engine` trait, its two implementations, and the directory they
//! live in. Plain blocking calls; nothing here knows of actors.

#[cfg(test)]
mod conformance;
pub mod directory;
mod engine;
mod fjall;
pub mod identity;
mod memory;

pub use directory::{DataDirectory, DirectoryError};
pub use engine::{Change, Engine, EngineError, Entry, Sync};
pub use fjall::FjallEngine;
pub use identity::{Durability, EpochLease, Identity, IdentityError};
pub use memory::MemoryEngine;
