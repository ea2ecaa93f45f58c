//! Correct histories: the product's own rules of causality over three replicas of one key, driven
//! by rolls of dice, with writes of which the client never hears, early, late or never done.

use bytes::Bytes;

use super::super::history::{Action, History, Operation, Outcome, Phase};
use crate::dynamo::node_id::Incarnation;
use crate::dynamo::version::{
    Actor, Body, Clock, Mint, Refused, RequestId, State, WriteKind, decide, sync,
};

const REPLICAS: usize = 3;

/// One step: what, where, and how it goes.
pub(super) type Roll = (u8, u8, u8);

/// Writes histories by hand: one operation after another, ten microseconds apart.
#[derive(Default)]
pub(super) struct Script {
    pub(super) history: History,
    now: u64,
}

impl Script {
    /// Appends an operation and gives its id; `then` makes of it what it should be.
    pub(super) fn op(&mut self, op: Action, then: impl FnOnce(&mut Operation)) -> u64 {
        self.now += 10;
        let id = self.history.operations.len() as u64;
        let mut operation = Operation {
            id,
            session: 1,
            endpoint: "n1".to_owned(),
            phase: Phase::Calm,
            key: "k".to_owned(),
            op,
            strict: true,
            value: None,
            clock: None,
            invoked: self.now,
            completed: self.now + 5,
            result: Outcome::Ok,
            answer: "200".to_owned(),
            hinted: Some(0),
            values: None,
            token: Some(format!("token-{id}")),
        };
        then(&mut operation);
        self.history.operations.push(operation);
        id
    }

    /// Reads the values from three nodes, twice.
    pub(super) fn finals(&mut self, values: &[&str]) {
        for phase in [Phase::Final1, Phase::Final2] {
            for node in ["n1", "n2", "n3"] {
                self.op(Action::Get, |o| {
                    o.endpoint = node.to_owned();
                    o.phase = phase;
                    o.strict = false;
                    o.values = Some(values.iter().map(ToString::to_string).collect());
                });
            }
        }
    }
}

#[derive(Default)]
struct Replica {
    incarnation: u64,
    epochs: u64,
    minted: Option<Actor>,
    state: State,
}

/// What a client asked for.
#[derive(Clone)]
struct Wish {
    kind: WriteKind,
    value: Option<String>,
    seen: Option<Clock>,
    id: u128,
}

#[derive(Default)]
struct Model {
    replicas: [Replica; REPLICAS],
    script: Script,
    clocks: Vec<(u64, Clock)>,
    late: Vec<Wish>,
}

/// The history of these steps, with final reads.
pub(super) fn run(rolls: &[Roll]) -> History {
    let mut model = Model::default();
    for (n, replica) in model.replicas.iter_mut().enumerate() {
        replica.incarnation = n as u64 + 1;
    }
    model.read(0, 1);
    for &(what, at, how) in rolls {
        model.step(what, at, how);
    }
    model.end()
}

impl Model {
    fn step(&mut self, what: u8, at: u8, how: u8) {
        let r = usize::from(at) % REPLICAS;
        let other = (r + 1 + usize::from(at / 4) % 2) % REPLICAS;
        match what {
            0..3 => self.read(r, other),
            3..9 => self.write(WriteKind::Put, true, (r, other), how),
            9 | 10 => self.write(WriteKind::Delete, true, (r, other), how),
            11 => self.write(WriteKind::Delete, false, (r, other), how),
            12 => self.write(WriteKind::Create, false, (r, other), how),
            13 if !self.late.is_empty() => {
                let wish = self.late.remove(usize::from(how) % self.late.len());
                // Nobody waits for it any more, whatever comes of it.
                drop(self.apply(r, other, &wish));
            }
            _ => self.copy(r, other),
        }
    }

    fn merged(&self, r: usize, other: usize) -> State {
        sync(&self.replicas[r].state, &self.replicas[other].state)
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.replicas[to].state = self.merged(to, from);
    }

    /// A strict read: what two of three hold, which then both hold.
    fn read(&mut self, r: usize, other: usize) {
        let state = self.merged(r, other);
        self.copy(r, other);
        self.copy(other, r);
        let id = self
            .script
            .op(Action::Get, |o| o.values = Some(values(&state)));
        self.clocks.push((id, Clock::of(&state)));
    }

    fn write(&mut self, kind: WriteKind, with_clock: bool, at: (usize, usize), how: u8) {
        let chosen = usize::from(how / 8) % self.clocks.len();
        let clock = with_clock.then(|| self.clocks[self.clocks.len() - 1 - chosen].clone());
        let id = self.script.history.operations.len();
        let wish = Wish {
            kind,
            value: (kind != WriteKind::Delete).then(|| format!("v{id}")),
            seen: clock.as_ref().map(|(_, seen)| seen.clone()),
            id: id as u128,
        };
        let (result, done) = match how % 8 {
            0 => (Outcome::Fail, None),
            1 => (Outcome::Info, None),
            2 => {
                self.late.push(wish.clone());
                (Outcome::Info, None)
            }
            // The minter has it, and nobody else.
            3 => (Outcome::Info, Some(self.apply(at.0, at.1, &wish))),
            _ => {
                let done = self.apply(at.0, at.1, &wish);
                if done.is_ok() {
                    self.copy(at.0, at.1);
                }
                (Outcome::Ok, Some(done))
            }
        };
        let action = match kind {
            WriteKind::Create => Action::Post,
            WriteKind::Put => Action::Put,
            WriteKind::Delete => Action::Delete,
        };
        let answered = done.filter(|_| result == Outcome::Ok);
        let shown = match &answered {
            Some(Err(refused)) => Some(values(refused)),
            Some(Ok(_)) | None => None,
        };
        let refused = shown.is_some();
        let id = self.script.op(action, |o| {
            o.value = wish.value;
            o.clock = clock.map(|(source, _)| source);
            o.result = if refused { Outcome::Fail } else { result };
            o.values = shown;
        });
        match answered {
            Some(Ok(clock)) => self.clocks.push((id, clock)),
            Some(Err(state)) => self.clocks.push((id, Clock::of(&state))),
            None => {}
        }
    }

    /// Gives the clock of the answer, or the state that the refusal shows.
    fn apply(&mut self, r: usize, other: usize, wish: &Wish) -> Result<Clock, State> {
        let look = wish.seen.is_none().then(|| self.merged(r, other));
        let seen = match (&wish.seen, &look) {
            (Some(seen), _) => seen.clone(),
            (None, Some(look)) => Clock::of(look),
            (None, None) => Clock::default(),
        };
        let body = match &wish.value {
            Some(value) => Body::Value(Bytes::from(value.clone())),
            None => Body::Tombstone,
        };
        let mint = Mint {
            kind: wish.kind,
            seen,
            body,
            request: RequestId {
                id: wish.id,
                fingerprint: 0,
            },
            remember: None,
            merged: look.map(Box::new),
        };
        let replica = &mut self.replicas[r];
        let incarnation = Incarnation(replica.incarnation);
        let epochs = &mut replica.epochs;
        let decided = decide(&replica.state, replica.minted, &mint, usize::MAX, || {
            *epochs += 1;
            Actor {
                incarnation,
                epoch: *epochs,
            }
        });
        match decided {
            Ok(decided) => {
                replica.state = decided.state;
                replica.minted = decided.minted;
                Ok(decided.answer)
            }
            Err(Refused::AlreadyExists(state) | Refused::NothingToDelete(state)) => Err(state),
            Err(Refused::TooManySiblings(_) | Refused::RequestReused) => {
                panic!("no bound and no name is used twice")
            }
        }
    }

    fn end(mut self) -> History {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 1)] {
            self.copy(from, to);
        }
        let values = values(&self.replicas[0].state);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        self.script.finals(&values);
        self.script.history
    }
}

fn values(state: &State) -> Vec<String> {
    let live = state.live().into_iter();
    live.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
        .collect()
}
