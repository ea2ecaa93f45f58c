//! What the simulated nodes send each other, and what they do with it.

use std::sync::Arc;
use std::time::Duration;

use super::{Process, Sim};
use crate::dynamo::membership::fixture::member;
use crate::dynamo::membership::lifecycle::{Event, FoundRefusal, Founding, Hello, Refusal};
use crate::dynamo::membership::promise::{
    AcceptReply, Ballot, Loss, PredictReply, Proposal, Proposer, Step,
};
use crate::dynamo::ring::{Change, Ring};

const PROPOSAL_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub(super) enum Body {
    Hello(Hello),
    HelloBack(Result<Hello, Refusal>),
    Fetch,
    RingIs(Arc<Ring>),
    Found(Founding),
    FoundBack(u64, Result<(), FoundRefusal>),
    Predict(u64, Ballot, Proposal),
    PredictBack(Ballot, PredictReply),
    Accept(u64, Ballot, Proposal),
    AcceptBack(Ballot, AcceptReply),
}

pub(super) struct Letter {
    pub(super) at: Duration,
    from: String,
    /// A peer address.
    to: String,
    body: Body,
}

impl Sim {
    pub(super) fn send(&mut self, from: &str, to: &str, body: &Body) {
        if self.dice.hits(self.loss) || self.is_barred(from, to, body) {
            return;
        }
        let slow = if self.dice.hits(self.loss) { 4000 } else { 200 };
        for _ in 0..=usize::from(self.dice.hits(self.loss / 2)) {
            let delay = Duration::from_millis(self.dice.roll() % slow);
            self.letters.push(Letter {
                at: self.now + delay,
                from: from.to_owned(),
                to: to.to_owned(),
                body: body.clone(),
            });
        }
    }

    fn is_barred(&self, from: &str, to: &str, body: &Body) -> bool {
        let is = |at: &str, name: &str| at == member(name).addresses.peer;
        let stuck = self.stuck.is_some_and(|name| is(from, name));
        let cut = |(a, b)| is(from, a) && is(to, b) || is(from, b) && is(to, a);
        stuck && matches!(body, Body::Predict(..)) || self.cut.is_some_and(cut)
    }

    pub(super) fn propose(&mut self, at: &str, epoch: u64, change: Change) {
        let deadline = self.now + PROPOSAL_DEADLINE;
        let host = self.hosts.get_mut(at).unwrap();
        let ring = Arc::clone(host.ring.as_ref().unwrap());
        let p = host.process.as_mut().unwrap();
        let ballot = Ballot::above(p.outbid_by.as_ref(), host.me.member.id.clone());
        if ring.epoch + 1 != epoch {
            let current = ring.epoch;
            let end = Err(Loss::WrongEpoch { current });
            return self.tell(at, Event::ProposalEnded(end), None);
        }
        match Proposer::new(ring, ballot.clone(), change) {
            Ok(proposer) => {
                let body = Body::Predict(epoch, ballot, proposer.proposal().clone());
                p.proposer = Some((proposer, deadline));
                self.ask_acceptors(at, &body);
            }
            Err(why) => {
                let end = Err(Loss::CannotFollow(why));
                self.tell(at, Event::ProposalEnded(end), None);
            }
        }
    }

    fn ask_acceptors(&mut self, at: &str, body: &Body) {
        let process = self.hosts[at].process.as_ref().unwrap();
        let (proposer, _) = process.proposer.as_ref().unwrap();
        let acceptors = proposer.acceptors();
        let to = acceptors.iter().map(|m| m.addresses.peer.clone());
        for to in to.collect::<Vec<_>>() {
            self.send(at, &to, body);
        }
    }

    fn answered(&mut self, at: &str, ballot: &Ballot, say: impl FnOnce(&mut Proposer) -> Step) {
        let p = self.hosts.get_mut(at).unwrap().process.as_mut().unwrap();
        let Some((proposer, _)) = &mut p.proposer else {
            return;
        };
        if proposer.ballot() != ballot {
            return;
        }
        let epoch = proposer.epoch();
        match say(proposer) {
            Step::Wait => {}
            Step::Accept(proposal) => {
                self.ask_acceptors(at, &Body::Accept(epoch, ballot.clone(), proposal));
            }
            Step::Committed { ring, .. } => {
                p.proposer = None;
                self.install(at, Arc::new(*ring));
                self.tell(at, Event::ProposalEnded(Ok(())), None);
            }
            Step::Lost(why) => {
                p.proposer = None;
                if let Loss::Outbid(by) = &why {
                    p.outbid_by = p.outbid_by.take().max(Some(by.clone()));
                }
                self.tell(at, Event::ProposalEnded(Err(why)), None);
            }
        }
    }

    pub(super) fn deliver(&mut self, letter: Letter) {
        let Letter { from, to, body, .. } = letter;
        let sender = self.hosts[&from].me.member.id.clone();
        let alive = |p: &Process| p.exit.is_none();
        let Some(host) = self.hosts.get_mut(&to) else {
            return;
        };
        if !host.process.as_ref().is_some_and(alive) {
            return;
        }
        match body {
            Body::Hello(hello) => self.greeted(&from, &to, hello),
            Body::HelloBack(Ok(hello)) => self.tell(&to, Event::Heard(Box::new(hello)), None),
            Body::HelloBack(Err(why)) => self.tell(&to, Event::Refused(why), None),
            Body::Fetch => {
                if let Some(ring) = host.ring.clone() {
                    self.send(&to, &from, &Body::RingIs(ring));
                }
            }
            Body::RingIs(ring) => self.install(&to, ring),
            Body::Found(founding) => {
                let asker = Some((from.as_str(), founding.attempt));
                self.tell(&to, Event::FoundAsked(founding), asker);
            }
            Body::FoundBack(attempt, answer) => {
                let event = Event::FoundAnswered {
                    from: sender,
                    attempt,
                    answer,
                };
                self.tell(&to, event, None);
            }
            Body::Predict(epoch, ballot, p) => {
                if let Some(ring) = host.votes_on() {
                    let reply = host.acceptor.predict(&ring, epoch, &ballot, &p);
                    self.send(&to, &from, &Body::PredictBack(ballot, reply));
                }
            }
            Body::Accept(epoch, ballot, p) => {
                if let Some(ring) = host.votes_on() {
                    let reply = host.acceptor.accept(&ring, epoch, &ballot, &p);
                    self.send(&to, &from, &Body::AcceptBack(ballot, reply));
                }
            }
            Body::PredictBack(ballot, reply) => {
                self.answered(&to, &ballot, |p| p.on_predict(&sender, Ok(reply)));
            }
            Body::AcceptBack(ballot, reply) => {
                self.answered(&to, &ballot, |p| p.on_accept(&sender, Ok(reply)));
            }
        }
    }

    fn greeted(&mut self, from: &str, at: &str, hello: Hello) {
        let process = self.hosts.get_mut(at).unwrap().process.as_mut();
        let admitted = process.unwrap().life.admit(&hello);
        if admitted.is_ok() {
            self.tell(at, Event::Heard(Box::new(hello)), None);
        }
        let life = &self.hosts[at].process.as_ref().unwrap().life;
        let answer = admitted.map(|()| life.hello());
        self.send(at, from, &Body::HelloBack(answer));
    }
}
