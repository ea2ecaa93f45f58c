//! What a node is told by its operator: read once as [`Settings`], checked once into a [`Config`],
//! and never looked at again in its raw form.

mod address;
mod check;
mod consul;
mod error;
mod secret;
mod settings;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::Addresses;

pub(crate) use address::is_host_port;
pub use consul::Consul;
pub use error::{ConfigError, Notice};
pub use secret::{MIN_SECRET_BYTES, Secret};
pub use settings::{
    Discovery, Durability, LogFormat, LogLevel, Register, Settings, Storage, YesNo,
};

/// How long a write may stay in the cache under [`Durability::Interval`].
pub const SYNC_INTERVAL: Duration = Duration::from_millis(200);

/// A checked configuration: every relation between its fields holds.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub name: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// Its share of the partitions, relative to the others'.
    pub weight: NonZeroU32,
    /// Where it listens; three different addresses.
    pub listen: Listen,
    /// Where others reach it; never an unspecified address.
    pub advertise: Addresses,
    /// Its own directory.
    pub data_dir: PathBuf,
    /// Peer addresses of other nodes, each once, without this node's own.
    pub seeds: Vec<String>,
    /// Where it finds other nodes, and is found, beside the seeds.
    pub consul: Option<Consul>,
    /// Whether it may found a cluster.
    pub founding: Founding,
    /// N.
    pub replicas: NonZeroUsize,
    /// R, at most N.
    pub read_quorum: NonZeroUsize,
    /// W, at most N.
    pub write_quorum: NonZeroUsize,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// What records are kept in.
    pub storage: Storage,
    /// Shared by all nodes. The development secret, on loopback only, if none was given.
    pub cluster_secret: Secret,
    /// What an operator must show; `None` only where the admin listener is loopback.
    pub admin_token: Option<Secret>,
    /// Threads that serve requests.
    pub workers: NonZeroUsize,
    /// Requests in flight beyond which the node answers that it is overloaded.
    pub max_in_flight: NonZeroUsize,
    /// For how long nothing may have happened to any node until a delete is forgotten.
    pub tombstone_grace: Duration,
    /// For how long a copy is kept of a partition that others own now.
    pub quarantine: Duration,
    /// Bytes kept for other nodes while they are away.
    pub hint_bytes: u64,
    /// Whether a node that joins becomes a member at once.
    pub auto_commit: bool,
    /// The least important lines that are logged.
    pub log_level: LogLevel,
    /// How they are written to the console; off only where there is a file.
    pub log_format: LogFormat,
    /// Where JSON lines are added as well.
    pub log_file: Option<PathBuf>,
    /// Whether every client's operation is a line.
    pub log_actions: bool,
    /// Whether lines show keys, and not only their hashes.
    pub log_keys: bool,
    /// Whether the end of standard input asks the node to shut down; `cli::server` turns it into
    /// SIGTERM.
    pub exit_with_stdin: bool,
    /// What the operator should hear once, at the start.
    pub notices: Vec<Notice>,
}

/// The three listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The REST API.
    pub client: SocketAddr,
    /// The operators' API.
    pub admin: SocketAddr,
    /// The other nodes.
    pub peer: SocketAddr,
}

/// Whether a node that belongs to no cluster, and finds none, may found one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Founding {
    /// Never: it waits until it can join.
    JoinOnly,
    /// With this many nodes, itself included, once they see each other.
    Expect(NonZeroUsize),
}

impl Config {
    /// Reads the file that the flags name, lays the flags over it, and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`]: what to change, in the operator's terms.
    pub fn load(flags: Settings) -> Result<Self, ConfigError> {
        let settings = match flags.config.clone() {
            Some(path) => flags.over(Settings::read(&path)?),
            None => flags,
        };
        check::check(settings)
    }
}
