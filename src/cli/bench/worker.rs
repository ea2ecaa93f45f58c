//! One connection of a benchmark, and the keys that only it writes: the clock of a key's last
//! answer is then always the newest, and no siblings pile up.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::connection::{Broken, Connection, write_request};
use super::Op;
use super::random::Random;
use super::tally::{Kind, Tally};

/// A pause after a connection failed, so that a node that is down is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What a report says of operations for which there was nobody.
pub(super) const CANNOT_CONNECT: &str = "cannot connect";

/// What one connection is to do.
pub(super) struct Plan {
    pub(super) endpoints: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) op: Op,
    /// Which of the connections this is, …
    pub(super) place: usize,
    /// … and of how many: it owns every such key.
    pub(super) of: usize,
    pub(super) keys: usize,
    pub(super) value_bytes: usize,
    /// Time between two operations; `None` for one after the other.
    pub(super) every: Option<Duration>,
}

/// One key.
struct Slot {
    path: String,
    /// Of its last answer; empty when that has to be read first.
    clock: String,
}

/// One connection.
pub(super) struct Worker {
    plan: Plan,
    slots: Vec<Slot>,
    connection: Option<Connection>,
    endpoint: usize,
    random: Random,
    request: Vec<u8>,
    body: Vec<u8>,
    tally: Rc<RefCell<Tally>>,
}

/// What an answer says that matters here.
#[derive(Deserialize)]
struct Seen<'a> {
    #[serde(borrow)]
    clock: Cow<'a, str>,
    #[serde(default)]
    siblings: u64,
}

/// Why an operation does not count.
enum Error {
    Status(u16),
    Broken(Broken),
    NoClock,
}

impl Error {
    fn name(&self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::Broken(Broken::Connect(_)) => CANNOT_CONNECT.to_owned(),
            Self::Broken(Broken::TimedOut) => "no answer in time".to_owned(),
            Self::Broken(Broken::Io(_) | Broken::Closed) => "connection lost".to_owned(),
            Self::Broken(Broken::Malformed(_)) => "not HTTP".to_owned(),
            Self::NoClock => "no clock in the answer".to_owned(),
        }
    }
}

impl Worker {
    pub(super) fn new(plan: Plan, tally: Rc<RefCell<Tally>>) -> Self {
        let slot = |n: usize| Slot {
            path: format!("/v1/bench-{n:08}"),
            clock: String::new(),
        };
        let own = (plan.place..plan.keys).step_by(plan.of.max(1));
        Self {
            slots: own.map(slot).collect(),
            connection: None,
            endpoint: plan.place,
            random: Random::new(plan.place as u64),
            request: Vec::new(),
            body: Vec::new(),
            plan,
            tally,
        }
    }

    /// Writes every key once.
    pub(super) async fn preload(&mut self) {
        for at in 0..self.slots.len() {
            if let Err(error) = self.put(at).await {
                self.failed(None, &error).await;
            }
        }
    }

    /// Operates until the end. What is due before `begin` is not counted.
    pub(super) async fn run(mut self, begin: Instant, end: Instant) {
        let mut due = self.first_due();
        loop {
            if self.plan.every.is_some() {
                sleep_until(due).await;
            }
            let now = Instant::now();
            let from = match self.plan.every {
                Some(_) => due,
                None => now,
            };
            if now >= end {
                return self.give_up(from, end);
            }
            self.operate(from, begin).await;
            due += self.plan.every.unwrap_or_default();
        }
    }

    /// The connections' first operations are spread over one gap.
    fn first_due(&self) -> Instant {
        let place = u32::try_from(self.plan.place).unwrap_or(0);
        let of = u32::try_from(self.plan.of).unwrap_or(u32::MAX).max(1);
        Instant::now() + self.plan.every.unwrap_or_default() * place / of
    }

    /// What was still due when the time was over.
    fn give_up(&self, due: Instant, end: Instant) {
        if let Some(every) = self.plan.every.filter(|_| due < end) {
            let late = (end - due).as_nanos() / every.as_nanos().max(1);
            let count = u64::try_from(late).unwrap_or(u64::MAX).saturating_add(1);
            self.tally.borrow_mut().unsent(count);
        }
    }

    async fn operate(&mut self, from: Instant, begin: Instant) {
        let at = self.random.below(self.slots.len());
        let kind = match self.plan.op {
            Op::Put => Kind::Put,
            Op::Mixed if self.random.next() & 1 == 0 => Kind::Put,
            Op::Get | Op::Mixed => Kind::Get,
        };
        let result = match kind {
            Kind::Put => self.put(at).await,
            Kind::Get => self.get(at).await.map(|()| Duration::ZERO),
        };
        let due = from.checked_duration_since(begin);
        match (result, due) {
            (Ok(aside), Some(due)) => {
                let took = from.elapsed().saturating_sub(aside);
                self.tally.borrow_mut().success(kind, due, took);
            }
            (Ok(_), None) => {}
            (Err(error), due) => self.failed(due, &error).await,
        }
    }

    async fn failed(&mut self, due: Option<Duration>, error: &Error) {
        self.tally.borrow_mut().error(due, error.name());
        if matches!(error, Error::Broken(_)) {
            self.connection = None;
            self.endpoint = self.endpoint.wrapping_add(1);
            sleep(AFTER_FAILURE).await;
        }
    }

    async fn get(&mut self, at: usize) -> Result<(), Error> {
        self.exchange(at, "GET", false)
            .await
            .and_then(|status| match status {
                200 => Ok(()),
                other => Err(Error::Status(other)),
            })
    }

    /// Writes a key, and gives the time that went into reading its clock first, if that was needed:
    /// it is not part of the write.
    async fn put(&mut self, at: usize) -> Result<Duration, Error> {
        let begin = Instant::now();
        let unknown = self.slots.get(at).is_none_or(|slot| slot.clock.is_empty());
        if unknown {
            match self.exchange(at, "GET", false).await? {
                200 | 404 => {}
                other => return Err(Error::Status(other)),
            }
        }
        let aside = if unknown {
            begin.elapsed()
        } else {
            Duration::ZERO
        };
        self.write_body(at);
        match self.exchange(at, "PUT", true).await? {
            200 => Ok(aside),
            other => Err(Error::Status(other)),
        }
    }

    fn write_body(&mut self, at: usize) {
        let clock = self.slots.get(at).map_or("", |slot| slot.clock.as_str());
        self.body.clear();
        self.body.extend_from_slice(b"{\"value\":");
        self.random
            .json_string(self.plan.value_bytes, &mut self.body);
        self.body.extend_from_slice(b",\"clock\":\"");
        self.body.extend_from_slice(clock.as_bytes());
        self.body.extend_from_slice(b"\"}");
    }

    /// One request. Afterwards the slot has the answer's clock, or none if a write may have been
    /// done whose clock we do not have.
    async fn exchange(&mut self, at: usize, method: &str, writes: bool) -> Result<u16, Error> {
        let endpoints = &self.plan.endpoints;
        let host = match endpoints.get(self.endpoint % endpoints.len().max(1)) {
            Some(host) => host.as_str(),
            None => "",
        };
        let Some(slot) = self.slots.get_mut(at) else {
            return Err(Error::NoClock);
        };
        let body = writes.then_some(&self.body[..]);
        write_request(&mut self.request, method, &slot.path, host, "", body);
        let clock = &mut slot.clock;
        if writes {
            clock.clear();
        }
        let (connection, request) = (&mut self.connection, &self.request);
        let exchange = exchange(connection, host, request, clock);
        match timeout(self.plan.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Error::Broken(Broken::TimedOut)),
        }
    }
}

/// Sends on the connection, opened if it is not, and takes the clock out of the answer.
async fn exchange(
    connection: &mut Option<Connection>,
    host: &str,
    request: &[u8],
    clock: &mut String,
) -> Result<u16, Error> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(host).await.map_err(Error::Broken)?,
    };
    let response = open.exchange(request).await.map_err(Error::Broken)?;
    let (status, close) = (response.status, response.close);
    if matches!(status, 200 | 404) {
        let seen: Seen<'_> =
            serde_json::from_slice(response.body).map_err(|_not_an_answer| Error::NoClock)?;
        clock.clear();
        if seen.siblings <= 1 {
            clock.push_str(&seen.clock);
        }
    }
    if !close {
        *connection = Some(open);
    }
    Ok(status)
}
