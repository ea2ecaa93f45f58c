//! The nodes that a load balancer may send requests to.

use std::time::Duration;

use super::agent::{Agent, ConsulError};
use super::entry::Entry;

/// How long Consul waits for news before it answers anyway.
const WAIT: Duration = Duration::from_mins(1);
/// How long it may take to do so; it adds up to a sixteenth.
const WAIT_TIME: Duration = Duration::from_secs(75);

/// Which nodes are READY, as Consul has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Their client addresses, in the order in which consul-template has them.
    pub nodes: Vec<String>,
    /// What to wait on for news; zero if that is not possible.
    pub index: u64,
}

/// Asks at once, or for news since an index.
///
/// # Errors
/// [`ConsulError`].
pub async fn ready(
    agent: &Agent,
    service: &str,
    tags: &[String],
    since: Option<u64>,
) -> Result<Upstream, ConsulError> {
    let wait = match since {
        Some(index) => format!("&index={index}&wait={}s", WAIT.as_secs()),
        None => String::new(),
    };
    let path = format!("/v1/health/service/{service}?passing=1{wait}");
    let answer = agent.get_indexed::<Vec<Entry>>(&path, WAIT_TIME).await?;
    let (mut entries, index) = answer.unwrap_or_default();
    entries.sort_by(|a, b| (&a.node.node, &a.service.id).cmp(&(&b.node.node, &b.service.id)));
    let ready = entries.iter().filter(|entry| entry.has_tags(tags));
    Ok(Upstream {
        nodes: ready.map(Entry::client).collect(),
        index,
    })
}
