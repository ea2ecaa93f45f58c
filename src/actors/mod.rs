//! The actors: each owns one thing and moves data; what to do is decided in `dynamo`.

pub mod handle;
pub mod replica;
pub mod request;
