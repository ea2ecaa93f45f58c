//! A modest writer beside the load, which remembers what was acknowledged: whether all of it is
//! there in the end can be told only by who knows what it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use serde_json::{Value, json};

use super::Outcome;

/// Twenty writes a second, at most.
const WRITE_EVERY: Duration = Duration::from_millis(50);

/// A key and the value that is in it.
type Written = (String, Value);

/// One that is under way.
pub(crate) struct Witness {
    writer: JoinHandle<Vec<Written>>,
    stop: Arc<AtomicBool>,
}

/// What it has found.
pub(crate) struct Testimony {
    /// How many writes were acknowledged.
    pub(crate) acknowledged: usize,
    /// Keys whose value a node did not have, and what it answered.
    pub(crate) lost: Vec<String>,
}

impl Witness {
    /// Begins to create keys through these nodes in turn.
    pub(crate) fn start(endpoints: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = spawn(move || {
            let mut written = Vec::new();
            for (number, node) in endpoints.iter().cycle().enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (key, value) = (format!("witness-{number}"), json!(format!("v{number}")));
                if create(node, &key, &value) {
                    written.push((key, value));
                }
                sleep(WRITE_EVERY);
            }
            written
        });
        Self { writer, stop }
    }

    /// Ends it, and reads all that was acknowledged through every one of these nodes.
    pub(crate) fn finish(self, endpoints: &[String]) -> Outcome<Testimony> {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.writer.join().map_err(|_panic| "the writer failed")?;
        let mut lost = Vec::new();
        for node in endpoints {
            for (key, value) in &written {
                let found = read(node, key);
                if !found.as_ref().is_ok_and(|found| *found == json!([value])) {
                    lost.push(format!("{key} through {node}: {found:?}"));
                }
            }
        }
        Ok(Testimony {
            acknowledged: written.len(),
            lost,
        })
    }
}

/// Whether it was acknowledged. What was not may be there all the same, or not.
fn create(node: &str, key: &str, value: &Value) -> bool {
    let body = json!({ "value": value }).to_string();
    let request = ureq::post(format!("http://{node}/v1/{key}"));
    let answer = request
        .header("content-type", "application/json")
        .send(body);
    answer.is_ok_and(|answer| answer.status() == 201)
}

fn read(node: &str, key: &str) -> Outcome<Value> {
    let mut answer = ureq::get(format!("http://{node}/v1/{key}")).call()?;
    let mut shown: Value = serde_json::from_reader(answer.body_mut().as_reader())?;
    Ok(shown["value"].take())
}
