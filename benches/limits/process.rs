//! Processes: started, ended on every way out, and what the kernel says they took.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::Outcome;

/// Everything this program has started. Each child has a pipe from here as its standard input,
/// and ends itself when that closes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Processes(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    children: Vec<Child>,
    ended: bool,
}

impl Processes {
    /// Starts a process that lives as long as this one at most, and gives its id.
    pub(crate) fn start(&self, command: &mut Command) -> Outcome<u32> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.ended {
            return Err("stopped".into());
        }
        let child = command.stdin(Stdio::piped()).spawn()?;
        let id = child.id();
        list.children.push(child);
        Ok(id)
    }

    /// Whether all of them are still there.
    pub(crate) fn are_alive(&self) -> Outcome<bool> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for child in &mut list.children {
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
        }
        Ok(!list.ended)
    }

    /// Kills them all, and waits until they are gone. Nothing can be started afterwards.
    pub(crate) fn end(&self) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.ended = true;
        for child in &mut list.children {
            // One that is gone already needs no killing.
            drop(child.kill());
        }
        for mut child in list.children.drain(..) {
            drop(child.wait());
        }
    }
}

/// Seconds of CPU that processes have taken so far, in user space and in the kernel.
pub(crate) fn cpu_seconds(ids: &[u32]) -> Outcome<f64> {
    let mut ticks = 0;
    for id in ids {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let (_, after_name) = stat.rsplit_once(')').ok_or("an unknown /proc/PID/stat")?;
        // The 14th and 15th of all fields; the name is the second.
        for field in after_name.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u32>()?;
        }
    }
    // USER_HZ is 100 on Linux.
    Ok(f64::from(ticks) / 100.0)
}

/// The largest resident set of some processes, in MiB.
pub(crate) fn largest_rss(ids: &[u32]) -> Outcome<f64> {
    let mut largest = 0;
    for id in ids {
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        largest = largest.max(number.ok_or("no VmRSS")?.parse::<u32>()?);
    }
    Ok(f64::from(largest) / 1024.0)
}

/// The machine's CPU time: what the hypervisor kept for others, and all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineTime {
    stolen: f64,
    all: f64,
}

impl MachineTime {
    pub(crate) fn now() -> Outcome<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let fields = line.split_whitespace().skip(1).take(8);
        let fields = fields.map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        Ok(Self {
            stolen: fields.last().copied().unwrap_or_default(),
            all: fields.iter().sum(),
        })
    }

    /// The share that was stolen since an earlier time.
    pub(crate) fn stolen_since(self, before: Self) -> f64 {
        (self.stolen - before.stolen) / (self.all - before.all).max(1.0)
    }
}
