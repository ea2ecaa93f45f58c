//! P10: one node of five is killed, stopped or slowed under load, which goes through the other four
//! at an even rate. A latency counts from when its operation was due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::load::{Load, Second, median};
use super::nodes::{Cluster, Node};
use super::{Outcome, tell};

/// The load: half reads, half writes.
const LOAD: &str = "--op mixed --connections 32 --rate 1000 --keys 2000 --seconds 30";
/// The seconds of the fault, counted from the beginning of the load.
const BEGIN: usize = 10;
const END: usize = 20;
/// After so many seconds all must be as before.
const FOUND_OUT: usize = 2;
/// A slow node stands still for most of the time.
const STANDS: Duration = Duration::from_millis(90);
const RUNS: Duration = Duration::from_millis(10);

/// What happens to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Stopped,
    Slow,
}

/// Measures all three faults, and says whether the bounds were kept.
pub(crate) fn measure() -> Outcome<bool> {
    tell(
        "| fault | success, % | p99 healthy, ms | p99 in the fault's first 2 s, ms | p99 after, ms | ratio |",
    )?;
    tell("|---|---|---|---|---|---|")?;
    let mut kept = true;
    let mut timelines = Vec::new();
    for fault in [Fault::Killed, Fault::Stopped, Fault::Slow] {
        let seconds = one(fault)?;
        kept &= row(fault, &seconds)?;
        timelines.push((fault, seconds));
    }
    tell("\n| p99 by second, ms | healthy | fault | afterwards |\n|---|---|---|---|")?;
    for (fault, seconds) in timelines {
        let shown = |some: &[Second]| {
            let each: Vec<String> = some.iter().map(|s| format!("{:.1}", s.p99_ms)).collect();
            each.join(" ")
        };
        let (before, rest) = seconds.split_at(BEGIN);
        let (during, after) = rest.split_at(END - BEGIN);
        let [before, during, after] = [before, during, after].map(shown);
        tell(&format!("| {fault:?} | {before} | {during} | {after} |"))?;
    }
    Ok(kept)
}

/// A load with one fault in the middle, second by second.
fn one(fault: Fault) -> Outcome<Vec<Second>> {
    let mut cluster = Cluster::start(5)?;
    let endpoints = cluster.endpoints(4);
    let load = Load::start(&endpoints, LOAD)?;
    let at = |second: usize| {
        load.wait_until(Duration::from_secs(u64::try_from(second).unwrap_or(0)));
    };
    at(BEGIN);
    match fault {
        Fault::Killed => {
            cluster.last()?.kill()?;
            at(END);
            cluster.start_last()?;
        }
        Fault::Stopped => {
            cluster.last()?.signal(Signal::STOP)?;
            at(END);
            cluster.last()?.signal(Signal::CONT)?;
        }
        Fault::Slow => slowed(cluster.last()?, || at(END))?,
    }
    load.finish()
}

/// Lets the node stand still again and again until the other thing is over.
fn slowed(node: &Node, over: impl FnOnce()) -> Outcome<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let slowing = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                node.signal(Signal::STOP)?;
                sleep(STANDS);
                node.signal(Signal::CONT)?;
                sleep(RUNS);
            }
            Ok(())
        });
        over();
        done.store(true, Ordering::Relaxed);
        let slowed: Outcome<()> = slowing.join().unwrap_or_else(|_| Err("a panic".into()));
        slowed
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "thousands of operations are far below 2^52"
)]
fn row(fault: Fault, seconds: &[Second]) -> Outcome<bool> {
    let [healthy, found_out, after] = [1..BEGIN, BEGIN..BEGIN + FOUND_OUT, BEGIN + FOUND_OUT..END]
        .map(|range| seconds.get(range).unwrap_or_default());
    let (done, failed): (u64, u64) = seconds.iter().fold((0, 0), |(done, failed), s| {
        (done + s.done, failed + s.failed)
    });
    let success = 100.0 * done as f64 / (done + failed) as f64;
    let worst = found_out.iter().map(|s| s.p99_ms).fold(0.0, f64::max);
    let (healthy, after) = (median(healthy), median(after));
    let ratio = after / healthy;
    tell(&format!(
        "| {fault:?} | {success:.3} | {healthy:.1} | {worst:.1} | {after:.1} | {ratio:.2} |"
    ))?;
    Ok(success >= 99.9 && ratio <= 2.0)
}
