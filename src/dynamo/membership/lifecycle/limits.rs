//! The waits of a node's life.

use std::time::Duration;

/// Between two rounds of hellos while something is to happen.
pub(super) const HELLO: Duration = Duration::from_millis(500);

/// Between two rounds of hellos of a node that serves a ring at rest.
pub(super) const CALM_HELLO: Duration = Duration::from_secs(5);

/// How long a hello proves that its sender is there.
pub(super) const LATELY: Duration = Duration::from_secs(3);

/// How long a node that has seeds looks for a ring before it founds one.
pub(super) const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How long after its start a node does not yet insist on its name or its cluster, because the
/// other one may have been there first.
pub(super) const YOUNG: Duration = Duration::from_secs(3);

/// How long a member must be silent, though it is greeted, until another data directory under its
/// name counts as the same member with a lost disk.
pub(super) const CLAIM: Duration = Duration::from_secs(3);

/// Being refused counts this long after the start; later it is the other one's mistake.
pub(super) const STARTING: Duration = Duration::from_secs(6);

/// How long a founder waits for a promise before it founds without the silent node.
pub(super) const FOUNDER_PATIENCE: Duration = Duration::from_secs(30);

/// How long a joiner lets those before it in line go first. Order is a courtesy: the promise, not
/// the line, keeps two joins apart, so a node that never goes cannot block the others.
pub(super) const COURTESY: Duration = Duration::from_secs(10);

/// How long the end of a move is left to the members that gained something by it.
pub(super) const GAINERS_FIRST: Duration = Duration::from_secs(3);

/// A random wait: between a fifth of a second and 1.2 seconds.
pub(super) fn pause(dice: u64) -> Duration {
    Duration::from_millis(200 + dice % 1000)
}
