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
use super::repair;
use super::schedule::{Deed, Kind, Step};

/// Between two nodes of a restart storm.
const STORM_EVERY: Duration = Duration::from_millis(400);

/// A fault that has begun.
struct Begun {
    kind: Kind,
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
    let mut disk_lost = false;
    for (at, n) in events(steps) {
        let Some(step) = steps.get(n) else { continue };
        sleep_until(begin + at).await;
        cluster.check()?;
        let target = target(cluster, &step.deed);
        let Some(fault) = open.remove(&n) else {
            let milder = if disk_lost {
                spare(cluster, step, recorder, streams).await?
            } else {
                None
            };
            let deed = milder.as_ref().unwrap_or(&step.deed);
            let kind = if milder.is_some() {
                Kind::Kill
            } else {
                step.kind
            };
            disk_lost |= kind == Kind::Wipe;
            let (at, until) = (step.from.as_secs_f32(), step.until.as_secs_f32());
            writeln!(
                streams.chatter,
                "{at:>6.1} to {until:>6.1} s: {} {target}",
                kind.name()
            )?;
            let from = recorder.borrow_mut().fault_begins();
            let harmed = cluster.relay().map_or(0, Relay::harmed);
            let bit = inflict(cluster, deed).await?;
            let fault = Begun {
                kind,
                from,
                harmed,
                bit,
            };
            open.insert(n, fault);
            continue;
        };
        // A node that was spared its disk is started again like any other.
        let bit = relieve(cluster, &step.deed, fault.harmed)? && fault.bit;
        let mut recorder = recorder.borrow_mut();
        let until = recorder.now();
        recorder.fault_ends(Fault {
            kind: fault.kind.name(),
            target,
            from: fault.from,
            until,
            bit,
        });
    }
    Ok(())
}

/// What to do to a node that is about to lose its disk and must keep it, because what the last one
/// lost is not repaired in time: two lost disks at once may hold all that W nodes acknowledged.
async fn spare(
    cluster: &Cluster,
    step: &Step,
    recorder: &RefCell<Recorder>,
    streams: &mut Streams<'_>,
) -> Result<Option<Deed>, Failure> {
    let Deed::Wipe(node) = step.deed else {
        return Ok(None);
    };
    let keys = recorder.borrow().keys.clone();
    let within = step.until.saturating_sub(step.from) / 2;
    if repair::is_complete(cluster, &keys, within).await {
        return Ok(None);
    }
    let name = cluster.name(node);
    writeln!(
        streams.chatter,
        "{name} keeps its disk and is killed only: not all is repaired since the last loss"
    )?;
    Ok(Some(Deed::Kill(node)))
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
