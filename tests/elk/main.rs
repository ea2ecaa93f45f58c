//! The way from a node's log to Kibana, with real engines on either side of the containers that
//! cannot be had here: real nodes, a real shipper, a real Elasticsearch with the templates that the
//! profile `elk` installs, and every panel's question as the dashboard file has it. The files of
//! Filebeat, Logstash and Kibana are held against grammars, known keys and each other.
//!
//! Needs root, and what `make tools` installs.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod fake;
mod files;
mod jobs;
mod ledger;
mod panels;
mod proof;
mod smoke;
