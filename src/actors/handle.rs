//! The door to a node: all that the listeners see of the actors behind it.

use std::sync::Arc;

use actix::{MailboxError, Recipient};
use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::request::{Applied, Failure, Read, ReadAnswer, Write, WriteAnswer};
use crate::wire::clock::ClockCodec;

/// What a worker needs to serve clients; one for each worker.
#[derive(Clone)]
pub struct NodeHandle {
    read: Recipient<Read>,
    write: Recipient<Write>,
    clocks: Arc<ArcSwapOption<ClockCodec>>,
    readiness: watch::Receiver<Readiness>,
}

/// Whether the node should be sent requests, and if not, why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It serves.
    Ready,
    /// It belongs to no ring yet.
    New,
    /// It is in the ring and still pulls its partitions.
    Pending,
    /// It is on its way out of the ring.
    Leaving,
    /// It cannot reach enough nodes for a quorum.
    NoQuorum,
    /// It is about to stop.
    Draining,
}

impl Readiness {
    /// The state as answers show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::New => "new",
            Self::Pending => "pending",
            Self::Leaving => "leaving",
            Self::NoQuorum => "no_quorum",
            Self::Draining => "draining",
        }
    }
}

impl NodeHandle {
    /// The codec is absent until the node belongs to a ring, and so knows its cluster.
    #[must_use]
    pub fn new(
        read: Recipient<Read>,
        write: Recipient<Write>,
        clocks: Arc<ArcSwapOption<ClockCodec>>,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        Self {
            read,
            write,
            clocks,
            readiness,
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`Failure`], with what it means for the request.
    pub async fn read(&self, read: Read) -> Result<ReadAnswer, Failure> {
        match self.read.send(read).await {
            Ok(answer) => answer,
            Err(lost) => Err(abandoned(lost)),
        }
    }

    /// Creates, puts or deletes a key.
    ///
    /// # Errors
    /// [`Failure`], with what it means for the request.
    pub async fn write(&self, write: Write) -> Result<WriteAnswer, Failure> {
        match self.write.send(write).await {
            Ok(answer) => answer,
            Err(lost) => Err(abandoned(lost)),
        }
    }

    /// Makes and checks clocks; `None` until the node belongs to a ring.
    #[must_use]
    pub fn clocks(&self) -> Option<Arc<ClockCodec>> {
        self.clocks.load_full()
    }

    /// Whether the node should be sent requests.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }
}

/// Nobody is left who could tell whether the request was done.
fn abandoned(lost: MailboxError) -> Failure {
    match lost {
        MailboxError::Closed | MailboxError::Timeout => Failure::DeadlineExceeded(Applied::Unknown),
    }
}
