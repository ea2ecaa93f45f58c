//! The verbs of `quorate cluster` and what they take.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use crate::cli::admin::AdminArgs;
use crate::cli::output::OutputArgs;

/// What can be done with a cluster's members.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Verb {
    /// Show what is staged, and what it would move
    Plan(Plan),
    /// Make what is staged, as one change; refuses if the plan is another than the one shown
    Commit(Commit),
    /// Drop what is staged
    Revert(Revert),
    /// How a node joins
    Join,
    /// Stage that a member hands over what it owns and ends
    Leave(About),
    /// Stage that a new node takes exactly what a member owns
    Replace(Replace),
    /// Have requests steered round a member at once; moves nothing
    Down(About),
    /// Have requests steered to it again
    Up(About),
    /// Stage that a member that is gone for good is one no more, with no replacement
    Forget(Forget),
    /// Stage another share of the data for a member
    Weight(Weight),
    /// Stage another failure domain for a member
    Zone(Zone),
    /// Go back to the owners before the change under way
    Cancel(Cancel),
    /// Show what is moving, how far it is, and what it waits for
    Transfers(Transfers),
    /// Limit how fast partitions move, at the members that answer, and until each of them stops
    Limit(Limit),
    /// Make the data directory of a node that is no member any more one of a new node
    Rejoin(Rejoin),
}

/// What every verb takes that changes something.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Show what it would do, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Wait until it is done and nothing moves any more, and tell how far it is
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) admin: AdminArgs,
}

/// `plan`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Plan {
    #[command(flatten)]
    pub(super) admin: AdminArgs,
}

/// `commit`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Commit {
    /// The epoch of the plan that was shown; without it, the plan is shown now
    #[arg(long)]
    pub(super) epoch: Option<u64>,
    /// Members that get nothing by it, as the plan showed, or `none`. With --epoch and without this,
    /// it is refused if there are such members now
    #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
    without: Option<Vec<String>>,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Commit {
    pub(super) fn without(&self) -> Option<Vec<&str>> {
        let given = self.without.as_ref()?.iter().map(String::as_str);
        Some(given.filter(|node| *node != "none").collect())
    }
}

/// `revert`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Revert {
    /// Only what is about this node
    pub(super) node: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A verb about one member.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct About {
    /// Which member
    pub(super) node: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// `replace`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Replace {
    /// The member that goes
    pub(super) old: String,
    /// The node that comes: started with --auto-commit false, and so staged
    pub(super) new: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// `forget`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Forget {
    /// Which member
    pub(super) node: String,
    /// What it alone held is lost: say that you know
    #[arg(long)]
    pub(super) accept_data_loss: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

/// `weight`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Weight {
    /// Which member
    pub(super) node: String,
    /// Its share of the data, relative to the others'
    #[arg(value_name = "WEIGHT")]
    pub(super) share: NonZeroU32,
    #[command(flatten)]
    pub(super) common: Common,
}

/// `zone`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Zone {
    /// Which member
    pub(super) node: String,
    /// Replicas go to distinct zones where there are enough
    #[arg(value_name = "ZONE")]
    pub(super) domain: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// `cancel`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Cancel {
    /// Also when some partitions are served by their new owners already
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

/// `transfers`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Transfers {
    /// Wait until nothing moves any more, and tell how far it is
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) admin: AdminArgs,
}

/// What may be limited.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(in crate::cli) enum Limited {
    /// The partitions on their way to new owners
    Transfers,
}

/// `limit`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Limit {
    /// What is limited
    #[arg(value_enum)]
    pub(super) what: Limited,
    /// Partitions that a node pulls at the same time
    pub(super) at_once: NonZeroU32,
    /// Bytes per second of each node, or `none`
    #[arg(value_parser = rate)]
    pub(super) bytes_s: Rate,
    /// Show which members would be told, and tell none
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) admin: AdminArgs,
}

impl Limit {
    pub(super) fn limit(&self) -> Option<NonZeroU64> {
        self.bytes_s.0
    }
}

/// Bytes per second, or no limit.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Rate(Option<NonZeroU64>);

fn rate(text: &str) -> Result<Rate, &'static str> {
    match (text, text.parse()) {
        ("none", _) => Ok(Rate(None)),
        (_, Ok(bytes)) => Ok(Rate(Some(bytes))),
        (_, Err(_)) => Err("a positive number of bytes per second, or none"),
    }
}

/// `rejoin`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Rejoin {
    /// The directory of the node, which must not run
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    /// Show what it would do, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}
