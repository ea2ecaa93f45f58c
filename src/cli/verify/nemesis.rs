//! Does the schedule to the cluster, and says of each fault whether it bit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::failure::Failure;
use super::super::output::Streams;
use super::cluster::{Cluster, fake_time};
use super::history::Fault;
use super::recorder::Recorder;
use super::relay::Relay;
use super::schedule::{Deed, Step};

/// Between two nodes of a restart storm.
const STORM_EVERY: Duration = Duration::from_millis(400);

/// A fault that has begun.
struct Begun {
    from: u64,
    /// How much the relays had harmed before.
    harmed: u64,
    bit: bool,
}

/// Begins and ends every fault at its time.
pub(super) async fn harass(
    cluster: &mut Cluster,
    steps: &[Step],
    begin: Instant,
    recorder: &RefCell<Recorder>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let mut open: BTreeMap<usize, Begun> = BTreeMap::new();
    for (at, n) in events(steps) {
        let Some(step) = steps.get(n) else { continue };
        sleep_until(begin + at).await;
        cluster.check()?;
        let (kind, target) = (step.kind.name(), target(cluster, &step.deed));
        let Some(Begun { from, harmed, bit }) = open.remove(&n) else {
            let (at, until) = (step.from.as_secs_f32(), step.until.as_secs_f32());
            writeln!(
                streams.chatter,
                "{at:>6.1} to {until:>6.1} s: {kind} {target}"
            )?;
            let from = recorder.borrow_mut().fault_begins();
            let harmed = cluster.relay().map_or(0, Relay::harmed);
            let bit = inflict(cluster, &step.deed).await?;
            open.insert(n, Begun { from, harmed, bit });
            continue;
        };
        let bit = relieve(cluster, &step.deed, harmed)? && bit;
        let mut recorder = recorder.borrow_mut();
        let until = recorder.now();
        recorder.fault_ends(Fault {
            kind,
            target,
            from,
            until,
            bit,
        });
    }
    Ok(())
}

/// When which step begins or ends, in order.
fn events(steps: &[Step]) -> Vec<(Duration, usize)> {
    let both = steps.iter().enumerate();
    let mut events: Vec<_> = both
        .flat_map(|(n, s)| [(s.from, n), (s.until, n)])
        .collect();
    events.sort_unstable();
    events
}

/// Whom a fault hits, in words.
fn target(cluster: &Cluster, deed: &Deed) -> String {
    match deed {
        Deed::Kill(node) | Deed::Pause(node) | Deed::Wipe(node) => cluster.name(*node),
        Deed::Clock(node, days) => format!("{} by {days} days", cluster.name(*node)),
        Deed::RestartStorm => "all nodes".to_owned(),
        Deed::Links(pairs, _) => {
            let name = |n: &usize| cluster.name(*n);
            let each = pairs
                .iter()
                .map(|(a, b)| format!("{}>{}", name(a), name(b)));
            each.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Begins a fault; `false` if it found nothing to harm.
async fn inflict(cluster: &mut Cluster, deed: &Deed) -> Result<bool, Failure> {
    match deed {
        Deed::Kill(node) => cluster.kill(*node),
        Deed::Pause(node) => cluster.signal(*node, Signal::STOP),
        Deed::Wipe(node) => Ok(cluster.kill(*node)? && cluster.wipe(*node)?),
        Deed::Clock(node, days) => {
            let killed = cluster.kill(*node)?;
            cluster.start_again(*node, &fake_time(*days)?)?;
            Ok(killed)
        }
        Deed::RestartStorm => {
            let mut all = true;
            for node in 0..cluster.len() {
                all &= cluster.kill(node)?;
                cluster.start_again(node, &[])?;
                sleep(STORM_EVERY).await;
            }
            Ok(all)
        }
        Deed::Links(pairs, treatment) => {
            let relay = cluster.relay();
            relay.inspect(|relay| relay.treat(pairs, *treatment));
            Ok(relay.is_some())
        }
    }
}

/// Ends a fault; `false` if it turns out that it harmed nobody.
fn relieve(cluster: &mut Cluster, deed: &Deed, harmed: u64) -> Result<bool, Failure> {
    match deed {
        Deed::Kill(node) | Deed::Wipe(node) => {
            cluster.start_again(*node, &[])?;
            Ok(true)
        }
        Deed::Pause(node) => cluster.signal(*node, Signal::CONT),
        Deed::Clock(node, _) => {
            let ran = cluster.kill(*node)?;
            cluster.start_again(*node, &[])?;
            Ok(ran)
        }
        Deed::RestartStorm => Ok(true),
        Deed::Links(..) => {
            let relay = cluster.relay();
            Ok(relay
                .inspect(|r| r.heal())
                .is_some_and(|r| r.harmed() > harmed))
        }
    }
}
