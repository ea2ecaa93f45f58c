//! Lets one new node go ahead at a time, by a lock in Consul. The lock is a courtesy that saves
//! proposals; what keeps two joins apart is the ring's promise, so nothing hangs on it.

use std::time::Duration;

use actix::prelude::Addr;
use slog::{Logger, info, warn};
use tokio::sync::watch;
use tokio::time::Instant;

use super::blocking::{Hold, JoinLock, NoAnswer, Release};
use super::catalogue::Seen;
use super::complaint::Complaint;
use super::{ConsulSettings, Surroundings, rest};
use crate::discovery::Permitted;
use crate::dynamo::membership::lifecycle::{NodeState, Permission};

/// How long the catalogue must have had this node until a cluster is founded: nodes that serve
/// have registered again by then, if Consul had forgotten them.
const CALM: Duration = Duration::from_secs(5);
/// How long a node may hold the lock without having become a member.
const MAX_TURN: Duration = Duration::from_mins(1);
/// How long it then lets the others try.
const STEP_BACK: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Turns {
    lock: Addr<JoinLock>,
    surroundings: Surroundings,
    seen: watch::Receiver<Seen>,
    turn: Turn,
    told: Option<Permission>,
    complaint: Complaint,
}

impl Turns {
    pub(super) fn new(
        settings: ConsulSettings,
        surroundings: Surroundings,
        seen: watch::Receiver<Seen>,
    ) -> Self {
        let holder = settings.node.name.clone();
        Self {
            lock: JoinLock::start(settings, holder),
            seen,
            turn: Turn::default(),
            told: None,
            complaint: Complaint::new(surroundings.log.clone(), "join lock"),
            surroundings,
        }
    }

    /// Goes on for as long as the node lives.
    pub(super) async fn take(mut self) {
        loop {
            self.look().await;
            rest(self.surroundings.dice).await;
        }
    }

    async fn look(&mut self) {
        let state = (self.surroundings.state)();
        let (now, since) = (Instant::now(), self.seen.borrow().since);
        match self.turn.next(state, now) {
            Step::Hold => {
                let answer = self.lock.send(Hold).await;
                let answer = answer.unwrap_or(Err(NoAnswer));
                match &answer {
                    Ok(_) => self.complaint.well(),
                    Err(why) => self.complaint.trouble(why),
                }
                self.turn
                    .answered(answer, state, now, &self.surroundings.log);
            }
            Step::Release => drop(self.lock.send(Release).await),
            Step::Rest => {}
        }
        let permission = Permission {
            found: since.is_some_and(|since| now - since >= CALM),
            join: self.turn.held_since.is_some() && since.is_some(),
        };
        if self.told != Some(permission) {
            self.surroundings.permitted.do_send(Permitted(permission));
            self.told = Some(permission);
        }
    }
}

/// What to do about the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hold,
    Release,
    Rest,
}

/// Whether this node has the lock, and when it may try again.
#[derive(Debug, Default)]
struct Turn {
    held_since: Option<Instant>,
    not_before: Option<Instant>,
    /// Whether Consul may still believe that this node has it.
    asked: bool,
}

impl Turn {
    fn next(&mut self, state: NodeState, now: Instant) -> Step {
        let overdue = |since: Instant| state == NodeState::New && now - since >= MAX_TURN;
        match state {
            NodeState::New | NodeState::Pending if self.held_since.is_some_and(overdue) => {
                self.held_since = None;
                self.not_before = Some(now + STEP_BACK);
                Step::Release
            }
            NodeState::New | NodeState::Pending if self.not_before.is_some_and(|at| now < at) => {
                Step::Rest
            }
            NodeState::New | NodeState::Pending => {
                self.asked = true;
                Step::Hold
            }
            NodeState::Ready | NodeState::Leaving => {
                self.held_since = None;
                let asked = std::mem::take(&mut self.asked);
                if asked { Step::Release } else { Step::Rest }
            }
        }
    }

    /// A lock that Consul does not confirm is no lock.
    fn answered(
        &mut self,
        answer: Result<bool, NoAnswer>,
        state: NodeState,
        now: Instant,
        log: &Logger,
    ) {
        let held = answer.unwrap_or(false);
        match (self.held_since, held) {
            (None, true) => {
                info!(log, "it is this node's turn to join"; "event.action" => "lock-taken");
                self.held_since = Some(now);
            }
            (Some(_), false) => {
                warn!(log, "the join lock is lost"; "event.action" => "lock-lost",
                    "service.state" => %state);
                self.held_since = None;
            }
            (Some(_), true) | (None, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Logger {
        Logger::root(slog::Discard, slog::o!())
    }

    #[tokio::test]
    async fn the_lock_is_held_while_new_and_pending_and_given_back_when_ready() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        assert_eq!(turn.next(NodeState::New, now), Step::Hold);
        turn.answered(Ok(false), NodeState::New, now, &quiet());
        assert_eq!(turn.held_since, None);
        turn.answered(Ok(true), NodeState::New, now, &quiet());
        assert_eq!(turn.held_since, Some(now));
        let later = now + MAX_TURN * 2;
        assert_eq!(turn.next(NodeState::Pending, later), Step::Hold);
        assert_eq!(turn.next(NodeState::Ready, later), Step::Release);
        assert_eq!(turn.next(NodeState::Ready, later), Step::Rest);
    }

    #[tokio::test]
    async fn a_lock_that_is_not_confirmed_is_lost_at_once() {
        for lost in [Ok(false), Err(NoAnswer)] {
            let (mut turn, now) = (Turn::default(), Instant::now());
            turn.answered(Ok(true), NodeState::New, now, &quiet());
            turn.answered(lost, NodeState::New, now, &quiet());
            assert_eq!(turn.held_since, None, "{lost:?}");
        }
    }

    #[tokio::test]
    async fn a_node_that_gets_nowhere_lets_others_try() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        turn.answered(Ok(true), NodeState::New, now, &quiet());
        let late = now + MAX_TURN;
        assert_eq!(turn.next(NodeState::New, late), Step::Release);
        assert_eq!(turn.next(NodeState::New, late), Step::Rest);
        assert_eq!(turn.next(NodeState::New, late + STEP_BACK), Step::Hold);
    }
}
