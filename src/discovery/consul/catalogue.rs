//! Follows the catalogue: which nodes there are, by blocking queries; and whether this node is one
//! of them.

use std::collections::BTreeSet;
use std::rc::Rc;

use actix::prelude::Addr;
use slog::info;
use tokio::sync::watch;
use tokio::time::Instant;

use super::agent::{Agent, ConsulError};
use super::blocking::{AwaitChange, Watch};
use super::complaint::Complaint;
use super::entry::Entry;
use super::{ConsulSettings, Surroundings, entry, rest};
use crate::discovery::PeersFound;

/// What the other tasks want to know of the catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Since when it is answered, and has this node; nothing while it is not.
    pub(super) since: Option<Instant>,
    /// What this node is called there.
    pub(super) own: Option<String>,
}

/// See the module.
pub(super) struct Catalogue {
    agent: Rc<Agent>,
    watch: Addr<Watch>,
    settings: ConsulSettings,
    surroundings: Surroundings,
    told: Option<Vec<String>>,
    complaint: Complaint,
}

impl Catalogue {
    pub(super) fn new(
        agent: Rc<Agent>,
        settings: ConsulSettings,
        surroundings: Surroundings,
    ) -> Self {
        let complaint = Complaint::new(surroundings.log.clone(), "catalogue");
        Self {
            agent,
            watch: Watch::start(settings.clone()),
            settings,
            surroundings,
            told: None,
            complaint,
        }
    }

    /// Goes on for as long as the node lives.
    pub(super) async fn follow(mut self, seen: watch::Sender<Seen>) {
        let mut index = None;
        loop {
            let answer = self.watch.send(AwaitChange { index }).await;
            let fresh = match answer {
                Ok(Ok(fresh)) => Some(fresh),
                Ok(Err(_)) | Err(_) => None,
            };
            // What the crate does not say, its error or the peers' addresses, the agent does.
            match self.look(&seen).await {
                Ok(()) => self.complaint.well(),
                Err(error) => {
                    seen.send_modify(|seen| seen.since = None);
                    self.complaint.trouble(&error);
                }
            }
            index = next(index, fresh);
            rest(self.surroundings.dice).await;
        }
    }

    async fn look(&mut self, seen: &watch::Sender<Seen>) -> Result<(), ConsulError> {
        let path = format!("/v1/health/service/{}", self.settings.service);
        let entries: Vec<Entry> = self.agent.get(&path).await?.unwrap_or_default();
        let own = self.own_in(&entries).map(|entry| entry.service.id.clone());
        if seen.borrow().own != own && !self.settings.registers {
            info!(self.surroundings.log, "this node in the catalogue"; "quorate.consul.service" => &own);
        }
        seen.send_modify(|seen| {
            seen.since = seen.since.filter(|_| own.is_some());
            if own.is_some() {
                seen.since.get_or_insert_with(Instant::now);
            }
            seen.own.clone_from(&own);
        });
        self.tell(peers(&entries, &self.settings));
        Ok(())
    }

    fn own_in<'a>(&self, entries: &'a [Entry]) -> Option<&'a Entry> {
        let id = entry::id(&self.settings);
        let is_own = |entry: &&Entry| {
            if self.settings.registers {
                entry.service.id == id
            } else {
                entry.serves_at(&self.settings.node.client)
            }
        };
        entries.iter().find(is_own)
    }

    /// An empty catalogue has been reset, or is about to be filled: what was known goes on.
    fn tell(&mut self, peers: Vec<String>) {
        if peers.is_empty() || self.told.as_ref() == Some(&peers) {
            return;
        }
        let known = self.settings.seeds.iter().chain(&peers).cloned().collect();
        self.surroundings.peers.do_send(PeersFound(known));
        self.told = Some(peers);
    }
}

/// The other nodes' peer addresses.
fn peers(entries: &[Entry], settings: &ConsulSettings) -> Vec<String> {
    let ours = entries
        .iter()
        .filter(|entry| entry.has_tags(&settings.tags));
    let peers: BTreeSet<&str> = ours.filter_map(Entry::peer).collect();
    let others = peers.into_iter().filter(|peer| *peer != settings.node.peer);
    others.map(str::to_owned).collect()
}

/// From which index to wait on. One that goes backwards comes from a Consul that has lost its
/// memory; one that is not there, from one that cannot be waited on: it is asked anew.
fn next(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    let now = now.filter(|now| *now > 0)?;
    (before.is_none_or(|before| now >= before)).then_some(now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::settings;
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_or_is_missing_is_not_waited_on() {
        let rows = [
            (None, Some(7), Some(7)),
            (Some(7), Some(7), Some(7)),
            (Some(7), Some(9), Some(9)),
            (Some(7), Some(3), None),
            (Some(7), Some(0), None),
            (Some(7), None, None),
            (None, None, None),
        ];
        for (before, now, want) in rows {
            assert_eq!(next(before, now), want, "{before:?} {now:?}");
        }
    }

    #[test]
    fn peers_are_the_others_with_all_tags_and_a_peer_address() {
        let entry = |peer: &str, tags: &[&str]| json!({"Service": {"ID": peer, "Tags": tags, "Meta": {"peer": peer}}});
        let entries = json!([
            entry("10.0.0.3:8082", &["a", "production"]),
            entry("10.0.0.1:8082", &["production"]),
            entry("10.0.0.2:8082", &["production"]),
            entry("10.0.0.2:8082", &["production"]),
            entry("10.0.0.9:8082", &["staging"]),
            {"Service": {"ID": "no meta", "Tags": ["production"]}},
            {"Service": {"ID": "null", "Tags": null, "Meta": null}},
        ]);
        let entries: Vec<Entry> = serde_json::from_value(entries).unwrap();
        let found = peers(&entries, &settings("127.0.0.1:1"));
        assert_eq!(found, ["10.0.0.2:8082", "10.0.0.3:8082"]);
    }
}
