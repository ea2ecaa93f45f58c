//! Does the causality equal exact sets of writes?
//!
//! Every replica runs both: the product's states, and beside each the plain sets of writes, which
//! can forget nothing. After every step the surviving values must be the same. Each [`Variant`]
//! takes one rule away, and then values are lost: so these tests can fail.

use bytes::Bytes;

use super::{Actor, Body, Clock, Mint, Reason, Refused, RequestId, State, WriteKind, decide, sync};
use crate::dynamo::key::fmix64;
use crate::dynamo::node_id::Incarnation;

const KEYS: usize = 2;
const REPLICAS: usize = 3;
const STEPS: usize = 60;

/// The rules as designed, or one of them broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Design,
    /// A write is answered with the clock of the whole record.
    WholeClock,
    /// A node has one actor for ever.
    NoEpochs,
    /// A node whose forgotten record comes back goes on with the actor it had.
    EpochKeptAfterForgetting,
    /// A node that lost its disk comes back as the same.
    IncarnationKeptAfterWipe,
    /// A node whose store went back in time comes back as the same.
    IncarnationKeptAfterRollback,
}

/// Sets of writes, one bit each: those that survive and those ever known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Exact {
    live: u64,
    known: u64,
}

#[derive(Debug, Clone, Default)]
struct Record {
    state: State,
    exact: Exact,
    minted: Option<Actor>,
}

#[derive(Debug, Default)]
struct Replica {
    incarnation: u64,
    epochs: u64,
    records: [Record; KEYS],
    snapshots: Vec<[Record; KEYS]>,
}

/// What a client has seen: the product's clock, and exactly.
#[derive(Debug, Clone, Default)]
struct Token {
    clock: Clock,
    exact: u64,
}

/// The sets of writes differ, or a write was refused that should not be, or the other way round.
#[derive(Debug)]
struct Difference;

#[derive(Debug)]
struct World {
    variant: Variant,
    replicas: [Replica; REPLICAS],
    writes: u32,
    tombstones: u64,
}

impl Exact {
    fn sync(self, other: Self) -> Self {
        Self {
            live: (self.live & (other.live | !other.known)) | (other.live & !self.known),
            known: self.known | other.known,
        }
    }
}

impl Record {
    fn sync(&self, other: &Self) -> Self {
        Self {
            state: sync(&self.state, &other.state),
            exact: self.exact.sync(other.exact),
            minted: self.minted,
        }
    }

    fn token(&self) -> Token {
        Token {
            clock: Clock::of(&self.state),
            exact: self.exact.known,
        }
    }

    fn is_exact(&self) -> bool {
        let State {
            context, siblings, ..
        } = &self.state;
        let writes = siblings.iter().map(|s| 1_u64 << s.request.id);
        writes.fold(0, |all, bit| all | bit) == self.exact.live
            && siblings.is_sorted_by(|a, b| a.dot < b.dot)
            && siblings.iter().all(|s| context.covers(s.dot))
    }
}

impl World {
    fn new(variant: Variant) -> Self {
        let replica = |name: u64| Replica {
            incarnation: 1000 * name,
            ..Replica::default()
        };
        Self {
            variant,
            replicas: [1, 2, 3].map(replica),
            writes: 0,
            tombstones: 0,
        }
    }

    fn record(&mut self, r: usize, key: usize) -> &mut Record {
        &mut self.replicas[r].records[key]
    }

    /// What a read of these replicas merges.
    fn get(&self, from: &[usize], key: usize) -> Record {
        let states = from.iter().map(|r| &self.replicas[*r].records[key]);
        states.fold(Record::default(), |merged, record| merged.sync(record))
    }

    fn put(&mut self, r: usize, key: usize, seen: &Token) -> Result<Token, Difference> {
        let answer = self.write(r, key, WriteKind::Put, seen, None)?;
        answer.ok_or(Difference)
    }

    /// A client's write at one replica; `None` if it is rightly refused.
    fn write(
        &mut self,
        r: usize,
        key: usize,
        kind: WriteKind,
        seen: &Token,
        merged: Option<&Record>,
    ) -> Result<Option<Token>, Difference> {
        let (id, bit) = (self.writes, 1_u64 << self.writes);
        let mint = Mint {
            kind,
            seen: seen.clock.clone(),
            body: match kind {
                WriteKind::Delete => Body::Tombstone,
                WriteKind::Create | WriteKind::Put => Body::Value(Bytes::from(id.to_string())),
            },
            request: RequestId {
                id: id.into(),
                fingerprint: 0,
            },
            remember: (id % 3 == 0).then_some(Reason::Keyed),
            merged: merged.map(|m| Box::new(m.state.clone())),
        };
        let tombstones = self.tombstones;
        let no_epochs = self.variant == Variant::NoEpochs;
        let node = &mut self.replicas[r];
        let actor = |epoch| Actor {
            incarnation: Incarnation(node.incarnation),
            epoch,
        };
        let record = &mut node.records[key];
        let minted = if no_epochs {
            Some(actor(0))
        } else {
            record.minted
        };
        let decided = decide(&record.state, minted, &mint, usize::MAX, || {
            node.epochs += u64::from(!no_epochs);
            actor(node.epochs)
        });

        let exact = merged.map_or(record.exact, |m| record.exact.sync(m.exact));
        let is_live = exact.live & !tombstones != 0;
        let refuse = match kind {
            WriteKind::Create => is_live,
            WriteKind::Put => false,
            WriteKind::Delete => !is_live && seen.exact & !exact.known == 0,
        };
        let decided = match (decided, refuse) {
            (Ok(decided), false) => decided,
            (Err(Refused::AlreadyExists(_) | Refused::NothingToDelete(_)), true) => {
                return Ok(None);
            }
            (Ok(_), true) | (Err(_), _) => return Err(Difference),
        };
        *record = Record {
            state: decided.state,
            exact: Exact {
                live: (exact.live & !tombstones & !seen.exact) | bit,
                known: exact.known | seen.exact | bit,
            },
            minted: decided.minted,
        };
        let whole = self.variant == Variant::WholeClock;
        let clock = if whole {
            Clock::from(record.state.context.clone())
        } else {
            decided.answer
        };
        self.writes += 1;
        self.tombstones |= if kind == WriteKind::Delete { bit } else { 0 };
        self.check()?;
        Ok(Some(Token {
            clock,
            exact: seen.exact | bit,
        }))
    }

    /// Write, repair, hint, handoff and anti-entropy are all this.
    fn replicate(&mut self, from: usize, to: usize, key: usize) -> Result<(), Difference> {
        let incoming = self.replicas[from].records[key].clone();
        let me = Incarnation(self.replicas[to].incarnation);
        let variant = self.variant;
        let record = self.record(to, key);
        if variant == Variant::EpochKeptAfterForgetting && record.state.is_empty() {
            let actors = incoming.state.context.actors();
            record.minted = actors.filter(|a| a.incarnation == me).max();
        }
        *record = record.sync(&incoming);
        self.check()
    }

    /// A partition moved away, or a tombstone reaped.
    fn forget(&mut self, r: usize, key: usize) {
        *self.record(r, key) = Record::default();
    }

    fn wipe(&mut self, r: usize) {
        let kept = self.variant == Variant::IncarnationKeptAfterWipe;
        let node = &mut self.replicas[r];
        node.records = Default::default();
        node.epochs = 0;
        node.incarnation += u64::from(!kept);
    }

    fn snapshot(&mut self, r: usize) {
        let node = &mut self.replicas[r];
        node.snapshots.push(node.records.clone());
    }

    fn roll_back(&mut self, r: usize, choice: usize) {
        let kept = self.variant == Variant::IncarnationKeptAfterRollback;
        let node = &mut self.replicas[r];
        if node.snapshots.is_empty() {
            return;
        }
        node.records = node.snapshots[choice % node.snapshots.len()].clone();
        if !kept {
            node.incarnation += 1;
            node.records.iter_mut().for_each(|r| r.minted = None);
        }
    }

    fn check(&self) -> Result<(), Difference> {
        let mut records = self.replicas.iter().flat_map(|r| &r.records);
        if records.all(Record::is_exact) {
            Ok(())
        } else {
            Err(Difference)
        }
    }
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        usize::try_from(fmix64(self.0) % n as u64).unwrap()
    }
}

/// A random run. The error is its trace, up to the difference.
fn run(seed: u64, variant: Variant) -> Result<World, Vec<String>> {
    let (mut dice, mut world) = (Dice(seed << 32), World::new(variant));
    let mut tokens: [Vec<Token>; KEYS] = std::array::from_fn(|_| vec![Token::default()]);
    let mut trace = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        let (roll, key, r) = (dice.below(1000), dice.below(KEYS), dice.below(REPLICAS));
        let other = (r + 1 + dice.below(REPLICAS - 1)) % REPLICAS;
        let read_from = &[r, other][..=dice.below(2)];
        trace.push(format!("roll {roll} key {key} replica {r} other {other}"));
        let step = match roll {
            0..400 => {
                let latest = tokens[key].len() - 1;
                let any = dice.below(tokens[key].len());
                let token = tokens[key][if dice.below(2) == 0 { latest } else { any }].clone();
                let delete = dice.below(5) == 0;
                let kind = if delete {
                    WriteKind::Delete
                } else {
                    WriteKind::Put
                };
                world
                    .write(r, key, kind, &token, None)
                    .map(|t| tokens[key].extend(t))
            }
            400..460 => {
                let merged = world.get(read_from, key);
                let delete = dice.below(3) == 0;
                let kind = if delete {
                    WriteKind::Delete
                } else {
                    WriteKind::Create
                };
                let written = world.write(r, key, kind, &merged.token(), Some(&merged));
                written.map(|t| tokens[key].extend(t))
            }
            460..600 => {
                tokens[key].push(world.get(read_from, key).token());
                Ok(())
            }
            600..880 => world.replicate(r, other, key),
            rest => {
                match rest {
                    880..930 => world.forget(r, key),
                    930..950 => world.wipe(r),
                    950..975 => world.roll_back(r, dice.below(STEPS)),
                    _ => world.snapshot(r),
                }
                world.check()
            }
        };
        if let Err(Difference) = step {
            return Err(trace);
        }
    }
    Ok(world)
}

#[test]
fn causality_equals_exact_sets_of_writes() {
    for seed in 0..4000 {
        if let Err(trace) = run(seed, Variant::Design) {
            panic!("seed {seed}: {}", trace.join("\n"));
        }
    }
}

#[test]
fn sync_is_commutative_associative_and_idempotent_over_reachable_states() {
    for seed in 0..1000 {
        let world = run(seed, Variant::Design).unwrap();
        for key in 0..KEYS {
            let [a, b, c] = [0, 1, 2].map(|r| &world.replicas[r].records[key].state);
            let ab = sync(a, b);
            assert_eq!(ab, sync(b, a), "seed {seed}");
            assert_eq!(sync(&ab, c), sync(a, &sync(b, c)), "seed {seed}");
            assert_eq!((&sync(a, a), &sync(&ab, b)), (a, &ab), "seed {seed}");
        }
    }
}

#[test]
fn every_rule_taken_away_loses_a_write() {
    let broken = [
        Variant::WholeClock,
        Variant::NoEpochs,
        Variant::EpochKeptAfterForgetting,
        Variant::IncarnationKeptAfterWipe,
        Variant::IncarnationKeptAfterRollback,
    ];
    for variant in broken {
        let losses = (0..4000)
            .filter(|seed| run(*seed, variant).is_err())
            .count();
        assert!(losses > 0, "{variant:?} lost nothing");
    }
}

/// Clients read from two replicas of three, think, and write to two.
#[test]
fn siblings_never_exceed_concurrent_writers_and_one() {
    const WRITERS: usize = 4;
    for seed in 0..1000 {
        let (mut dice, mut world) = (Dice(seed), World::new(Variant::Design));
        let mut reading: [Option<Token>; WRITERS] = Default::default();
        for _ in 0..2 * STEPS {
            let (client, r) = (dice.below(WRITERS), dice.below(REPLICAS));
            let other = (r + 1 + dice.below(REPLICAS - 1)) % REPLICAS;
            reading[client] = match reading[client].take() {
                None => Some(world.get(&[r, other], 0).token()),
                Some(_) if world.writes == 60 => None,
                Some(seen) => {
                    world.put(r, 0, &seen).unwrap();
                    world.replicate(r, other, 0).unwrap();
                    None
                }
            };
            let siblings = world.get(&[0, 1, 2], 0).state.siblings.len();
            assert!(siblings <= WRITERS + 1, "seed {seed}: {siblings}");
        }
        world.put(0, 0, &world.get(&[0, 1, 2], 0).token()).unwrap();
        assert_eq!(world.get(&[0, 1, 2], 0).state.siblings.len(), 1);
    }
}

/// A way to lose a write, step by step, and the broken rule that would let it happen.
type Loss = (
    &'static str,
    Variant,
    fn(&mut World) -> Result<(), Difference>,
);

#[test]
fn the_four_known_ways_to_lose_a_write_lose_none() {
    let losses: [Loss; 4] = [
        ("writing after forgetting", Variant::NoEpochs, |w| {
            w.put(0, 0, &Token::default())?;
            w.replicate(0, 1, 0)?;
            w.forget(0, 0);
            w.put(0, 0, &Token::default())?;
            w.replicate(0, 1, 0)
        }),
        (
            "an old state that comes back before the next write",
            Variant::EpochKeptAfterForgetting,
            |w| {
                let first = w.put(0, 0, &Token::default())?;
                w.replicate(0, 1, 0)?;
                w.put(0, 0, &first)?;
                w.replicate(0, 2, 0)?;
                w.forget(0, 0);
                w.replicate(1, 0, 0)?;
                w.put(0, 0, &first)?;
                w.replicate(0, 2, 0)
            },
        ),
        (
            "the same through a copy on a node that never coordinated",
            Variant::EpochKeptAfterForgetting,
            |w| {
                let first = w.put(0, 0, &Token::default())?;
                w.put(1, 0, &first)?;
                let second = w.put(0, 0, &first)?;
                let third = w.put(0, 0, &second)?;
                w.forget(0, 0);
                w.replicate(1, 2, 0)?;
                w.replicate(2, 0, 0)?;
                w.put(0, 0, &first)?;
                // Whoever knows the forgotten writes does not know this one.
                w.put(0, 0, &third).map(drop)
            },
        ),
        (
            "a half-reaped tombstone that swallows a re-creation",
            Variant::NoEpochs,
            |w| {
                let first = w.put(0, 0, &Token::default())?;
                w.write(0, 0, WriteKind::Delete, &first, None)?;
                w.replicate(0, 1, 0)?;
                w.replicate(0, 2, 0)?;
                w.forget(0, 0);
                w.forget(1, 0);
                let seen = w.get(&[0, 1], 0);
                let created = w.write(0, 0, WriteKind::Create, &seen.token(), Some(&seen))?;
                created.ok_or(Difference)?;
                w.replicate(2, 0, 0)?;
                if w.get(&[0, 2], 0).state.is_live() {
                    Ok(())
                } else {
                    Err(Difference)
                }
            },
        ),
    ];
    for (loss, broken, steps) in losses {
        assert!(steps(&mut World::new(Variant::Design)).is_ok(), "{loss}");
        assert!(
            steps(&mut World::new(broken)).is_err(),
            "{loss} under {broken:?}"
        );
    }
}
