//! What Consul is told of a node, and what it tells of others: its own names for things. Only
//! fields that Consul 1.8 knows are sent, since it refuses others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ConsulSettings;

/// How often the agent looks whether the node is ready.
const CHECK_EVERY: &str = "1s";
/// How long the node may take to say so.
const CHECK_TIME: &str = "1s";
/// After how long a node that is gone is forgotten, unless it comes back.
const FORGET_AFTER: &str = "10m";

/// Name of a node's peer address in the metadata of its registration.
const PEER: &str = "peer";

/// A node, as the agent is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Registration {
    #[serde(rename = "ID")]
    pub(super) id: String,
    name: String,
    tags: Vec<String>,
    address: String,
    port: u16,
    meta: BTreeMap<&'static str, String>,
    check: Check,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    name: &'static str,
    #[serde(rename = "HTTP")]
    http: String,
    interval: &'static str,
    timeout: &'static str,
    status: &'static str,
    deregister_critical_service_after: &'static str,
}

/// A node, as the agent knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Service {
    #[serde(rename = "ID")]
    pub(super) id: String,
    tags: Option<Vec<String>>,
    address: String,
    port: u16,
    meta: Option<BTreeMap<String, String>>,
}

/// An instance in the catalogue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Entry {
    pub(super) node: Agent,
    pub(super) service: Service,
}

/// The machine whose agent knows it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Agent {
    pub(super) node: String,
    address: String,
}

impl Registration {
    pub(super) fn of(settings: &ConsulSettings) -> Self {
        let (node, id) = (&settings.node, id(settings));
        let (address, port) = split(&node.client);
        let check = Check {
            id: format!("{id}:ready"),
            name: "the node is READY",
            http: format!("http://{}/readyz", node.client),
            interval: CHECK_EVERY,
            timeout: CHECK_TIME,
            status: "critical",
            deregister_critical_service_after: FORGET_AFTER,
        };
        Self {
            id,
            name: settings.service.clone(),
            tags: settings.tags.clone(),
            address: address.to_owned(),
            port,
            meta: BTreeMap::from([
                ("name", node.name.clone()),
                ("zone", node.zone.clone()),
                ("admin", node.admin.clone()),
                (PEER, node.peer.clone()),
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ]),
            check,
        }
    }

    /// The same, of a node that is in rotation already: it must not drop out until the first check.
    pub(super) fn passing(&self) -> Self {
        let mut passing = self.clone();
        passing.check.status = "passing";
        passing
    }

    /// Whether the agent knows exactly this.
    pub(super) fn is_known_as(&self, known: &Service) -> bool {
        let meta = known.meta.iter().flatten();
        let meta = meta.map(|(name, value)| (name.as_str(), value));
        known.tags.as_deref().unwrap_or_default() == self.tags
            && (&known.address, known.port) == (&self.address, self.port)
            && meta.eq(self.meta.iter().map(|(name, value)| (*name, value)))
    }
}

impl Entry {
    /// Where other nodes reach it.
    pub(super) fn peer(&self) -> Option<&str> {
        let meta = self.service.meta.as_ref()?;
        meta.get(PEER).map(String::as_str)
    }

    /// Where clients reach it: by its machine's address, if it was registered without one.
    pub(super) fn client(&self) -> String {
        let own = Some(self.service.address.as_str()).filter(|own| !own.is_empty());
        let (address, port) = (own.unwrap_or(&self.node.address), self.service.port);
        if address.contains(':') {
            return format!("[{address}]:{port}");
        }
        format!("{address}:{port}")
    }

    /// Whether clients reach it at this address.
    pub(super) fn serves_at(&self, client: &str) -> bool {
        self.client() == client
    }

    pub(super) fn has_tags(&self, wanted: &[String]) -> bool {
        let tags = self.service.tags.as_deref().unwrap_or_default();
        wanted.iter().all(|tag| tags.contains(tag))
    }
}

/// What a node that registers itself is called: the same after every start.
pub(super) fn id(settings: &ConsulSettings) -> String {
    format!("{}-{}", settings.service, settings.node.name)
}

/// Host and port of a checked address; IPv6 without its brackets, as Consul has it.
fn split(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    (bare.unwrap_or(host), port.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::settings;
    use super::*;

    #[test]
    fn a_registration_says_what_consul_1_8_knows_and_no_more() {
        let told = Registration::of(&settings("127.0.0.1:1"));
        let json = serde_json::to_value(&told).unwrap();
        let want = json!({
            "ID": "quorate-n1", "Name": "quorate", "Tags": ["production"],
            "Address": "10.0.0.1", "Port": 8080,
            "Meta": {"name": "n1", "zone": "a", "admin": "10.0.0.1:8081",
                "peer": "10.0.0.1:8082", "version": env!("CARGO_PKG_VERSION")},
            "Check": {"CheckID": "quorate-n1:ready", "Name": "the node is READY",
                "HTTP": "http://10.0.0.1:8080/readyz", "Interval": "1s", "Timeout": "1s",
                "Status": "critical", "DeregisterCriticalServiceAfter": "10m"},
        });
        assert_eq!(json, want);
    }

    #[test]
    fn a_registration_that_somebody_changed_is_noticed() {
        let told = Registration::of(&settings("127.0.0.1:1"));
        let known = serde_json::to_value(&told).unwrap();
        let read = |json: &serde_json::Value| serde_json::from_value::<Service>(json.clone());
        assert!(told.is_known_as(&read(&known).unwrap()));
        let changes = [
            ("/Port", json!(1)),
            ("/Address", json!("10.0.0.2")),
            ("/Tags", json!(null)),
            ("/Meta/peer", json!("10.0.0.2:8082")),
            ("/Meta", json!({})),
        ];
        for (at, value) in changes {
            let mut other = known.clone();
            *other.pointer_mut(at).unwrap() = value;
            assert!(!told.is_known_as(&read(&other).unwrap()), "{at}");
        }
    }

    #[test]
    fn addresses_are_split_as_consul_has_them() {
        let rows = [
            ("10.0.0.1:80", ("10.0.0.1", 80)),
            ("node1.example:8080", ("node1.example", 8080)),
            ("[::1]:8080", ("::1", 8080)),
        ];
        for (address, want) in rows {
            assert_eq!(split(address), want);
        }
    }
}
