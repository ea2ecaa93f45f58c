//! Why a command failed, and what its exit code says about it.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::discovery::consul::agent::ConsulError;
use crate::logging::LogError;
use crate::node::NodeError;
use crate::wire::clock::ClockError;

use super::connection::Broken;
use super::verify::HistoryError;

/// Why a command failed. Displayed to the person who typed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The node's configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nowhere to log to.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The node ended.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Arguments that do not go together.
    #[error("{0}")]
    Usage(&'static str),
    /// No endpoint gave an answer.
    #[error("no node answered: {}", list(.0))]
    Unreachable(Vec<(String, Broken)>),
    /// The cluster said no.
    #[error("{}", refusal(message, code, *status, *may_appear))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// For people.
        message: String,
        /// Whether it may have been done, or be done later, all the same.
        may_appear: bool,
    },
    /// A node that does not serve now, and why.
    #[error("not ready: {0}")]
    NotServing(String),
    /// An answer that no version of this program gives.
    #[error("the answer cannot be understood: {0}")]
    Answer(#[from] serde_json::Error),
    /// Not a clock.
    #[error("not a clock: {0}")]
    Clock(#[from] ClockError),
    /// A file could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A port that a development node needs.
    #[error("port {port}, {name}'s, cannot be used: {source}; choose others with --base-port")]
    Port {
        /// Which.
        port: u16,
        /// Whose it would be.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A development node ended before it was ready.
    #[error("{name} ended with {status} before it was ready; the end of {}:\n{tail}", log.display())]
    NodeDied {
        /// Which.
        name: String,
        /// How.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// Development nodes that took too long.
    #[error("not ready after {seconds} s: {}", .waiting.join("; "))]
    NotReady {
        /// How long.
        seconds: u64,
        /// Which nodes, and what they said.
        waiting: Vec<String>,
    },
    /// Every development node has ended.
    #[error("all nodes have ended")]
    AllDied,
    /// Nothing that was asked of the cluster in a benchmark succeeded.
    #[error("no operation succeeded: are there nodes at --endpoints?")]
    NothingMeasured,
    /// Somebody ended a run before it was over.
    #[error("interrupted: nothing was checked")]
    Interrupted,
    /// A recorded history that cannot be checked.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A checked history breaks promises.
    #[error("promises were broken: {0} violations")]
    Violated(usize),
    /// A checked history could not have shown a broken promise.
    #[error("the run shows nothing")]
    Void,
    /// Consul did not say what it was asked.
    #[error(transparent)]
    Consul(#[from] ConsulError),
    /// The operating system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// A stream of this process.
    #[error(transparent)]
    Stream(#[from] io::Error),
}

fn list(tried: &[(String, Broken)]) -> String {
    let each = tried.iter().map(|(at, why)| format!("{at}: {why}"));
    each.collect::<Vec<_>>().join("; ")
}

/// What a node said, or something that is no node, or the wrong one of a node's listeners.
fn refusal(message: &str, code: &str, status: u16, may_appear: bool) -> String {
    match code {
        "" => format!("{message} (status {status})"),
        "no_such_resource" => format!(
            "{message} ({code}, {status}): --endpoints takes client addresses, --admin takes admin \
             addresses"
        ),
        _ if may_appear => {
            format!("{message} ({code}, {status}); what was asked for may be done all the same")
        }
        _ => format!("{message} ({code}, {status})"),
    }
}

impl Failure {
    /// 1 error, 2 usage, 3 not found, 4 quorum not met, 5 unauthorised.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Clock(_) => 2,
            Self::Refused { status, code, .. } => match (status, code.as_str()) {
                (404, "not_found") => 3,
                (503, "quorum_not_met") => 4,
                (401, _) => 5,
                _ => 1,
            },
            Self::Node(_)
            | Self::Log(_)
            | Self::Unreachable(_)
            | Self::NotServing(_)
            | Self::Answer(_)
            | Self::File { .. }
            | Self::Port { .. }
            | Self::NodeDied { .. }
            | Self::NotReady { .. }
            | Self::AllDied
            | Self::NothingMeasured
            | Self::Interrupted
            | Self::History(_)
            | Self::Violated(_)
            | Self::Void
            | Self::Consul(_)
            | Self::Random(_)
            | Self::Stream(_) => 1,
        }
    }

    /// Whether all that happened is that nobody reads the output any more.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Stream(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_status_and_code() {
        let rows = [
            (404, "not_found", 3),
            (404, "no_such_resource", 1),
            (404, "", 1),
            (503, "quorum_not_met", 4),
            (503, "overloaded", 1),
            (401, "unauthorised", 5),
            (409, "already_exists", 1),
            (400, "clock_invalid", 1),
            (500, "", 1),
        ];
        for (status, code, want) in rows {
            let failure = Failure::Refused {
                status,
                code: code.to_owned(),
                message: String::new(),
                may_appear: false,
            };
            assert_eq!(failure.exit_code(), want, "{status} {code}");
        }
        assert_eq!(Failure::Usage("").exit_code(), 2);
        assert_eq!(Failure::Unreachable(Vec::new()).exit_code(), 1);
    }

    #[test]
    fn a_refusal_says_what_is_known_of_its_effect() {
        let rows = [
            ("quorum_not_met", false, "Text (quorum_not_met, 503)"),
            (
                "quorum_not_met",
                true,
                "Text (quorum_not_met, 503); what was asked for may be done all the same",
            ),
            ("", false, "Text (status 503)"),
        ];
        for (code, may_appear, want) in rows {
            assert_eq!(refusal("Text", code, 503, may_appear), want);
        }
        assert!(refusal("Text", "no_such_resource", 404, false).contains("--admin"));
    }

    #[test]
    fn only_a_closed_pipe_is_quiet() {
        let of = |kind| Failure::Stream(io::Error::from(kind)).is_closed_pipe();
        assert!(of(io::ErrorKind::BrokenPipe));
        assert!(!of(io::ErrorKind::StorageFull));
    }
}
