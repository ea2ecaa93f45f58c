//! What one worker thread serves its clients with.

use actix::Actor;

use super::shared::{Shared, random_u64};
use crate::actors::admission::{Admission, Deadlines, InFlight};
use crate::actors::handle::NodeHandle;

/// Opens the node to the clients of one worker thread; called on that thread.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) shared: Shared,
    pub(super) in_flight: InFlight,
    pub(super) deadlines: Deadlines,
}

impl Door {
    pub(super) fn open(&self) -> NodeHandle {
        let shared = &self.shared;
        let worker = shared.worker("coordinator");
        let salt = u128::from(random_u64()) << 64 | u128::from(random_u64());
        let (in_flight, background) = (self.in_flight.clone(), shared.background.clone());
        let door = Admission::new(worker, in_flight, self.deadlines, background, salt).start();
        let (read, write) = (door.clone().recipient(), door.recipient());
        NodeHandle::new(read, write, shared.clocks.clone(), shared.is_ready.clone())
    }
}
