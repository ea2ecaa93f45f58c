//! From what was written to what holds.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Addresses;
use crate::limits::{HINT_BYTES, IN_FLIGHT, QUARANTINE_SECONDS, TOMBSTONE_GRACE_SECONDS};

use super::address::{HostPort, NotHostPort};
use super::{
    Config, ConfigError, Discovery, Founding, Listen, LogFormat, Notice, Settings, YesNo, consul,
    secret,
};

const DEFAULT_REPLICAS: u32 = 3;
const DEFAULT_QUORUM: u32 = 2;

/// One listener: its flags, and its two addresses.
struct Listener {
    flag: &'static str,
    advertise_flag: &'static str,
    listen: std::net::SocketAddr,
    advertise: HostPort,
}

pub(super) fn check(settings: Settings) -> Result<Config, ConfigError> {
    let mut notices = Vec::new();
    let listeners = listeners(&settings)?;
    let [client, admin, peer] = &listeners;
    let consul = consul::check(&settings, &mut notices)?;
    let (seeds, founding) = seeds(&settings, peer)?;
    let (replicas, read_quorum, write_quorum) = quorums(&settings)?;
    let admin_token = match &settings.admin_token_file {
        Some(path) => Some(secret::read("--admin-token-file", path, &mut notices)?),
        None if admin.listen.ip().is_loopback() => None,
        None => {
            let value = admin.listen.to_string();
            return Err(ConfigError::TokenNeeded { value });
        }
    };
    let cluster_secret = cluster_secret(&settings, &listeners, &mut notices)?;
    let log_format = settings.log_format.unwrap_or_default();
    if log_format == LogFormat::Off && settings.log_file.is_none() {
        return Err(ConfigError::NoLog);
    }
    Ok(Config {
        name: name(settings.name)?,
        zone: zone(settings.zone)?,
        weight: at_least_one("--weight", settings.weight.unwrap_or(1))?,
        listen: Listen {
            client: client.listen,
            admin: admin.listen,
            peer: peer.listen,
        },
        advertise: Addresses {
            client: client.advertise.to_string(),
            admin: admin.advertise.to_string(),
            peer: peer.advertise.to_string(),
        },
        data_dir: settings.data_dir.ok_or(ConfigError::Missing {
            flag: "--data-dir",
            what: "the directory the node keeps its data in",
        })?,
        seeds,
        consul,
        founding,
        replicas,
        read_quorum,
        write_quorum,
        durability: settings.durability.unwrap_or_default(),
        storage: settings.storage.unwrap_or_default(),
        cluster_secret,
        admin_token,
        workers: workers(settings.workers)?,
        max_in_flight: count(
            "--max-in-flight",
            settings.max_in_flight.unwrap_or(IN_FLIGHT),
        )?,
        tombstone_grace: tombstone_grace(settings.tombstone_grace)?,
        quarantine: Duration::from_secs(settings.quarantine.unwrap_or(QUARANTINE_SECONDS).into()),
        hint_bytes: settings.hint_bytes.unwrap_or(HINT_BYTES),
        auto_commit: settings.auto_commit.unwrap_or(true),
        log_level: settings.log_level.unwrap_or_default(),
        log_format,
        log_file: settings.log_file,
        log_actions: settings.log_actions.is_none_or(YesNo::is_yes),
        log_keys: settings.log_keys.is_some_and(YesNo::is_yes),
        exit_with_stdin: settings.exit_with_stdin,
        notices,
    })
}

fn tombstone_grace(given: Option<u32>) -> Result<Duration, ConfigError> {
    let seconds = given.unwrap_or(TOMBSTONE_GRACE_SECONDS);
    let seconds = at_least_one("--tombstone-grace", seconds)?;
    Ok(Duration::from_secs(seconds.get().into()))
}

fn name(given: Option<String>) -> Result<NodeId, ConfigError> {
    let value = given.ok_or(ConfigError::Missing {
        flag: "--name",
        what: "the node's name, unique in the cluster",
    })?;
    NodeId::new(&value).map_err(|_not_a_name| ConfigError::Name { value })
}

fn zone(given: Option<String>) -> Result<String, ConfigError> {
    let value = given.unwrap_or_else(|| "default".to_owned());
    match NodeId::new(&value) {
        Ok(_) => Ok(value),
        Err(_) => Err(ConfigError::Zone { value }),
    }
}

fn workers(given: Option<u32>) -> Result<NonZeroUsize, ConfigError> {
    match given {
        Some(n) => count("--workers", n),
        None => Ok(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
    }
}

fn quorums(settings: &Settings) -> Result<(NonZeroUsize, NonZeroUsize, NonZeroUsize), ConfigError> {
    let replicas = settings.replicas.unwrap_or(DEFAULT_REPLICAS);
    let n = count("--replicas", replicas)?;
    let quorum = |flag, given: Option<u32>| {
        let quorum = count(flag, given.unwrap_or(DEFAULT_QUORUM.min(replicas)))?;
        if quorum > n {
            let (quorum, replicas) = (quorum.get(), n.get());
            return Err(ConfigError::QuorumAboveReplicas {
                flag,
                quorum,
                replicas,
            });
        }
        Ok(quorum)
    };
    let read = quorum("--read-quorum", settings.read_quorum)?;
    let write = quorum("--write-quorum", settings.write_quorum)?;
    Ok((n, read, write))
}

fn at_least_one(flag: &'static str, value: u32) -> Result<NonZeroU32, ConfigError> {
    NonZeroU32::new(value).ok_or(ConfigError::Zero { flag })
}

fn count(flag: &'static str, value: u32) -> Result<NonZeroUsize, ConfigError> {
    let value = usize::try_from(value).unwrap_or(usize::MAX);
    NonZeroUsize::new(value).ok_or(ConfigError::Zero { flag })
}

/// The client, admin and peer listener.
fn listeners(settings: &Settings) -> Result<[Listener; 3], ConfigError> {
    let listener = |flag, given: &Option<String>, default, advertise_flag, advertise| {
        let listen = listen(flag, given.as_deref().unwrap_or(default))?;
        advertised(flag, listen, advertise_flag, advertise)
    };
    let all = [
        listener(
            "--client",
            &settings.client,
            "127.0.0.1:8080",
            "--advertise-client",
            settings.advertise_client.as_deref(),
        )?,
        listener(
            "--admin",
            &settings.admin,
            "127.0.0.1:8081",
            "--advertise-admin",
            settings.advertise_admin.as_deref(),
        )?,
        listener(
            "--peer",
            &settings.peer,
            "127.0.0.1:8082",
            "--advertise-peer",
            settings.advertise_peer.as_deref(),
        )?,
    ];
    let [client, admin, peer] = &all;
    for (one, other) in [(client, admin), (client, peer), (admin, peer)] {
        if one.listen == other.listen {
            return Err(ConfigError::SameAddress {
                first: one.flag,
                second: other.flag,
                value: one.listen.to_string(),
            });
        }
    }
    Ok(all)
}

fn listen(flag: &'static str, value: &str) -> Result<std::net::SocketAddr, ConfigError> {
    let address = value.parse::<HostPort>();
    let socket = address.ok().and_then(|address| address.socket());
    socket.ok_or_else(|| ConfigError::Listen {
        flag,
        value: value.to_owned(),
    })
}

fn advertised(
    flag: &'static str,
    listen: std::net::SocketAddr,
    advertise_flag: &'static str,
    given: Option<&str>,
) -> Result<Listener, ConfigError> {
    let (from, advertise) = match given {
        Some(value) => (advertise_flag, address(advertise_flag, value)?),
        None => (flag, HostPort::from(listen)),
    };
    if advertise.is_unspecified() {
        return Err(ConfigError::Unspecified {
            listen: from,
            value: advertise.to_string(),
            flag: advertise_flag,
        });
    }
    Ok(Listener {
        flag,
        advertise_flag,
        listen,
        advertise,
    })
}

pub(super) fn address(flag: &'static str, value: &str) -> Result<HostPort, ConfigError> {
    value.parse().map_err(|NotHostPort| ConfigError::Address {
        flag,
        value: value.to_owned(),
    })
}

/// The other nodes among the seeds, and what being or not being one of them means.
fn seeds(settings: &Settings, own: &Listener) -> Result<(Vec<String>, Founding), ConfigError> {
    let mut all: Vec<HostPort> = Vec::new();
    let given = settings.seeds.iter().flatten().map(|seed| seed.trim());
    for seed in given.filter(|seed| !seed.is_empty()) {
        let seed = address("--seeds", seed)?;
        if !all.contains(&seed) {
            all.push(seed);
        }
    }
    let is_own = |seed: &HostPort| *seed == own.advertise || *seed == HostPort::from(own.listen);
    let others: Vec<String> = all
        .iter()
        .filter(|seed| !is_own(seed))
        .map(HostPort::to_string)
        .collect();
    let listed = others.len() < all.len();
    let in_consul = settings.discovery.unwrap_or_default() == Discovery::Consul;
    let founding = match settings.bootstrap_expect {
        Some(expect) => Founding::Expect(count("--bootstrap-expect", expect)?),
        // Nodes that are yet to be found in Consul are not none.
        None if listed || (all.is_empty() && !in_consul) => {
            Founding::Expect(NonZeroUsize::MIN.saturating_add(others.len()))
        }
        None => Founding::JoinOnly,
    };
    Ok((others, founding))
}

/// The secret from its file; without one, the development secret, if nobody else can connect.
fn cluster_secret(
    settings: &Settings,
    listeners: &[Listener],
    notices: &mut Vec<Notice>,
) -> Result<secret::Secret, ConfigError> {
    if let Some(path) = &settings.cluster_secret_file {
        return secret::read("--cluster-secret-file", path, notices);
    }
    let addresses = listeners.iter().flat_map(|l| {
        let listen = (l.flag, HostPort::from(l.listen));
        [listen, (l.advertise_flag, l.advertise.clone())]
    });
    for (flag, address) in addresses {
        if !address.is_loopback() {
            let value = address.to_string();
            return Err(ConfigError::SecretNeeded { flag, value });
        }
    }
    notices.push(Notice::DevelopmentSecret);
    Ok(secret::Secret::development())
}

#[cfg(test)]
mod tests;
