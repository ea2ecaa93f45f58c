//! Writes of which there are two attempts, while nodes hear of each other through the clocks of
//! clients only, or hardly more.

use super::*;
use crate::dynamo::key::fmix64;

const NODES: usize = 3;
const STEPS: usize = 14;

/// A silent first minter, a second one, and the next write decided by the first, which is cut off
/// from the second.
#[test]
fn p4_the_next_write_replaces_a_first_attempt_that_its_client_never_heard_of() {
    let (mut first, mut second) = (node(1), node(2));
    let request = put("value", &NOTHING());
    first.write(&request).unwrap();
    let acked = second.write(&doubtful(request)).unwrap();
    let next = first.put("next", &acked.answer);
    assert_eq!(first.values(), ["next"]);
    first.receive(&second);
    second.receive(&first);
    assert_eq!(
        (first.values(), second.values()),
        (vec!["next"], vec!["next"])
    );
    first.put("last", &next);
    assert_eq!(first.values(), ["last"]);
}

/// The same where another node decides a write in between.
#[test]
fn p4_a_clock_hands_on_what_it_knows_of_requests() {
    let (mut first, mut second, mut third) = (node(1), node(2), node(3));
    let request = put("value", &NOTHING());
    first.write(&request).unwrap();
    let acked = second.write(&doubtful(request)).unwrap();
    let between = third.put("between", &acked.answer);
    let mut told = first.clone();
    told.receive(&third);
    assert_eq!(told.values(), ["between"], "by the state of the third");
    first.put("next", &between);
    assert_eq!(first.values(), ["next"], "by the clock alone");
}

/// A reader was shown the attempt that nobody had heard of, and then replaces the value.
#[test]
fn p4_the_reader_of_one_attempt_replaces_the_other() {
    let (mut first, mut second) = (node(1), node(2));
    let request = put("value", &NOTHING());
    first.write(&request).unwrap();
    first.state.remember_afar(request.request.id, |_| true);
    second.write(&doubtful(request)).unwrap();
    for reader in [Clock::of(&first.state), Clock::of(&second.state)] {
        for decides in [&first, &second] {
            let mut decides = decides.clone();
            decides.put("next", &reader);
            assert_eq!(decides.values(), ["next"]);
        }
    }
}

#[test]
fn a_clock_names_few_requests_and_the_doubtful_ones_first() {
    let mut a = node(1);
    let mut seen = NOTHING();
    for i in 0..9 {
        let more = put(&i.to_string(), &seen);
        seen = a.write(&doubtful(more)).unwrap().answer;
        seen = a
            .write(&keyed(put(&format!("k{i}"), &seen)))
            .unwrap()
            .answer;
    }
    let named = |reason| seen.remembered.iter().filter(move |r| r.reason == reason);
    assert_eq!(named(Reason::Doubtful).count(), 4);
    assert_eq!(named(Reason::Keyed).count(), 1);
    let mut everybody = node(0);
    for name in 1..9 {
        let mut other = node(name);
        let mut seen = NOTHING();
        for i in 0..5 {
            let more = doubtful(put(&format!("{name}.{i}"), &seen));
            seen = other.write(&more).unwrap().answer;
        }
        other.write(&keyed(put("keyed", &seen))).unwrap();
        everybody.receive(&other);
    }
    let whole = Clock::of(&everybody.state);
    assert_eq!(whole.remembered.len(), 16);
    let mut reasons = whole.remembered.iter().map(|r| r.reason);
    assert!(reasons.all(|reason| reason == Reason::Doubtful));
}

/// Requests, one bit each: those that live and those ever known.
#[derive(Debug, Clone, Copy, Default)]
struct Exact {
    live: u64,
    known: u64,
}

impl Exact {
    fn sync(self, other: Self) -> Self {
        Self {
            live: (self.live & (other.live | !other.known)) | (other.live & !self.known),
            known: self.known | other.known,
        }
    }
}

/// A clock, and what its holder has seen exactly.
type Held = (Clock, u64);

struct World {
    nodes: Vec<Node>,
    exact: [Exact; NODES],
    unheard: [u64; NODES],
    requests: u32,
    trace: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self {
            nodes: (1..=NODES as u64).map(node).collect(),
            exact: [Exact::default(); NODES],
            unheard: [0; NODES],
            requests: 0,
            trace: Vec::new(),
        }
    }

    /// One attempt at one node; every minter is another node than the coordinator.
    fn attempt(&mut self, at: usize, mint: &Mint, held: &Held, is_heard: bool) -> Held {
        let bit = 1 << self.requests;
        let doubtful = mint.remember == Some(Reason::Doubtful);
        // What is dead already, and the write takes along.
        let state = &self.nodes[at].state;
        let belated = state.siblings.iter().filter(|s| state.is_belated(s));
        let seen = belated.fold(held.1, |all, s| all | 1 << s.request.id);
        let decided = self.nodes[at].write_beside(mint, usize::MAX).unwrap();
        let unheard = &mut self.unheard[at];
        *unheard |= if is_heard { 0 } else { bit };
        let state = &mut self.nodes[at].state;
        state.doubt(|id| id != mint.request.id && *unheard & 1_u64 << id != 0);
        if !doubtful {
            state.remember_afar(mint.request.id, |_| false);
        }
        let exact = &mut self.exact[at];
        exact.live = exact.live & !seen | bit;
        exact.known |= seen | bit;
        (decided.answer, seen | bit)
    }

    fn write(&mut self, at: usize, lost_at: Option<usize>, held: &Held) -> Held {
        let id = self.requests;
        let mut mint = put(&id.to_string(), &held.0);
        mint.request.id = id.into();
        if let Some(lost_at) = lost_at {
            self.attempt(lost_at, &mint, held, false);
            mint.remember = Some(Reason::Doubtful);
        }
        let answer = self.attempt(at, &mint, held, true);
        self.requests += 1;
        answer
    }

    fn merged(&self, nodes: &[usize]) -> (State, Exact) {
        let parts = nodes
            .iter()
            .map(|i| (&self.nodes[*i].state, self.exact[*i]));
        parts.fold(Default::default(), |(state, exact), (s, e)| {
            (sync(&state, s), exact.sync(e))
        })
    }

    fn difference(&self) -> Option<String> {
        for a in 0..NODES {
            for b in 0..=a {
                let (state, exact) = self.merged(&[a, b]);
                let shown = state
                    .live()
                    .iter()
                    .fold(0_u64, |all, (s, _)| all | 1 << s.request.id);
                if shown != exact.live {
                    return Some(format!(
                        "{} after {}: nodes {a} and {b} show {shown:b} instead of {:b}",
                        self.trace.len(),
                        self.trace.join("; "),
                        exact.live
                    ));
                }
            }
        }
        None
    }
}

/// A random run; what it shows that it should not, or the other way round.
fn run(seed: u64, with_names: bool) -> Option<String> {
    let mut state = seed << 32;
    let mut below = |n: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        usize::try_from(fmix64(state) % n as u64).unwrap()
    };
    let mut world = World::new();
    let mut held: Vec<Held> = vec![Default::default(); 2];
    for _ in 0..STEPS {
        let (roll, at, client) = (below(10), below(NODES), below(2));
        let other = (at + 1 + below(NODES - 1)) % NODES;
        match roll {
            0..5 => {
                let lost_at = (below(2) == 0).then_some(other);
                world.trace.push(format!(
                    "client {client} writes {} at {at}, lost {lost_at:?}",
                    world.requests
                ));
                held[client] = world.write(at, lost_at, &held[client].clone());
            }
            5..8 => {
                world
                    .trace
                    .push(format!("client {client} reads {at} {other}"));
                let (state, exact) = world.merged(&[at, other]);
                held[client] = (Clock::of(&state), exact.known);
            }
            _ => {
                world.trace.push(format!("{at} hears of {other}"));
                let from = world.nodes[other].clone();
                world.nodes[at].receive(&from);
                world.exact[at] = world.exact[at].sync(world.exact[other]);
            }
        }
        if !with_names {
            for (clock, _) in &mut held {
                clock.remembered.clear();
            }
        }
        if let Some(difference) = world.difference() {
            return Some(difference);
        }
    }
    None
}

#[test]
fn two_attempts_are_one_write_to_whoever_hears_of_either() {
    const RUNS: u64 = 20_000;
    let found: Vec<String> = (0..RUNS).filter_map(|seed| run(seed, true)).collect();
    // Not named to a reader is what was superseded before, at an owner that could not know of doubt;
    // naming that too would make every clock of a cluster several times as long.
    assert!(found.len() <= 2, "{} of {RUNS}: {found:#?}", found.len());
    let by_dots_alone = (0..RUNS).filter_map(|seed| run(seed, false)).count();
    assert!(by_dots_alone > 10_000, "{by_dots_alone}");
}
