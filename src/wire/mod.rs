//! What leaves the process: formats, their validation, and nothing else.

pub mod clock;
