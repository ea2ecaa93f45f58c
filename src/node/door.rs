//! What one worker thread serves its clients with.

use actix::Actor;

use super::shared::{Shared, named, random_u64};
use crate::actors::admission::{Admission, Deadlines, InFlight};
use crate::actors::handle::NodeHandle;
use crate::actors::link::Link;
use crate::actors::local_reader::LocalReader;
use crate::actors::peer::{Peer, PeerParts};
use crate::actors::replica::Replica;
use crate::actors::worker::{Means, Worker};
use crate::dynamo::node_id::NodeId;

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
        let reader = LocalReader::new(shared.records.clone(), shared.view.clone()).start();
        let local = Replica {
            read: reader.recipient(),
            write: shared.store.clone().recipient(),
            mint: shared.store.clone().recipient(),
        };
        let log = named(&shared.log, "coordinator");
        let parts = PeerParts {
            view: shared.view.clone(),
            link: Link::new(shared.proof.clone()),
            ring_keeper: shared.ring_keeper.clone(),
            log: log.clone(),
        };
        let (me, health) = (shared.view.load().me.clone(), shared.health.clone());
        let connect = move |id: &NodeId| {
            if *id == me {
                return local.clone();
            }
            let peer = Peer::new(id.clone(), parts.clone(), health.of(id)).start();
            Replica {
                read: peer.clone().recipient(),
                write: peer.clone().recipient(),
                mint: peer.recipient(),
            }
        };
        let view = shared.view.clone();
        let means = Means {
            health: shared.health.clone(),
            counts: shared.reads.clone(),
            background: shared.background.clone(),
        };
        let worker = Worker::new(view, shared.quorums, means, Box::new(connect), log);
        let salt = u128::from(random_u64()) << 64 | u128::from(random_u64());
        let (in_flight, background) = (self.in_flight.clone(), shared.background.clone());
        let door = Admission::new(worker, in_flight, self.deadlines, background, salt).start();
        let (read, write) = (door.clone().recipient(), door.recipient());
        NodeHandle::new(read, write, shared.clocks.clone(), shared.is_ready.clone())
    }
}
