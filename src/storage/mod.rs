//! Where records are kept: the `Engine` trait, its two implementations, and the directory they
//! live in. Plain blocking calls; nothing here knows of actors.

mod engine;

pub use engine::{Change, Engine, EngineError, Entry, Sync};
