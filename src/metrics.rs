//! What a node counts, and how it is shown to Prometheus.
//!
//! Whoever works counts in plain atomics that it holds already: nothing is looked up by a name or a
//! label, and no lock is taken, while a client waits. Names, units and labels are in the
//! [`catalogue`]; a [`page::Page`] puts the two together when it is scraped.

pub mod calls;
pub mod catalogue;
#[cfg(test)]
mod cost;
pub mod counter;
pub mod histogram;
pub mod operations;
pub mod page;
pub mod process;
pub mod requests;
