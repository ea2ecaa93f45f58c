//! Users of a balancer that never pause: what they were told is remembered, and looked for again
//! at the end.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::connection::{Connection, NoAnswer};
use super::http::{Answer, Client};

/// Users, and what has become of their requests so far.
pub struct Load {
    address: String,
    /// Whether they repeat what they may; see [`Load::that_repeats`].
    repeats: bool,
    repeated: AtomicUsize,
    stop: AtomicBool,
    done: AtomicUsize,
    /// What went wrong since the last look.
    wrong: Mutex<Vec<String>>,
    /// Each key's last acknowledged value, and the values whose fate is unknown since then.
    acknowledged: Mutex<Vec<(String, Vec<Value>)>>,
}

impl Load {
    /// Of users that call this address.
    pub fn at(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            repeats: false,
            repeated: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            wrong: Mutex::default(),
            acknowledged: Mutex::default(),
        }
    }

    /// Users who repeat a request whose kept connection was closed before the first byte of the
    /// answer, under the same `Idempotency-Key` if it writes.
    pub fn that_repeats(address: &str) -> Self {
        Self {
            repeats: true,
            ..Self::at(address)
        }
    }

    /// How many requests were so repeated; each counts once among those that were made.
    pub fn repeated(&self) -> usize {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Lets them work while this is done, and gives what it gives.
    pub fn during<T>(&self, users: usize, act: impl FnOnce() -> T) -> T {
        let stopping = Stop(&self.stop);
        std::thread::scope(|scope| {
            for user in 0..users {
                scope.spawn(move || self.use_keys(user));
            }
            let made = act();
            drop(stopping);
            made
        })
    }

    /// How many requests were made since the last call, and what went wrong with which.
    pub fn tally(&self) -> (usize, Vec<String>) {
        let wrong = std::mem::take(&mut *self.wrong.lock().expect("no user failed"));
        (self.done.swap(0, Ordering::Relaxed), wrong)
    }

    /// Requests since the last tally.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn use_keys(&self, user: usize) {
        let mut connection = Connection::to(&self.address);
        for round in 0.. {
            let key = format!("user{user}-{round}");
            if !self.goes_on() {
                return;
            }
            self.use_key(&mut connection, &key);
        }
    }

    /// One key's life: created, then read and written a few times.
    fn use_key(&self, connection: &mut Connection, key: &str) {
        if self
            .ask(connection, "POST", key, &json!({"value": 0}))
            .is_none()
        {
            return;
        }
        let mut may_hold = vec![json!(0)];
        for n in 1..20 {
            let read = self.ask(connection, "GET", key, &Value::Null);
            let Some(read) = read.filter(|_| self.goes_on()) else {
                continue;
            };
            let put = json!({"value": n, "clock": read.clock()});
            if self.ask(connection, "PUT", key, &put).is_some() {
                may_hold.clear();
            }
            may_hold.push(json!(n));
        }
        let mut all = self.acknowledged.lock().expect("no user failed");
        all.push((key.to_owned(), may_hold));
    }

    /// The answer, if it is the one that is due.
    fn ask(
        &self,
        connection: &mut Connection,
        method: &str,
        key: &str,
        body: &Value,
    ) -> Option<Answer> {
        self.done.fetch_add(1, Ordering::Relaxed);
        let head = format!("{method} /v1/{key}");
        let (mut lines, mut text) = (String::new(), String::new());
        if method != "GET" {
            let name = if self.repeats {
                format!("idempotency-key: {key}-{}\r\n", body["value"])
            } else {
                String::new()
            };
            lines = format!("content-type: application/json\r\n{name}");
            text = body.to_string();
        }
        let mut told = connection.call(&head, &lines, &text);
        if self.repeats && matches!(told, Err(NoAnswer::ClosedWhileKept)) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            told = connection.call(&head, &lines, &text);
        }
        let due = if method == "POST" { 201 } else { 200 };
        match told {
            Ok(answer) if answer.status == due => Some(answer),
            told => {
                let mut wrong = self.wrong.lock().expect("no user failed");
                wrong.push(format!("{head}: {told:?}"));
                None
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Reads every key strictly through a node: what was acknowledged is there, or what was written
    /// after it with an unknown fate.
    pub fn check(&self, node: &str) {
        let client = Client::new();
        let all = self.acknowledged.lock().expect("no user failed");
        assert!(
            all.len() > 10,
            "too little load to prove anything: {}",
            all.len()
        );
        for (key, may_hold) in all.iter() {
            let read = client.get(&format!("http://{node}/v1/{key}?mode=strict"));
            let held = read.values();
            let known = held.iter().all(|value| may_hold.contains(value));
            assert!(
                read.status == 200 && !held.is_empty() && known,
                "{key} may hold {may_hold:?}: {read:?}"
            );
        }
    }
}

/// Users stop on every way out.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
