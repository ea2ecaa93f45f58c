//! What one worker thread serves its clients with.

use actix::Actor;

use super::shared::{Shared, named, random_u64};
use crate::actors::action_log::ActionLog;
use crate::actors::admission::{Admission, Deadlines, InFlight};
use crate::actors::handle::NodeHandle;
use crate::actors::worker::Worker;

/// Opens the node to the clients of one worker thread; called on that thread.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) shared: Shared,
    pub(super) in_flight: InFlight,
    pub(super) logs_actions: bool,
    pub(super) deadlines: Deadlines,
}

impl Door {
    pub(super) fn open(&self) -> NodeHandle {
        self.open_with(self.shared.worker("coordinator"))
    }

    /// The same, for a worker that is used for something else besides.
    pub(super) fn open_with(&self, worker: Worker) -> NodeHandle {
        let shared = &self.shared;
        let salt = u128::from(random_u64()) << 64 | u128::from(random_u64());
        let actions = if self.logs_actions {
            ActionLog::new(named(&shared.log, "coordinator"), shared.keys)
        } else {
            ActionLog::off()
        };
        let (in_flight, means) = (self.in_flight.clone(), (shared.background.clone(), actions));
        let door = Admission::new(worker, in_flight, self.deadlines, means, salt).start();
        let (read, write) = (door.clone().recipient(), door.recipient());
        NodeHandle::new(read, write, shared.clocks.clone(), shared.is_ready.clone())
    }
}
