//! How fast background work may go: a rate, which rises while it is used and the node's clients are
//! served as fast as usual, and falls when they are not; and an operator's limit for each kind of
//! work. There are two rates: what mends single records after a fault begins at once, for until it is
//! done readers may be shown what it mends; what goes through whole partitions begins slowly.
//!
//! A unit of work is let through when what was let through before it is paid for at the rate. No
//! kind is ever held up for longer than [`LONGEST_PAUSE`], whatever the rates: work that never
//! happens is repair that never comes.

mod tail;
mod trend;

use std::collections::VecDeque;
use std::mem::take;
use std::num::NonZeroU64;
use std::time::Duration;

pub use tail::Tail;
pub use trend::Trend;

/// The lowest rate, in bytes per second.
pub const SLOWEST: u64 = 256 << 10;
/// The highest rate, in bytes per second.
pub const FASTEST: u64 = 64 << 20;
/// The rate that work begins with, in bytes per second: what it does to the clients shows only
/// once it is done, so a rate that nobody used proves nothing.
pub const FIRST: u64 = 512 << 10;
/// The same for hints and repair.
pub const FIRST_TO_MEND: u64 = 8 << 20;
/// The rate rises by so much at every look at the clients, in bytes per second.
pub const RISE: u64 = 128 << 10;
/// Pause between two looks at how the clients fare.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How far work may run ahead of its rate, so that small units do not wait for the next tick.
pub const AHEAD: Duration = Duration::from_millis(200);
/// Longest time without any unit of a kind for which one waits.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What the smallest unit costs: there is more to it than its bytes.
const LEAST_COST: u64 = 256;

/// What is done in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Giving hints to the owners they were kept for.
    Hints,
    /// Repair of single records: stale ones that a read found, and damaged ones.
    Repair,
    /// Comparing partitions with other owners, and what follows from it.
    AntiEntropy,
    /// Removing tombstones that nobody needs any more.
    Reaping,
    /// Moving partitions to new owners.
    Transfers,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 5] = [
        Self::Hints,
        Self::Repair,
        Self::AntiEntropy,
        Self::Reaping,
        Self::Transfers,
    ];

    /// Whether it mends single records after a fault.
    const fn mends(self) -> bool {
        match self {
            Self::Hints | Self::Repair => true,
            Self::AntiEntropy | Self::Reaping | Self::Transfers => false,
        }
    }

    /// The name that operators see and give.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hints => "hints",
            Self::Repair => "repair",
            Self::AntiEntropy => "anti_entropy",
            Self::Reaping => "reaping",
            Self::Transfers => "transfers",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How long all but the slowest clients waited lately; `None` where none was answered since the last
/// look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Foreground {
    /// For reads.
    pub reads: Option<Duration>,
    /// For writes.
    pub writes: Option<Duration>,
}

/// One kind's part, as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindStatus {
    /// The rate it may have now, in bytes per second.
    pub rate: u64,
    /// What the operator allows at most, in bytes per second.
    pub limit: Option<NonZeroU64>,
    /// Units that wait for their turn.
    pub waiting: usize,
    /// Bytes let through since the start.
    pub done: u64,
}

/// Decides whose turn it is; `T` stands for whoever waits. Times are since any fixed moment.
#[derive(Debug)]
pub struct Pacing<T> {
    mending: Purse,
    sweeping: Purse,
    lanes: [Lane<T>; Kind::ALL.len()],
    reads: Trend,
    writes: Trend,
}

/// What the kinds that share a rate pay from.
#[derive(Debug)]
struct Purse {
    kinds: Vec<Kind>,
    /// Whose turn is next.
    next: usize,
    first: u64,
    rate: u64,
    /// Whether work has waited for the rate since the last look at the clients.
    waited: bool,
    /// Bytes let through since then.
    used: u64,
    /// When everything let through is paid for.
    paid: Duration,
}

impl Purse {
    fn new(mends: bool) -> Self {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.mends() == mends);
        let first = if mends { FIRST_TO_MEND } else { FIRST };
        Self {
            kinds: kinds.collect(),
            next: 0,
            first,
            rate: first,
            waited: false,
            used: 0,
            paid: Duration::ZERO,
        }
    }

    /// Whoever may go on of the kind whose turn it is.
    fn grant_one<T>(
        &mut self,
        now: Duration,
        lanes: &mut [Lane<T>],
        is_gone: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let kind = *self.kinds.get(self.next)?;
        self.next = (self.next + 1) % self.kinds.len();
        let lane = lanes.get_mut(kind as usize)?;
        while lane.waiting.pop_front_if(|(who, _)| is_gone(who)).is_some() {}
        let affordable = self.paid <= now + AHEAD;
        self.waited |= !affordable && !lane.waiting.is_empty();
        let paid = affordable && lane.paid <= now + AHEAD;
        let starved = now >= lane.served + LONGEST_PAUSE;
        if !paid && !starved {
            return None;
        }
        let (who, bytes) = lane.waiting.pop_front()?;
        lane.served = now;
        lane.charge(now, bytes);
        self.pay(now, bytes);
        Some(who)
    }

    fn pay(&mut self, now: Duration, bytes: u64) {
        self.paid = self.paid.max(now) + time_for(bytes, self.rate);
        self.used = self.used.saturating_add(bytes);
    }

    fn heed(&mut self, suffering: bool, alone: bool) {
        let (waited, used) = (take(&mut self.waited), take(&mut self.used));
        self.rate = if suffering {
            (self.rate / 2).max(SLOWEST)
        } else if waited {
            (self.rate + if alone { self.rate } else { RISE }).min(FASTEST)
        } else {
            (self.rate + RISE).min(twice_the_rate(used).clamp(self.first, FASTEST))
        };
    }
}

#[derive(Debug)]
struct Lane<T> {
    limit: Option<NonZeroU64>,
    paid: Duration,
    waiting: VecDeque<(T, u64)>,
    /// The last time that a unit was let through, or that one began to wait with none before it.
    served: Duration,
    done: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            limit: None,
            paid: Duration::ZERO,
            waiting: VecDeque::new(),
            served: Duration::ZERO,
            done: 0,
        }
    }
}

impl<T> Lane<T> {
    fn charge(&mut self, now: Duration, bytes: u64) {
        if let Some(limit) = self.limit {
            self.paid = self.paid.max(now) + time_for(bytes, limit.get());
        }
        self.done += bytes;
    }
}

impl<T> Default for Pacing<T> {
    fn default() -> Self {
        Self {
            mending: Purse::new(true),
            sweeping: Purse::new(false),
            lanes: Default::default(),
            reads: Trend::default(),
            writes: Trend::default(),
        }
    }
}

impl<T> Pacing<T> {
    /// A unit of work begins to wait.
    pub fn ask(&mut self, now: Duration, kind: Kind, bytes: u64, who: T) {
        let lane = self.lane_mut(kind);
        if lane.waiting.is_empty() {
            lane.served = lane.served.max(now);
        }
        lane.waiting.push_back((who, bytes.max(LEAST_COST)));
    }

    /// Whoever may go on now. The kinds take turns; those who wait no longer are passed over.
    pub fn grant(&mut self, now: Duration, is_gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut granted = Vec::new();
        for purse in [&mut self.mending, &mut self.sweeping] {
            let mut refusals = 0;
            while refusals < purse.kinds.len() {
                if let Some(who) = purse.grant_one(now, &mut self.lanes, &is_gone) {
                    granted.push(who);
                    refusals = 0;
                } else {
                    refusals += 1;
                }
            }
        }
        granted
    }

    /// Adds what a unit turned out to cost beyond what it asked for: those after it pay for it.
    pub fn charge(&mut self, now: Duration, kind: Kind, bytes: u64) {
        self.lane_mut(kind).charge(now, bytes);
        let purse = if kind.mends() {
            &mut self.mending
        } else {
            &mut self.sweeping
        };
        purse.pay(now, bytes);
    }

    /// Looks at how the clients fare, once every [`LOOK_EVERY`]: a rate is halved when they wait
    /// longer than usual. When they do not, it rises by a step, or to twice as much where no
    /// client is, if work has waited for it; else it is at most twice what was used of it, or
    /// [`FIRST`] or [`FIRST_TO_MEND`].
    pub fn heed(&mut self, clients: Foreground) {
        let reads = clients.reads.is_some_and(|now| self.reads.suffers(now));
        let writes = clients.writes.is_some_and(|now| self.writes.suffers(now));
        let alone = clients == Foreground::default();
        self.mending.heed(reads || writes, alone);
        self.sweeping.heed(reads || writes, alone);
    }

    /// Sets a kind's own limit, or takes it away. What it was let through before is forgotten, so
    /// that a raised limit is felt at once.
    pub fn limit(&mut self, kind: Kind, limit: Option<NonZeroU64>) {
        let lane = self.lane_mut(kind);
        lane.limit = limit;
        lane.paid = Duration::ZERO;
    }

    /// How a kind is.
    #[must_use]
    pub fn status(&self, kind: Kind) -> KindStatus {
        let lane = self.lane(kind);
        let limit = lane.limit.map_or(u64::MAX, NonZeroU64::get);
        KindStatus {
            rate: self.purse(kind).rate.min(limit),
            limit: lane.limit,
            waiting: lane.waiting.len(),
            done: lane.done,
        }
    }

    const fn purse(&self, kind: Kind) -> &Purse {
        if kind.mends() {
            &self.mending
        } else {
            &self.sweeping
        }
    }

    #[expect(clippy::indexing_slicing, reason = "there is a lane for each kind")]
    fn lane(&self, kind: Kind) -> &Lane<T> {
        &self.lanes[kind as usize]
    }

    #[expect(clippy::indexing_slicing, reason = "there is a lane for each kind")]
    fn lane_mut(&mut self, kind: Kind) -> &mut Lane<T> {
        &mut self.lanes[kind as usize]
    }
}

/// Twice the rate at which so many bytes go between two looks.
fn twice_the_rate(bytes: u64) -> u64 {
    let looks = Duration::from_secs(2).as_millis() / LOOK_EVERY.as_millis();
    bytes.saturating_mul(u64::try_from(looks).unwrap_or(1))
}

/// How long so many bytes take at a rate; an hour stands for anything longer.
fn time_for(bytes: u64, rate: u64) -> Duration {
    const HOUR: u64 = 3600 * 1_000_000;
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(HOUR).min(HOUR))
}

#[cfg(test)]
mod tests;
