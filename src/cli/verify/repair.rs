//! Whether all that the faults have broken so far is repaired. Only then may another disk be lost:
//! what W nodes have acknowledged survives the loss of W − 1 of them, and of more one after the
//! other if it was copied in between.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::asker::Asker;
use super::cluster::Cluster;
use super::finale::{ask, converge};

/// How often the nodes are asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Waits for it: all nodes serve all that they own, no hint is left anywhere, and then the owners
/// of every key are seen to hold the same.
pub(super) async fn is_complete(
    cluster: &Cluster,
    keys: &BTreeSet<String>,
    within: Duration,
) -> bool {
    let deadline = Instant::now() + within;
    let admins = cluster.admins();
    while !(cluster.serves().await && nothing_is_kept(&admins).await) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(ASK_EVERY).await;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let convergence = converge(keys, &admins, left).await;
    convergence.differing.is_empty()
}

/// Whether no node keeps anything for another one.
async fn nothing_is_kept(admins: &[(String, String)]) -> bool {
    for (_, admin) in admins {
        let status = ask(&mut Asker::new(admin.clone()), "/status").await;
        let hints = status
            .as_ref()
            .and_then(|status| status["hints"].as_object());
        if hints.is_none_or(|hints| !hints.is_empty()) {
            return false;
        }
    }
    true
}
