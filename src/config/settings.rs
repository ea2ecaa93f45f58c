//! Configuration as it is written: by flag, by environment variable, in a file. Nothing in here is
//! checked beyond its type.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use super::ConfigError;

/// Everything an operator can set for a node. A flag wins over its environment variable, that over
/// the file, and that over the default. Keys of the file are the flags' names.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The node's name, unique in the cluster: 1 to 63 of A-Z a-z 0-9 . _ -
    #[arg(long, env = "QUORATE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Where clients are served [default: 127.0.0.1:8080]
    #[arg(long, env = "QUORATE_CLIENT", value_name = "IP:PORT")]
    pub client: Option<String>,
    /// Where operators are served [default: 127.0.0.1:8081]
    #[arg(long, env = "QUORATE_ADMIN", value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Where the other nodes are served [default: 127.0.0.1:8082]
    #[arg(long, env = "QUORATE_PEER", value_name = "IP:PORT")]
    pub peer: Option<String>,
    /// The node's own directory; made if it is not there
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Peer addresses of nodes to ask for the cluster; may name this node too
    #[arg(
        long,
        env = "QUORATE_SEEDS",
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    pub seeds: Option<Vec<String>>,
    /// Found a cluster once this many nodes see each other [default: 1 without seeds; the number of
    /// seeds if this node is one of them; otherwise, and with Consul, never found one, only join]
    #[arg(long, env = "QUORATE_BOOTSTRAP_EXPECT", value_name = "N")]
    pub bootstrap_expect: Option<u32>,
    /// How other nodes are found [default: seeds]
    #[arg(long, env = "QUORATE_DISCOVERY", value_enum)]
    pub discovery: Option<Discovery>,
    /// The Consul agent of this machine [default: 127.0.0.1:8500]
    #[arg(long, env = "QUORATE_CONSUL", value_name = "HOST:PORT")]
    pub consul: Option<String>,
    /// The token that it is shown
    #[arg(long, env = "QUORATE_CONSUL_TOKEN_FILE", value_name = "FILE")]
    pub consul_token_file: Option<PathBuf>,
    /// What the cluster is called in Consul [default: quorate]
    #[arg(long, env = "QUORATE_SERVICE_NAME", value_name = "NAME")]
    pub service_name: Option<String>,
    /// Tags of this node in Consul; nodes find those that have them all [default: production]
    #[arg(
        long,
        env = "QUORATE_SERVICE_TAGS",
        value_name = "TAG,…",
        value_delimiter = ','
    )]
    pub service_tags: Option<Vec<String>>,
    /// Whether the node registers itself in Consul, or something else does [default: yes]
    #[arg(long, env = "QUORATE_REGISTER", value_enum)]
    pub register: Option<Register>,
    /// What other nodes connect to [default: --peer]
    #[arg(long, env = "QUORATE_ADVERTISE_PEER", value_name = "HOST:PORT")]
    pub advertise_peer: Option<String>,
    /// What clients connect to [default: --client]
    #[arg(long, env = "QUORATE_ADVERTISE_CLIENT", value_name = "HOST:PORT")]
    pub advertise_client: Option<String>,
    /// What operators connect to [default: --admin]
    #[arg(long, env = "QUORATE_ADVERTISE_ADMIN", value_name = "HOST:PORT")]
    pub advertise_admin: Option<String>,
    /// Replicas go to distinct zones where there are enough [default: default]
    #[arg(long, env = "QUORATE_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,
    /// This node's share of the data relative to the others' [default: 1]
    #[arg(long, env = "QUORATE_WEIGHT", value_name = "W")]
    pub weight: Option<u32>,
    /// Replicas of a key [default: 3]
    #[arg(long, env = "QUORATE_REPLICAS", value_name = "N")]
    pub replicas: Option<u32>,
    /// Replicas that must answer a read [default: 2, or --replicas if that is 1]
    #[arg(long, env = "QUORATE_READ_QUORUM", value_name = "R")]
    pub read_quorum: Option<u32>,
    /// Replicas that must hold a write [default: 2, or --replicas if that is 1]
    #[arg(long, env = "QUORATE_WRITE_QUORUM", value_name = "W")]
    pub write_quorum: Option<u32>,
    /// When a write is acknowledged [default: always]
    #[arg(long, env = "QUORATE_DURABILITY", value_enum)]
    pub durability: Option<Durability>,
    /// What records are kept in [default: fjall]
    #[arg(long, env = "QUORATE_STORAGE", value_enum)]
    pub storage: Option<Storage>,
    /// The secret all nodes of the cluster share; without it every address must be loopback
    #[arg(long, env = "QUORATE_CLUSTER_SECRET_FILE", value_name = "FILE")]
    pub cluster_secret_file: Option<PathBuf>,
    /// The operators' token; without it the admin listener must be loopback
    #[arg(long, env = "QUORATE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// A TOML file whose keys are these flags' names
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Threads that serve requests [default: one per core]
    #[arg(long, env = "QUORATE_WORKERS", value_name = "N")]
    pub workers: Option<u32>,
    /// Requests in flight beyond which the node answers 503 [default: 1024]
    #[arg(long, env = "QUORATE_MAX_IN_FLIGHT", value_name = "N")]
    pub max_in_flight: Option<u32>,
    /// Seconds for which nothing may have happened to any node until a delete is forgotten
    /// [default: 600]
    #[arg(long, env = "QUORATE_TOMBSTONE_GRACE", value_name = "SECONDS")]
    pub tombstone_grace: Option<u32>,
    /// Seconds for which a node keeps its copy of a partition that others own now [default: 86400]
    #[arg(long, env = "QUORATE_QUARANTINE", value_name = "SECONDS")]
    pub quarantine: Option<u32>,
    /// Bytes kept for other nodes while they are away [default: 1073741824]
    #[arg(long, env = "QUORATE_HINT_BYTES", value_name = "BYTES")]
    pub hint_bytes: Option<u64>,
    /// Whether a node that joins becomes a member at once; if not, its join is staged until an
    /// operator commits it [default: true]
    #[arg(long, env = "QUORATE_AUTO_COMMIT", value_name = "BOOL")]
    pub auto_commit: Option<bool>,
    /// The least important lines that are logged [default: info]
    #[arg(long, env = "QUORATE_LOG_LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,
    /// How they are written to the console [default: auto]
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// A file that JSON lines are added to as well, never cut; opened again on SIGHUP
    #[arg(long, env = "QUORATE_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Whether every client's operation is a line [default: yes]
    #[arg(long, env = "QUORATE_LOG_ACTIONS", value_enum)]
    pub log_actions: Option<YesNo>,
    /// Whether lines show keys, and not only their hashes [default: no]
    #[arg(long, env = "QUORATE_LOG_KEYS", value_enum)]
    pub log_keys: Option<YesNo>,
    /// Shut down in good order when standard input ends
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub exit_with_stdin: bool,
}

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, or has an unknown key: with line and column.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            flag: "--config",
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// These settings where they are given, the others where they are not.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            name: self.name.or(below.name),
            client: self.client.or(below.client),
            admin: self.admin.or(below.admin),
            peer: self.peer.or(below.peer),
            data_dir: self.data_dir.or(below.data_dir),
            seeds: self.seeds.or(below.seeds),
            bootstrap_expect: self.bootstrap_expect.or(below.bootstrap_expect),
            discovery: self.discovery.or(below.discovery),
            consul: self.consul.or(below.consul),
            consul_token_file: self.consul_token_file.or(below.consul_token_file),
            service_name: self.service_name.or(below.service_name),
            service_tags: self.service_tags.or(below.service_tags),
            register: self.register.or(below.register),
            advertise_peer: self.advertise_peer.or(below.advertise_peer),
            advertise_client: self.advertise_client.or(below.advertise_client),
            advertise_admin: self.advertise_admin.or(below.advertise_admin),
            zone: self.zone.or(below.zone),
            weight: self.weight.or(below.weight),
            replicas: self.replicas.or(below.replicas),
            read_quorum: self.read_quorum.or(below.read_quorum),
            write_quorum: self.write_quorum.or(below.write_quorum),
            durability: self.durability.or(below.durability),
            storage: self.storage.or(below.storage),
            cluster_secret_file: self.cluster_secret_file.or(below.cluster_secret_file),
            admin_token_file: self.admin_token_file.or(below.admin_token_file),
            config: self.config.or(below.config),
            workers: self.workers.or(below.workers),
            max_in_flight: self.max_in_flight.or(below.max_in_flight),
            tombstone_grace: self.tombstone_grace.or(below.tombstone_grace),
            quarantine: self.quarantine.or(below.quarantine),
            hint_bytes: self.hint_bytes.or(below.hint_bytes),
            auto_commit: self.auto_commit.or(below.auto_commit),
            log_level: self.log_level.or(below.log_level),
            log_format: self.log_format.or(below.log_format),
            log_file: self.log_file.or(below.log_file),
            log_actions: self.log_actions.or(below.log_actions),
            log_keys: self.log_keys.or(below.log_keys),
            exit_with_stdin: self.exit_with_stdin || below.exit_with_stdin,
        }
    }
}

/// How other nodes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discovery {
    /// By --seeds alone
    #[default]
    Seeds,
    /// In Consul, and by --seeds if there are any
    Consul,
}

/// Whether a node registers itself in Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Register {
    /// It does
    #[default]
    Yes,
    /// Registrator does, under the address that the node advertises to clients
    No,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once it is on the disk
    #[default]
    Always,
    /// Once it is with the operating system; the disk follows within a fraction of a second
    Interval,
    /// Once it is with the operating system, which brings it to the disk when it likes
    Os,
}

/// What records are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// On disk, in a log-structured tree
    #[default]
    Fjall,
    /// In memory: gone when the process ends
    Memory,
}

/// How important a log line must be to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Somebody has to act
    Error,
    /// Something is not as it should be
    Warn,
    /// What the node does
    #[default]
    Info,
    /// What each request does
    Debug,
    /// Everything
    Trace,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum YesNo {
    /// It is
    Yes,
    /// It is not
    No,
}

impl YesNo {
    /// Whether it is.
    #[must_use]
    pub fn is_yes(self) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
        }
    }
}

/// How log lines are written to the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text if standard error is a terminal, JSON otherwise
    #[default]
    Auto,
    /// One JSON object a line, on standard output
    Json,
    /// For people, on standard error
    Text,
    /// Not at all; only with --log-file
    Off,
}
