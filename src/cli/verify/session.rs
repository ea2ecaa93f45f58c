//! One client: it does one thing after the other, remembers the last clock it saw of each key, and
//! never repeats a request. Whatever it tries next is a new operation with a new value.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::bench::Random;
use super::super::connection::segment;
use super::answer::Answer;
use super::asker::{Asker, Question};
use super::cluster::Doors;
use super::history::{Action, Outcome, Phase};
use super::recorder::Recorder;
use super::workload::{Keys, Turn, Workload};

/// Longer than any operation may take: 4 s and a half, and some for a busy machine.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(6);

/// A client pauses between two operations for so many milliseconds, from and below.
const PAUSE_MS: (usize, usize) = (5, 60);

/// So long after it could not connect.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Keys of W5 over the whole run; more would only make the final reads longer.
const BULK_KEYS: u64 = 2000;

/// What kind of client it is.
pub(super) struct Plan {
    pub(super) number: u32,
    pub(super) workload: Workload,
    /// Whether it asks owners only.
    pub(super) strict: bool,
    /// Whether it goes from node to node; otherwise it stays, whatever happens.
    pub(super) moves: bool,
    pub(super) doors: Doors,
    pub(super) begin: Instant,
    pub(super) end: Instant,
    /// Whether the last fault is over: nobody stops before.
    pub(super) over: Rc<Cell<bool>>,
    pub(super) seed: u64,
}

/// What a client saw of a key: an answer with its clock, and what that clock covers.
#[derive(Clone)]
struct Seen {
    op: u64,
    token: String,
    values: Vec<Value>,
}

/// One client.
pub(super) struct Session {
    plan: Plan,
    asker: Asker,
    random: Random,
    recorder: Rc<RefCell<Recorder>>,
    keys: Rc<RefCell<Keys>>,
    seen: HashMap<String, Seen>,
    writes: u64,
}

impl Session {
    /// A client that begins at a node of its own.
    pub(super) fn new(
        plan: Plan,
        recorder: Rc<RefCell<Recorder>>,
        keys: Rc<RefCell<Keys>>,
    ) -> Self {
        let first = usize::try_from(plan.number).unwrap_or(0);
        let endpoint = {
            let doors = plan.doors.borrow();
            let place = first % doors.len().max(1);
            doors.get(place).cloned().unwrap_or_default()
        };
        let stream = (u64::from(plan.number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            asker: Asker::new(endpoint),
            random: Random::new(plan.seed ^ stream),
            recorder,
            keys,
            seen: HashMap::new(),
            writes: 0,
            plan,
        }
    }

    /// Works until the end.
    pub(super) async fn run(mut self) {
        while Instant::now() < self.plan.end || !self.plan.over.get() {
            let (least, most) = PAUSE_MS;
            let ms = least + self.random.below(most - least);
            sleep(Duration::from_millis(u64::try_from(ms).unwrap_or(0))).await;
            // Nobody stays with a node that is no member any more.
            let is_gone = !self.plan.doors.borrow().contains(&self.asker.endpoint);
            if is_gone || self.plan.moves && self.random.below(4) == 0 {
                self.move_on();
            }
            self.turn().await;
        }
    }

    fn move_on(&mut self) {
        let doors = self.plan.doors.borrow();
        let next = self.random.below(doors.len());
        if let Some(endpoint) = doors.get(next) {
            self.asker.turn_to(endpoint);
        }
    }

    async fn turn(&mut self) {
        let (turn, key) = self.choose();
        let known = self.seen.get(&key).cloned();
        match turn {
            Turn::Read => drop(self.perform(Action::Get, &key, None).await),
            Turn::Merge => {
                if let Some(seen) = self.perform(Action::Get, &key, None).await {
                    self.perform(Action::Put, &key, Some(seen)).await;
                }
            }
            Turn::Write => drop(self.perform(Action::Put, &key, known).await),
            Turn::Create => drop(self.perform(Action::Post, &key, None).await),
            Turn::DeleteSeen => drop(self.perform(Action::Delete, &key, known).await),
            Turn::Delete => drop(self.perform(Action::Delete, &key, None).await),
        }
    }

    fn choose(&mut self) -> (Turn, String) {
        let (workload, bulk) = (self.plan.workload, self.bulk_by_now());
        let random = &mut self.random;
        let mut keys = self.keys.borrow_mut();
        if workload != Workload::W5 {
            let key = keys.pick(random);
            let turn = workload.turn(random, self.seen.contains_key(&key));
            return (turn, key);
        }
        // They are spread over the whole run, so that every fault meets some.
        if workload.turn(random, false) == Turn::Create && keys.made() <= bulk {
            (Turn::Create, keys.fresh())
        } else {
            (Turn::Read, keys.any(random))
        }
    }

    fn bulk_by_now(&self) -> usize {
        let whole = (self.plan.end - self.plan.begin).as_millis().max(1);
        let share = u128::from(BULK_KEYS) * self.plan.begin.elapsed().as_millis() / whole;
        usize::try_from(share).unwrap_or(0).max(3)
    }

    /// Does one operation and records it; gives what it showed, if it was answered.
    async fn perform(&mut self, op: Action, key: &str, with: Option<Seen>) -> Option<Seen> {
        let value = match op {
            Action::Post | Action::Put => Some(self.new_value(with.as_ref())),
            Action::Get | Action::Delete => None,
        };
        let mut operation = self.recorder.borrow_mut().begin(op, key, self.plan.number);
        operation.strict = self.plan.strict;
        operation.endpoint.clone_from(&self.asker.endpoint);
        operation.value = value.as_ref().map(|(name, _)| name.clone());
        operation.clock = with.as_ref().map(|seen| seen.op);
        let id = operation.id;
        let answer = self.ask(op, key, id, value.as_ref(), with.as_ref()).await;
        let result = answer.result;
        self.recorder.borrow_mut().complete(operation, &answer);
        let written = value
            .filter(|_| result == Outcome::Ok)
            .map(|(_, value)| value);
        let values = match answer.values {
            Some(shown) => shown
                .iter()
                .filter_map(|v| serde_json::from_str(v.get()).ok())
                .collect(),
            None => written.into_iter().collect(),
        };
        if result != Outcome::Ok && answer.token.is_none() {
            self.after_failure().await;
        }
        let token = answer.token?;
        let seen = Seen {
            op: id,
            token,
            values,
        };
        self.seen.insert(key.to_owned(), seen.clone());
        Some(seen)
    }

    async fn after_failure(&mut self) {
        if self.plan.moves {
            self.move_on();
        }
        sleep(AFTER_FAILURE).await;
    }

    /// A value that nobody else writes, and its name.
    fn new_value(&mut self, with: Option<&Seen>) -> (String, Value) {
        self.writes += 1;
        let name = format!("s{}.{}", self.plan.number, self.writes);
        let seen = with.map_or(&[][..], |seen| &seen.values);
        let value = self.plan.workload.value(&name, self.plan.number, seen);
        self.recorder.borrow_mut().writes(&name, &value.to_string());
        (name, value)
    }

    async fn ask(
        &mut self,
        op: Action,
        key: &str,
        id: u64,
        value: Option<&(String, Value)>,
        with: Option<&Seen>,
    ) -> Answer {
        let clock = with.map(|seen| seen.token.as_str());
        let body = body(value.map(|(_, value)| value), clock);
        let mode = if self.plan.strict { "?mode=strict" } else { "" };
        let question = Question {
            method: op.method(),
            path: &format!("/v1/{}{mode}", segment(key)),
            fields: &format!("x-correlation-id: verify-{id}\r\n"),
            body: body.as_deref(),
        };
        Answer::of(op, self.asker.ask(question, ANSWER_TIME).await)
    }
}

/// The body of a request, if it has one. Values are written as the recorder hashed them.
fn body(value: Option<&Value>, clock: Option<&str>) -> Option<Vec<u8>> {
    let value = value.map(|value| format!("\"value\":{value}"));
    let clock = clock.map(|clock| format!("\"clock\":\"{clock}\""));
    let fields: Vec<String> = value.into_iter().chain(clock).collect();
    (!fields.is_empty()).then(|| format!("{{{}}}", fields.join(",")).into_bytes())
}

/// Reads a key for the final comparison; tries again, each time as a new operation.
pub(super) async fn read_finally(
    asker: &mut Asker,
    recorder: &RefCell<Recorder>,
    key: &str,
    (phase, session): (Phase, u32),
) {
    const ATTEMPTS: usize = 5;
    let path = format!("/v1/{}", segment(key));
    for _ in 0..ATTEMPTS {
        let mut operation = recorder.borrow_mut().begin(Action::Get, key, session);
        operation.phase = phase;
        operation.endpoint.clone_from(&asker.endpoint);
        let question = Question {
            method: "GET",
            path: &path,
            fields: "",
            body: None,
        };
        let answer = Answer::of(Action::Get, asker.ask(question, ANSWER_TIME).await);
        recorder.borrow_mut().complete(operation, &answer);
        if answer.result == Outcome::Ok {
            return;
        }
        sleep(AFTER_FAILURE).await;
    }
}
