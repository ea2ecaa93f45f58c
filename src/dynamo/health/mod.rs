//! How another node does, judged by how its calls end: whether it answers at all, and whether it
//! does so at the pace of its fellows. It steers whom to ask; it never moves ownership.
//!
//! A moment is the time since a beginning that is the same for all calls; nobody here has a clock.

mod detector;
mod hedge;
mod pace;

use std::time::Duration;

pub use detector::Detector;
pub use hedge::Hedge;

/// A node that has left a light call unanswered for so long is no longer preferred.
pub const SILENT_AFTER: Duration = Duration::from_millis(300);
/// A node that has left a light call unanswered for so long counts as dead.
pub const DEAD_AFTER: Duration = Duration::from_millis(800);
/// Syncs may take their time: a durable call may be out for so long.
pub const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Without trouble for so long, a node is preferred again; doubled while trouble keeps coming.
pub const CALM: Duration = Duration::from_secs(2);
/// The longest calm that is asked for.
pub const LONGEST_CALM: Duration = Duration::from_secs(16);

/// What is known of a node, from worst to best of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It answers in normal time, or was never tried.
    Preferred,
    /// It answers, but late, or it has just begun to answer again.
    Slow,
    /// It does not answer.
    Unreachable,
}

/// What a call costs the node that answers it; only calls of one kind are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Answered from memory: pings and reads.
    Light,
    /// Answered after a sync: writes and mints.
    Durable,
}

/// Gives each node the pace of its fellows, and judges it anew.
pub fn review(nodes: &mut [&mut Detector], now: Duration) {
    for call in [Call::Light, Call::Durable] {
        let paces: Vec<Option<Duration>> = nodes.iter().map(|node| node.pace(call)).collect();
        for (at, node) in nodes.iter_mut().enumerate() {
            let others = paces.iter().enumerate().filter(|(other, _)| *other != at);
            node.compare(call, lower_median(others.filter_map(|(_, pace)| *pace)));
        }
    }
    for node in nodes {
        node.judge(now);
    }
}

/// Of an even number the faster one, so that one slow fellow of two excuses nobody.
fn lower_median(paces: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut paces: Vec<Duration> = paces.collect();
    paces.sort_unstable();
    paces.get(paces.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests;
