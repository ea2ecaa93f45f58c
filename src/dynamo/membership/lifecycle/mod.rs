//! The life of one node, NEW → PENDING → READY → LEAVING, as events in and effects out.
//!
//! It follows the seed's joining protocol: NEW; wait while the ring moves; go in order of name;
//! have the change predicted and accepted; PENDING while the gained partitions are pulled; READY.
//! Where the seed trusted what it had read, each step here rests on something durable: a
//! [`Founding`] that its members have promised, or an epoch of the ring that a majority accepted.

mod claims;
mod founding;
mod greeting;
mod hello;
mod joining;
mod limits;
mod pledge;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use hello::{Hello, NodeState, Refusal, RingStamp};
pub use joining::Waiting;
pub use pledge::{FoundRefusal, Founding};

use std::sync::Arc;
use std::time::Duration;

use super::promise::Loss;
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, ClusterId, Departure, Member, PlanError, Ring};
use claims::Claims;
use hello::{Neighbours, same_node};
use limits::{CALM_HELLO, HELLO, pause};
use pledge::Pledge;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Me {
    /// Itself.
    pub member: Member,
    /// How many addresses other than its own it was given to start from.
    pub seeds: usize,
    /// How many NEW nodes, itself included, it takes to found a cluster; at least 1.
    pub expect: usize,
    /// N of a cluster that it founds.
    pub replicas: usize,
    /// Random: names the cluster if it founds one.
    pub cluster: ClusterId,
    /// Whether its store holds no record: only then may it take a member's name, as that member
    /// with a lost disk.
    pub fresh: bool,
    /// Whether it becomes a member at once; else it is staged, and an operator commits it.
    pub auto_commit: bool,
}

/// What the lifecycle is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time goes on; several times a second.
    Tick {
        /// Since this node started.
        now: Duration,
        /// A random number.
        dice: u64,
    },
    /// A node has greeted, and was admitted, or has answered a greeting.
    Heard(Box<Hello>),
    /// A node has refused this one's greeting.
    Refused(Refusal),
    /// The ring keeper has a ring, and has stored it.
    RingChanged(Arc<Ring>),
    /// A founder asks for a promise.
    FoundAsked(Founding),
    /// A node has answered this founder's question.
    FoundAnswered {
        /// Who.
        from: NodeId,
        /// The attempt that it was asked about.
        attempt: u64,
        /// Its promise, or why not.
        answer: Result<(), FoundRefusal>,
    },
    /// The proposal that was asked for has ended. If it was carried, or another was, the ring
    /// change is told beside this.
    ProposalEnded(Result<(), Loss>),
    /// Everything that this node gains in the move has been pulled and verified.
    TransfersDone {
        /// The epoch in which the move began.
        epoch: u64,
    },
    /// Whether this node keeps anything for others that they have yet to get.
    KeepsForOthers(bool),
    /// So many partitions that this node owns must be recovered from their other owners, because
    /// its store was lost.
    Recovering(usize),
    /// Whoever finds the other nodes says what this one may begin.
    Permitted(Permission),
    /// The operator stops this node.
    Drain,
}

/// What a node that is not a member may begin. Where a catalogue has to be heard first, or new nodes
/// queue there, it is less than everything; what it has begun is decided by promises alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// To found a cluster. Promising another founder needs no permission.
    pub found: bool,
    /// To propose that it joins.
    pub join: bool,
}

impl Permission {
    /// Nobody has to be asked.
    pub const ALL: Self = Self {
        found: true,
        join: true,
    };
    /// Neither yet.
    pub const NONE: Self = Self {
        found: false,
        join: false,
    };
}

/// What the caller does, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send [`Lifecycle::hello`] to every seed and to these; feed each answer back.
    SayHello {
        /// The members, and the NEW nodes heard of lately.
        known: Vec<Member>,
    },
    /// Get this node's ring. A ring keeper that has a ring takes only newer ones of its cluster.
    FetchRing {
        /// Who has it.
        from: Member,
    },
    /// Store the founding before anything that follows here.
    KeepFounding(Founding),
    /// Ask these nodes to promise the founding.
    AskToFound {
        /// Which.
        founding: Founding,
        /// Whoever has not promised yet.
        of: Vec<Member>,
    },
    /// Answer the founder that has just asked.
    AnswerFounder(Result<(), FoundRefusal>),
    /// All have promised: make this the first ring.
    InstallFirstRing(Change),
    /// Propose a change, for this epoch only: if the ring has moved on, the proposal has ended.
    Propose {
        /// The epoch that the change makes.
        epoch: u64,
        /// What is to change.
        change: Change,
    },
    /// Pull the partitions that this node gains.
    StartTransfers {
        /// The epoch of the ring in which they move.
        epoch: u64,
    },
    /// The state that others are told, and readiness, have changed.
    EnterState(NodeState),
    /// Stop: this node cannot take part.
    Exit(Refusal),
}

/// What stands between a node and the ring, in this life.
#[derive(Debug)]
struct Standing {
    /// It has asked to become a member.
    asked: bool,
    /// It has asked, and was sent away: it asks no more.
    turned_away: bool,
    /// It keeps something for others that they have yet to get.
    keeps_for_others: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            asked: false,
            turned_away: false,
            keeps_for_others: true,
        }
    }
}

/// One node's life.
#[derive(Debug)]
pub struct Lifecycle {
    me: Me,
    ring: Option<Arc<Ring>>,
    pledge: Pledge,
    seen: Neighbours,
    state: NodeState,
    draining: bool,
    now: Duration,
    dice: u64,
    next_hello: Duration,
    /// No proposal before this.
    not_before: Duration,
    proposing: bool,
    /// Since when others in line have been let go first.
    deferring_since: Option<Duration>,
    /// A ring exists, so nothing is founded any more.
    ring_heard: bool,
    /// The epoch whose transfers were started.
    pulling: Option<u64>,
    /// The last epoch whose transfers are done.
    pulled: Option<u64>,
    refused: Option<Refusal>,
    claims: Claims,
    /// Partitions to be recovered.
    recovering: usize,
    permitted: Permission,
    standing: Standing,
    /// Since when the move under way could end.
    retirable_since: Option<Duration>,
}

impl Lifecycle {
    /// Starts a node with what it was given and what is on its disk; and says what to do at once.
    #[must_use]
    pub fn start(
        me: Me,
        ring: Option<Arc<Ring>>,
        founding: Option<Founding>,
    ) -> (Self, Vec<Effect>) {
        let mut life = Self {
            me,
            ring: None,
            pledge: Pledge::from_disk(founding),
            seen: Neighbours::default(),
            state: NodeState::New,
            draining: false,
            now: Duration::ZERO,
            dice: 0,
            next_hello: Duration::ZERO,
            not_before: Duration::ZERO,
            proposing: false,
            deferring_since: None,
            ring_heard: false,
            pulling: None,
            pulled: None,
            refused: None,
            claims: Claims::default(),
            recovering: 0,
            permitted: Permission::ALL,
            standing: Standing::default(),
            retirable_since: None,
        };
        let effects = ring.map_or_else(Vec::new, |r| life.handle(Event::RingChanged(r)));
        (life, effects)
    }

    /// How far this node has come.
    #[must_use]
    pub fn state(&self) -> NodeState {
        self.state
    }

    /// Takes an event and says what to do about it.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Tick { now, dice } => self.tick(now, dice, &mut out),
            Event::Heard(hello) => self.heard(*hello, &mut out),
            Event::Refused(refusal) => self.refused(refusal, &mut out),
            Event::RingChanged(ring) => self.ring_changed(ring, &mut out),
            Event::FoundAsked(founding) => self.found_asked(founding, &mut out),
            Event::FoundAnswered {
                from,
                attempt,
                answer,
            } => self.found_answered(&from, attempt, answer, &mut out),
            Event::ProposalEnded(end) => self.proposal_ended(end, &mut out),
            Event::TransfersDone { epoch } => self.pulled = self.pulled.max(Some(epoch)),
            Event::Recovering(partitions) => self.recovering = partitions,
            Event::Permitted(permission) => self.permitted = permission,
            Event::KeepsForOthers(keeps) => self.standing.keeps_for_others = keeps,
            Event::Drain => self.draining = true,
        }
        self.show_state(&mut out);
        out
    }

    fn show_state(&mut self, out: &mut Vec<Effect>) {
        let state = self.current_state();
        if state != self.state {
            self.state = state;
            out.push(Effect::EnterState(state));
        }
    }

    fn tick(&mut self, now: Duration, dice: u64, out: &mut Vec<Effect>) {
        self.now = now;
        self.dice = dice;
        if self.draining {
            return;
        }
        if let Some(refusal) = self.final_refusal().or_else(|| self.farewell()) {
            out.push(Effect::Exit(refusal));
            return;
        }
        match self.ring.clone() {
            Some(ring) => self.follow(&ring, out),
            None => self.found(now >= self.next_hello, out),
        }
        if now >= self.next_hello {
            let calm = self.state == NodeState::Ready && !self.is_moving();
            self.next_hello = now + if calm { CALM_HELLO } else { HELLO };
            let known = self.known();
            out.push(Effect::SayHello { known });
        }
    }

    fn ring_changed(&mut self, ring: Arc<Ring>, out: &mut Vec<Effect>) {
        let (me, me_fresh) = (&self.me.member, self.me.fresh);
        let holder = ring.member(&me.id).filter(|m| !same_node(m, me));
        if let Some(holder) = holder.filter(|_| !me_fresh || self.is_member()) {
            out.push(Effect::Exit(Refusal::NameTaken {
                name: me.id.clone(),
                holder: holder.addresses.peer.clone(),
            }));
            return;
        }
        if self
            .ring
            .as_ref()
            .is_some_and(|own| own.epoch >= ring.epoch)
        {
            return;
        }
        self.deferring_since = None;
        self.retirable_since = None;
        self.next_hello = self.now;
        let was_in = self.is_member() || self.is_staged();
        if self.pulling != Some(ring.epoch) && ring.gains(&me.id).next().is_some() {
            self.pulling = Some(ring.epoch);
            out.push(Effect::StartTransfers { epoch: ring.epoch });
        }
        self.ring = Some(ring);
        let is_out = !self.is_member() && !self.is_staged() && self.departure().is_none();
        self.standing.turned_away |= self.standing.asked && was_in && is_out;
    }

    /// Why a node that was a member ends: at once if it was forgotten, and otherwise when what it
    /// keeps for others is with them.
    fn farewell(&self) -> Option<Refusal> {
        let gone = self.departure()?;
        let waits = self.standing.keeps_for_others && gone.how != Departure::Forgotten;
        (!waits).then(|| Refusal::departed(gone))
    }

    fn proposal_ended(&mut self, end: Result<(), Loss>, out: &mut Vec<Effect>) {
        self.proposing = false;
        self.not_before = self.now + pause(self.dice);
        if let Err(Loss::CannotFollow(PlanError::NameTaken(name))) = end {
            let member = self.ring.as_ref().and_then(|r| r.member(&name));
            let holder = member.map_or_else(String::new, |m| m.addresses.peer.clone());
            out.push(Effect::Exit(Refusal::NameTaken { name, holder }));
        }
    }
}
