//! What can be wrong with a configuration, said so that the operator knows what to change.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::secret::MIN_SECRET_BYTES;

/// Why a node cannot start as configured. Nothing has been touched.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that a flag names.
    #[error("{flag} {}: {source}", path.display())]
    Unreadable {
        /// Which flag.
        flag: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration file is not TOML, or has a key that does not exist.
    #[error("--config {}: {source}", path.display())]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Where, and why.
        source: Box<toml::de::Error>,
    },
    /// Something without a default was not given.
    #[error("{flag} is needed: {what}")]
    Missing {
        /// Which flag.
        flag: &'static str,
        /// What it says.
        what: &'static str,
    },
    /// Lines would go nowhere.
    #[error("--log-format off: without --log-file nothing would be logged at all")]
    NoLog,
    /// Not a node name.
    #[error("--name {value:?}: a name is 1 to 63 of A-Z a-z 0-9 . _ -")]
    Name {
        /// What was given.
        value: String,
    },
    /// Not a zone.
    #[error("--zone {value:?}: a zone is 1 to 63 of A-Z a-z 0-9 . _ -")]
    Zone {
        /// What was given.
        value: String,
    },
    /// Not a name that DNS can carry.
    #[error("{flag} {value:?}: must be 1 to 63 of a-z 0-9 -, beginning and ending with neither -")]
    Label {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// A flag that only means something with Consul.
    #[error("{flag} is for --discovery consul")]
    WithoutConsul {
        /// Which flag.
        flag: &'static str,
    },
    /// Not an address to listen on.
    #[error(
        "{flag} {value:?}: must be an IP address and a port from 1 to 65535, as in 127.0.0.1:8080"
    )]
    Listen {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// Not an address to connect to.
    #[error("{flag} {value:?}: must be a host and a port from 1 to 65535, as in node1:8082")]
    Address {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// Others cannot connect to every interface.
    #[error(
        "{listen} is {value}, which nobody can connect to: say with {flag} where others reach it"
    )]
    Unspecified {
        /// The listen flag.
        listen: &'static str,
        /// What it was, or the advertised address was.
        value: String,
        /// The advertise flag.
        flag: &'static str,
    },
    /// Two listeners on one address.
    #[error("{first} and {second} are both {value}: each listener needs its own port")]
    SameAddress {
        /// One flag.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The address.
        value: String,
    },
    /// A number that must be at least one.
    #[error("{flag} must be at least 1")]
    Zero {
        /// Which flag.
        flag: &'static str,
    },
    /// A quorum that could never be met.
    #[error("{flag} {quorum} is more than --replicas {replicas}")]
    QuorumAboveReplicas {
        /// Which flag.
        flag: &'static str,
        /// R or W.
        quorum: usize,
        /// N.
        replicas: usize,
    },
    /// Other machines could reach a node that trusts whoever speaks to it.
    #[error(
        "{flag} {value} is not a loopback address: nodes that other machines can reach need --cluster-secret-file"
    )]
    SecretNeeded {
        /// Which flag.
        flag: &'static str,
        /// The address.
        value: String,
    },
    /// Other machines could operate the node without a token.
    #[error("--admin {value} is not a loopback address: it needs --admin-token-file")]
    TokenNeeded {
        /// The address.
        value: String,
    },
    /// A secret that can be guessed.
    #[error("{flag} {}: holds {bytes} bytes, must be at least {MIN_SECRET_BYTES}", path.display())]
    SecretTooShort {
        /// Which flag.
        flag: &'static str,
        /// Which file.
        path: PathBuf,
        /// How many it holds, without white space around them.
        bytes: usize,
    },
    /// A secret that does not fit into a header.
    #[error("{flag} {}: must be one line of visible ASCII", path.display())]
    SecretNotText {
        /// Which flag.
        flag: &'static str,
        /// Which file.
        path: PathBuf,
    },
}

/// Something that is allowed, but that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// No secret was given; all addresses are loopback.
    DevelopmentSecret,
    /// The file's permissions are wider than its owner.
    SecretReadableByOthers {
        /// Which flag.
        flag: &'static str,
        /// Which file.
        path: PathBuf,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DevelopmentSecret => f.write_str(
                "no --cluster-secret-file: using the development secret, on loopback addresses only",
            ),
            Self::SecretReadableByOthers { flag, path } => {
                let path = path.display();
                write!(f, "{flag} {path} can be read by other users: chmod 600 it")
            }
        }
    }
}
