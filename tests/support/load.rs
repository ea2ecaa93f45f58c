//! Users of a balancer that never pause: what they were told is remembered, and looked for again
//! at the end.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::http::{Answer, Client};

/// Users, and what has become of their requests so far.
pub struct Load {
    base: String,
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
            base: format!("http://{address}/v1"),
            stop: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            wrong: Mutex::default(),
            acknowledged: Mutex::default(),
        }
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
        let client = Client::new();
        for round in 0.. {
            let key = format!("user{user}-{round}");
            if !self.goes_on() {
                return;
            }
            self.use_key(&client, &key);
        }
    }

    /// One key's life: created, then read and written a few times.
    fn use_key(&self, client: &Client, key: &str) {
        let url = format!("{}/{key}", self.base);
        let created = client.try_post(&url, &json!({ "value": 0 }));
        if !self.count(created.as_ref(), 201, || format!("POST {key}")) {
            return;
        }
        let mut may_hold = vec![json!(0)];
        for n in 1..20 {
            let read = client.try_get(&url);
            let was_read = self.count(read.as_ref(), 200, || format!("GET {key}"));
            let Some(read) = read.filter(|_| was_read && self.goes_on()) else {
                continue;
            };
            let written = client.try_put(&url, &json!(n), &read.clock());
            if self.count(written.as_ref(), 200, || format!("PUT {key} {n}")) {
                may_hold.clear();
            }
            may_hold.push(json!(n));
        }
        let mut all = self.acknowledged.lock().expect("no user failed");
        all.push((key.to_owned(), may_hold));
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, answer: Option<&Answer>, want: u16, what: impl Fn() -> String) -> bool {
        self.done.fetch_add(1, Ordering::Relaxed);
        if answer.is_some_and(|answer| answer.status == want) {
            return true;
        }
        let told = answer.map(|answer| (answer.status, answer.body.clone()));
        let mut wrong = self.wrong.lock().expect("no user failed");
        wrong.push(format!("{}: {told:?}", what()));
        false
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
