//! The edge: listeners, and what is spoken on them. Everything that can be refused is refused here,
//! and nothing is kept here.

pub mod admin_api;
pub mod api_error;
mod body;
mod call;
pub mod client_api;
pub mod console_api;
pub mod headers;
mod key_path;
pub mod listener;
pub mod peer_api;
mod percent;
mod query;
mod rendering;
pub mod timed_stream;
