//! How things look outside memory: between nodes and on the disk. Conversion and validation only.

pub mod clock;
pub mod record;
pub mod state;
