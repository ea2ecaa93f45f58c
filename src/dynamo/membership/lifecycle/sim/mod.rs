//! Whole clusters of lifecycles, acceptors and proposers in one thread, with a network that delays,
//! reorders, loses and copies, and nodes that are killed and started again from their disks. Time
//! and luck come from a seed, so a failure can be run again.

mod changes;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Effect, Event, FoundRefusal, Founding, Lifecycle, Me, NodeState, Permission, Refusal};
use crate::dynamo::key::Partition;
use crate::dynamo::membership::fixture::{Dice, member};
use crate::dynamo::membership::promise::{Acceptor, Ballot, Loss, Proposer};
use crate::dynamo::node_id::NodeId;
use crate::dynamo::ring::{Change, ClusterId, Member, Ring, plan};

use network::{Body, Letter};

const TICK: Duration = Duration::from_millis(100);

/// A machine: what survives a kill, and the process if it runs.
pub(super) struct Host {
    me: Me,
    seeds: Vec<String>,
    ring: Option<Arc<Ring>>,
    founding: Option<Founding>,
    acceptor: Acceptor,
    process: Option<Process>,
}

struct Process {
    life: Lifecycle,
    started: Duration,
    proposer: Option<(Proposer, Duration)>,
    outbid_by: Option<Ballot>,
    transfer: Option<(u64, Duration)>,
    exit: Option<Refusal>,
}

pub(super) struct Sim {
    pub(super) dice: Dice,
    pub(super) now: Duration,
    hosts: BTreeMap<String, Host>,
    letters: Vec<Letter>,
    /// In percent, of letters.
    pub(super) loss: u64,
    /// Answers hellos, and never gets anything else done.
    pub(super) stuck: Option<&'static str>,
    /// These two do not hear each other.
    pub(super) cut: Option<(&'static str, &'static str)>,
    /// Every ring that anybody ever had.
    rings: BTreeMap<u64, Arc<Ring>>,
    /// Who has pulled all it gained in which epoch.
    pulled: BTreeSet<(NodeId, u64)>,
    /// The members in the order of their joining.
    pub(super) joined: Vec<NodeId>,
}

impl Host {
    /// The ring keeper's rule: one that has lost its disk has lost its promises, and does not vote
    /// until it is the member again.
    fn votes_on(&self) -> Option<Arc<Ring>> {
        let me = &self.me.member;
        let ring = self.ring.clone()?;
        let stranger = ring.member(&me.id).is_some_and(|m| m.data_id != me.data_id);
        (!stranger).then_some(ring)
    }
}

impl Sim {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            now: Duration::ZERO,
            hosts: BTreeMap::new(),
            letters: Vec::new(),
            loss: 0,
            stuck: None,
            cut: None,
            rings: BTreeMap::new(),
            pulled: BTreeSet::new(),
            joined: Vec::new(),
        }
    }

    /// A machine with an empty disk, not started yet.
    pub(super) fn add(&mut self, who: Member, seeds: &[&str], expect: usize) {
        let address = |name: &&str| member(name).addresses.peer;
        let seeds: Vec<String> = seeds.iter().map(address).collect();
        let own = who.addresses.peer.clone();
        let host = Host {
            me: Me {
                seeds: seeds.iter().filter(|s| **s != own).count(),
                expect,
                replicas: 3,
                cluster: ClusterId(self.dice.roll()),
                fresh: true,
                auto_commit: true,
                member: who,
            },
            seeds,
            ring: None,
            founding: None,
            acceptor: Acceptor::default(),
            process: None,
        };
        self.hosts.insert(own, host);
    }

    /// The same, and it asks to be staged only.
    pub(super) fn add_staged(&mut self, who: Member, seeds: &[&str]) {
        let name = who.id.to_string();
        self.add(who, seeds, seeds.len());
        self.host(&name).me.auto_commit = false;
    }

    pub(super) fn runs(&mut self, name: &str) -> bool {
        self.host(name).process.is_some()
    }

    pub(super) fn start(&mut self, name: &str) {
        let at = member(name).addresses.peer;
        let host = self.hosts.get_mut(&at).unwrap();
        host.me.cluster = ClusterId(self.dice.roll());
        let (ring, founding) = (host.ring.clone(), host.founding.clone());
        let (life, effects) = Lifecycle::start(host.me.clone(), ring, founding);
        host.process = Some(Process {
            life,
            started: self.now,
            proposer: None,
            outbid_by: None,
            transfer: None,
            exit: None,
        });
        self.carry_out(&at, effects, None);
    }

    pub(super) fn kill(&mut self, name: &str) {
        self.host(name).process = None;
    }

    /// Starts those that do not run.
    pub(super) fn start_all(&mut self, names: &[&str]) {
        for name in names {
            if self.host(name).process.is_none() {
                self.start(name);
            }
        }
    }

    pub(super) fn drain(&mut self, name: &str) {
        self.tell(&member(name).addresses.peer, Event::Drain, None);
    }

    pub(super) fn permit(&mut self, name: &str, permission: Permission) {
        let at = member(name).addresses.peer;
        self.tell(&at, Event::Permitted(permission), None);
    }

    pub(super) fn refuse(&mut self, name: &str, why: &Refusal) {
        let event = Event::Refused(why.clone());
        self.tell(&member(name).addresses.peer, event, None);
    }

    pub(super) fn ask_to_found(&mut self, name: &str, f: Founding) -> Result<(), FoundRefusal> {
        let life = &mut self.host(name).process.as_mut().unwrap().life;
        let effects = life.handle(Event::FoundAsked(f));
        let [Effect::AnswerFounder(answer)] = effects.as_slice() else {
            panic!("{effects:?}")
        };
        answer.clone()
    }

    /// Puts a ring on the disk of a machine that does not run.
    pub(super) fn put_ring(&mut self, name: &str, ring: Arc<Ring>) {
        self.host(name).ring = Some(ring);
    }

    /// Loses the disk of a machine that does not run.
    pub(super) fn wipe(&mut self, name: &str) {
        let luck = self.dice.roll();
        let host = self.host(name);
        host.me.member.data_id = luck;
        (host.ring, host.founding) = (None, None);
        host.acceptor = Acceptor::default();
    }

    /// The same, and the machine comes back with an empty disk and says so.
    pub(super) fn lose_disk(&mut self, name: &str) {
        self.wipe(name);
        self.host(name).me.fresh = true;
    }

    pub(super) fn life(&mut self, name: &str) -> &Lifecycle {
        &self.host(name).process.as_ref().unwrap().life
    }

    /// A life of its own, out of the simulation.
    pub(super) fn take(&mut self, name: &str) -> Lifecycle {
        self.host(name).process.take().unwrap().life
    }

    pub(super) fn exit_of(&mut self, name: &str) -> Option<Refusal> {
        self.host(name).process.as_ref()?.exit.clone()
    }

    pub(super) fn ring(&mut self, name: &str) -> Option<Arc<Ring>> {
        self.host(name).ring.clone()
    }

    fn host(&mut self, name: &str) -> &mut Host {
        let at = member(name).addresses.peer;
        self.hosts.get_mut(&at).unwrap()
    }

    /// An operator asks a node for a change, if that has a ring and is not busy with another.
    pub(super) fn operate(&mut self, name: &str, change: Change) {
        let at = member(name).addresses.peer;
        let host = &self.hosts[&at];
        let process = host.process.as_ref();
        let free = process.is_some_and(|p| p.proposer.is_none() && p.exit.is_none());
        if let Some(ring) = host.ring.clone().filter(|_| free) {
            self.propose(&at, ring.epoch + 1, change);
        }
    }

    /// Whether everybody who runs is READY in one ring at rest.
    pub(super) fn is_settled(&self) -> bool {
        let running = self.hosts.values().filter_map(|h| {
            let p = h.process.as_ref().filter(|p| p.exit.is_none())?;
            Some((
                p.life.state(),
                h.ring.as_ref().map(|r| (r.epoch, r.is_moving())),
            ))
        });
        let mut running = running.peekable();
        let Some(&(_, Some((epoch, false)))) = running.peek() else {
            return false;
        };
        running.all(|now| now == (NodeState::Ready, Some((epoch, false))))
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Lets time pass until all is well.
    pub(super) fn settle(&mut self, within: Duration) -> Result<(), String> {
        let end = self.now + within;
        while !self.is_settled() {
            self.step();
            if self.now > end {
                return Err(self.report());
            }
        }
        Ok(())
    }

    fn report(&self) -> String {
        let line = |(at, h): (&String, &Host)| {
            let life = h
                .process
                .as_ref()
                .map(|p| (p.life.state(), p.life.waiting_for()));
            let epoch = h.ring.as_ref().map(|r| r.epoch);
            format!("{at}: {life:?}, epoch {epoch:?}")
        };
        let lines: Vec<String> = self.hosts.iter().map(line).collect();
        format!("not settled at {:?}: {lines:#?}", self.now)
    }

    fn step(&mut self) {
        self.now += TICK;
        let now = self.now;
        let mut due: Vec<Letter> = self.letters.extract_if(.., |l| l.at <= now).collect();
        due.sort_by_key(|l| l.at);
        for letter in due {
            self.deliver(letter);
        }
        let running: Vec<String> = self.hosts.keys().cloned().collect();
        for at in running {
            self.wake(&at);
        }
    }

    /// A process looks at its clock, its transfers and its proposal.
    fn wake(&mut self, at: &str) {
        let (now, dice) = (self.now, self.dice.roll());
        let Some(p) = self.hosts.get_mut(at).and_then(|h| h.process.as_mut()) else {
            return;
        };
        if p.exit.is_some() {
            return;
        }
        let mut events = vec![
            Event::KeepsForOthers(false),
            Event::Tick {
                now: now.saturating_sub(p.started),
                dice,
            },
        ];
        if let Some((epoch, _)) = p.transfer.take_if(|(_, done)| *done <= now) {
            let id = p.life.hello().from.id;
            self.pulled.insert((id, epoch));
            events.push(Event::TransfersDone { epoch });
        }
        if p.proposer
            .take_if(|(_, deadline)| *deadline <= now)
            .is_some()
        {
            events.push(Event::ProposalEnded(Err(Loss::NoMajority)));
        }
        for event in events {
            self.tell(at, event, None);
        }
    }

    fn tell(&mut self, at: &str, event: Event, asker: Option<(&str, u64)>) {
        let process = self.hosts.get_mut(at).and_then(|h| h.process.as_mut());
        let effects = process.map_or_else(Vec::new, |p| p.life.handle(event));
        self.carry_out(at, effects, asker);
    }

    fn carry_out(&mut self, at: &str, effects: Vec<Effect>, asker: Option<(&str, u64)>) {
        for effect in effects {
            let (now, luck) = (self.now, self.dice.below(3000));
            let host = self.hosts.get_mut(at).unwrap();
            let Some(p) = host.process.as_mut() else {
                return;
            };
            match effect {
                Effect::SayHello { known } => {
                    let mut to = host.seeds.clone();
                    to.extend(known.into_iter().map(|m| m.addresses.peer));
                    to.sort();
                    to.dedup();
                    let hello = p.life.hello();
                    for to in to {
                        self.send(at, &to, &Body::Hello(hello.clone()));
                    }
                }
                Effect::FetchRing { from } => self.send(at, &from.addresses.peer, &Body::Fetch),
                Effect::KeepFounding(founding) => host.founding = Some(founding),
                Effect::AskToFound { founding, of } => {
                    for m in of {
                        self.send(at, &m.addresses.peer, &Body::Found(founding.clone()));
                    }
                }
                Effect::AnswerFounder(answer) => {
                    let (to, attempt) = asker.unwrap();
                    self.send(at, to, &Body::FoundBack(attempt, answer));
                }
                Effect::InstallFirstRing(change) => {
                    let ring = plan(None, &change).unwrap();
                    self.install(at, Arc::new(ring));
                }
                Effect::Propose { epoch, change } => self.propose(at, epoch, change),
                Effect::StartTransfers { .. } => {
                    let done = now + Duration::from_millis(luck as u64);
                    // The ring is on the disk before anybody is told.
                    let ring = host.ring.as_ref();
                    p.transfer = ring.map(|ring| (ring.move_epoch(), done));
                }
                Effect::EnterState(_) => {}
                Effect::Exit(why) => p.exit = Some(why),
            }
        }
    }

    /// The ring keeper: stores a newer ring of the same cluster, and says so.
    fn install(&mut self, at: &str, ring: Arc<Ring>) {
        let host = self.hosts.get_mut(at).unwrap();
        let follows = host
            .ring
            .as_ref()
            .is_none_or(|own| own.cluster == ring.cluster && own.epoch < ring.epoch);
        if !follows || host.process.is_none() {
            return;
        }
        host.ring = Some(Arc::clone(&ring));
        self.check(&ring);
        for m in &ring.members {
            if !self.joined.contains(&m.id) {
                self.joined.push(m.id.clone());
            }
        }
        self.tell(at, Event::RingChanged(ring), None);
    }

    /// One ring an epoch, and none that retires a move before every gainer has pulled.
    fn check(&mut self, ring: &Arc<Ring>) {
        let known = self.rings.entry(ring.epoch).or_insert(Arc::clone(ring));
        assert_eq!(
            known.hash(),
            ring.hash(),
            "two rings in epoch {}",
            ring.epoch
        );
        let Some(before) = self.rings.get(&(ring.epoch - 1)) else {
            return;
        };
        for p in Partition::all() {
            let (was, is) = (before.placement(p), ring.placement(p));
            let retired = was.incoming.as_ref() == Some(&is.owners) && is.incoming.is_none();
            for id in is
                .owners
                .iter()
                .filter(|id| retired && was.is_gained_by(id))
            {
                let pulled = self.pulled.contains(&(id.clone(), before.move_epoch()));
                assert!(pulled, "{id} owns {p:?} and has not pulled it");
            }
        }
    }
}
