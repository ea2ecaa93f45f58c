//! Does the schedule to the cluster, and says of each fault whether it bit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::failure::Failure;
use super::super::output::Streams;
use super::cluster::{Cluster, fake_time};
use super::crew::{Blow, Change, Moment, Role};
use super::history::Fault;
use super::operator::Errand;
use super::recorder::Recorder;
use super::relay::Relay;
use super::repair;
use super::schedule::{Deed, Kind, Step};
use super::strike::strike;

/// Between two nodes of a restart storm.
const STORM_EVERY: Duration = Duration::from_millis(400);

/// A fault that has begun.
struct Begun {
    kind: Kind,
    target: String,
    from: u64,
    /// How much the relays had harmed before.
    harmed: u64,
    bit: bool,
    role: Option<Role>,
    moment: Option<Moment>,
    /// The change of members that is not over yet.
    errand: Option<Errand>,
}

/// Begins and ends every fault at its time. A change of members that does not end although nothing
/// fails any more ends everything; it is given in words.
pub(super) async fn harass(
    cluster: &mut Cluster,
    steps: &[Step],
    begin: Instant,
    recorder: &RefCell<Recorder>,
    streams: &mut Streams<'_>,
) -> Result<Option<String>, Failure> {
    let mut open: BTreeMap<usize, Begun> = BTreeMap::new();
    let mut disk_lost = false;
    for (at, n) in events(steps) {
        let Some(step) = steps.get(n) else { continue };
        sleep_until(begin + at).await;
        cluster.check()?;
        let Some(mut fault) = open.remove(&n) else {
            let milder = if disk_lost {
                spare(cluster, step, recorder, streams).await?
            } else {
                None
            };
            let (kind, deed) = milder.unwrap_or_else(|| (step.kind, step.deed.clone()));
            disk_lost |= matches!(kind, Kind::Wipe | Kind::Forget);
            disk_lost |= matches!(deed, Deed::Change(Change::Forget(_), _));
            let (at, until) = (step.from.as_secs_f32(), step.until.as_secs_f32());
            let target = target(cluster, &deed);
            writeln!(
                streams.chatter,
                "{at:>6.1} to {until:>6.1} s: {} {target}",
                kind.name()
            )?;
            let mut fault = Begun {
                kind,
                target,
                from: recorder.borrow_mut().fault_begins(),
                harmed: cluster.relay().map_or(0, Relay::harmed),
                bit: false,
                role: None,
                moment: None,
                errand: None,
            };
            inflict(cluster, &deed, &mut fault).await?;
            open.insert(n, fault);
            continue;
        };
        let stuck = if let Some(errand) = fault.errand.take() {
            errand.until_over(cluster).await?
        } else {
            // A node that was spared its disk is started again like any other.
            fault.bit &= relieve(cluster, &step.deed, fault.harmed)?;
            None
        };
        fault.bit &= stuck.is_none();
        let mut recorder = recorder.borrow_mut();
        let until = recorder.now();
        recorder.fault_ends(Fault {
            kind: fault.kind.name(),
            target: fault.target,
            from: fault.from,
            until,
            bit: fault.bit,
            role: fault.role.map(|role| role.name().to_owned()),
            moment: fault.moment.map(|moment| moment.name().to_owned()),
        });
        if stuck.is_some() {
            return Ok(stuck);
        }
    }
    Ok(None)
}

/// What to do to a node that is about to lose its disk and must keep it, because what the last one
/// lost is not repaired in time: two lost disks at once may hold all that W nodes acknowledged.
async fn spare(
    cluster: &Cluster,
    step: &Step,
    recorder: &RefCell<Recorder>,
    streams: &mut Streams<'_>,
) -> Result<Option<(Kind, Deed)>, Failure> {
    let (node, milder) = match &step.deed {
        Deed::Wipe(node) => (*node, (Kind::Kill, Deed::Kill(*node))),
        Deed::Change(Change::Forget(node), blow) => {
            let leave = Deed::Change(Change::Leave(*node), blow.clone());
            let kind = if blow.is_some() {
                step.kind
            } else {
                Kind::Leave
            };
            (*node, (kind, leave))
        }
        Deed::Kill(_)
        | Deed::Pause(_)
        | Deed::RestartStorm
        | Deed::Clock(..)
        | Deed::Links(..)
        | Deed::Change(..) => return Ok(None),
    };
    let keys = recorder.borrow().keys.clone();
    let within = step.until.saturating_sub(step.from) / 2;
    if repair::is_complete(cluster, &keys, within).await {
        return Ok(None);
    }
    let name = cluster.name(node);
    writeln!(
        streams.chatter,
        "{name} keeps its disk: not all is repaired since the last loss"
    )?;
    Ok(Some(milder))
}

/// When which step begins or ends, in order.
fn events(steps: &[Step]) -> Vec<(Duration, usize)> {
    let both = steps.iter().enumerate();
    let mut events: Vec<_> = both
        .flat_map(|(n, s)| [(s.from, n), (s.until, n)])
        .collect();
    // Of two that end together, the one that began in the middle of the other is over first.
    events.sort_unstable_by_key(|(at, n)| (*at, std::cmp::Reverse(*n)));
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
        Deed::Change(change, _) => {
            let both = change.old_one().into_iter().chain(change.new_one());
            let names: Vec<String> = both.map(|node| cluster.name(node)).collect();
            names.join(" ")
        }
    }
}

/// Begins a fault, and notes whether it found something to harm.
async fn inflict(cluster: &mut Cluster, deed: &Deed, fault: &mut Begun) -> Result<(), Failure> {
    fault.bit = match deed {
        Deed::Kill(node) => cluster.kill(*node)?,
        Deed::Pause(node) => cluster.signal(*node, Signal::STOP)?,
        Deed::Wipe(node) => cluster.kill(*node)? && cluster.wipe(*node)?,
        Deed::Clock(node, days) => {
            let killed = cluster.kill(*node)?;
            cluster.start_again(*node, &fake_time(*days)?)?;
            killed
        }
        Deed::RestartStorm => {
            let mut all = true;
            for node in cluster.crew() {
                all &= cluster.kill(node)?;
                cluster.start_again(node, &[])?;
                sleep(STORM_EVERY).await;
            }
            all
        }
        Deed::Links(pairs, treatment) => {
            let relay = cluster.relay();
            relay.inspect(|relay| relay.treat(pairs, *treatment));
            relay.is_some()
        }
        Deed::Change(change, blow) => {
            return begin_change(cluster, *change, blow.as_ref(), fault).await;
        }
    };
    Ok(())
}

async fn begin_change(
    cluster: &mut Cluster,
    change: Change,
    blow: Option<&Blow>,
    fault: &mut Begun,
) -> Result<(), Failure> {
    let mut errand = Errand::begin(cluster, change, blow.is_some())?;
    match blow {
        None => fault.bit = errand.until_agreed(cluster).await?,
        Some(blow) => {
            let struck = strike(cluster, &mut errand, blow).await?;
            fault.bit = struck.bit;
            fault.target = struck.target;
            (fault.role, fault.moment) = (struck.role, struck.moment);
        }
    }
    fault.errand = Some(errand);
    Ok(())
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
        // Of a change, somebody else takes care.
        Deed::RestartStorm | Deed::Change(..) => Ok(true),
        Deed::Links(..) => {
            let relay = cluster.relay();
            Ok(relay
                .inspect(|r| r.heal())
                .is_some_and(|r| r.harmed() > harmed))
        }
    }
}
