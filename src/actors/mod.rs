//! The actors: each owns one thing and moves data; what to do is decided in `dynamo`.

pub mod deferred;
pub mod handle;
pub mod local_reader;
pub mod replica;
pub mod request;
pub mod ring_view;
pub mod store_keeper;
