//! The actors: each owns one thing and moves data; what to do is decided in `dynamo`.

pub mod action_log;
pub mod admin_handle;
pub mod admission;
pub mod anti_entropy;
pub mod asking;
pub mod background;
pub mod custodian;
pub mod damage;
pub mod deferred;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod fake_node;
pub mod giver;
pub mod handle;
pub mod handoff;
pub mod health;
pub mod hint_keeper;
pub mod life_view;
pub mod lifecycle;
pub mod link;
pub mod local_reader;
pub mod mender;
pub mod merging;
pub mod peer;
pub mod peer_handle;
pub mod prober;
pub mod proposal;
pub mod pulling;
pub mod pulse;
pub mod read_coordinator;
pub mod read_counts;
pub mod readiness_keeper;
pub mod reaper;
pub mod recovery;
pub mod replica;
pub mod request;
pub mod ring_keeper;
pub mod ring_view;
pub mod starts;
pub mod store_keeper;
pub mod surveyor;
pub mod worker;
pub mod write_coordinator;
