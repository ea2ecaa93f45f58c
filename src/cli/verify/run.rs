//! One run: a cluster, its clients, its faults, and what is there when all is over.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::failure::Failure;
use super::super::output::Streams;
use super::cluster::{Cluster, Doors, Size, fake_time};
use super::history::{Line, Phase, Rest, Run};
use super::operator::{OVER_WITHIN, unrest};
use super::recorder::Recorder;
use super::schedule::{Kind, schedule, spares};
use super::session::{Plan, Session};
use super::workload::Keys;
use super::{Args, Nemesis, conclude, finale, nemesis};

/// With fewer nodes a change of members leaves nobody who could be spared.
const LEAST_TO_CHANGE: u16 = 3;

/// What a run keeps, and where.
struct Place {
    dir: PathBuf,
    history: PathBuf,
    /// Whether nobody asked for the directory: then only failed runs leave one.
    is_temporary: bool,
}

/// Runs, and checks what was recorded.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let seed = match args.seed {
        Some(seed) => seed,
        None => u64::from(getrandom::u32().map_err(Failure::Random)?),
    };
    let kinds = kinds(&args)?;
    let place = place(&args, seed)?;
    writeln!(
        streams.chatter,
        "seed {seed}; history: {}",
        place.history.display()
    )?;
    let recorder = Rc::new(RefCell::new(Recorder::create(&place.history)?));
    recorder.borrow_mut().record(Line::Run(Run {
        seed,
        command: command(&args, seed),
        faults: kinds.iter().map(|kind| kind.name()).collect(),
    }));
    let result = attempt(&args, &kinds, (seed, &place.dir), &recorder, streams).await;
    recorder.borrow_mut().finish()?;
    result?;
    let checked = conclude(&recorder.borrow().history, args.output, streams);
    if place.is_temporary && checked.is_ok() {
        fs::remove_dir_all(&place.dir).map_err(|source| Failure::File {
            path: place.dir.clone(),
            source,
        })?;
    } else {
        writeln!(streams.chatter, "kept: {}", place.dir.display())?;
    }
    checked
}

/// The run itself. The cluster ends with it.
async fn attempt(
    args: &Args,
    kinds: &[Kind],
    (seed, dir): (u64, &Path),
    recorder: &Rc<RefCell<Recorder>>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    if !args.endpoints.is_empty() {
        let doors = Doors::new(RefCell::new(args.endpoints.clone()));
        work(args, seed, &doors, &Rc::new(Cell::new(true)), recorder).await;
        sleep(args.settle).await;
        finish(args, &args.endpoints, recorder, streams).await?;
        return Ok(());
    }
    let steps = schedule(kinds, usize::from(args.nodes), seed, time(args));
    if kinds
        .iter()
        .any(|kind| steps.iter().all(|step| step.kind != *kind))
    {
        return Err(Failure::Usage(
            "the time is too short for every fault: allow ten seconds for each, or name fewer",
        ));
    }
    let relayed = kinds.iter().any(|kind| kind.needs_relay());
    writeln!(
        streams.chatter,
        "starting {} nodes in {}",
        args.nodes,
        dir.display()
    )?;
    let size = Size {
        founders: args.nodes,
        spares: spares(kinds),
    };
    let mut cluster = Cluster::start(size, dir, &args.flags, relayed, seed).await?;
    let (doors, over) = (cluster.doors(), Rc::new(Cell::new(false)));
    let begin = Instant::now();
    let harassing = async {
        let harassed = nemesis::harass(&mut cluster, &steps, begin, recorder, streams).await;
        over.set(true);
        harassed
    };
    let ((), harassed) = tokio::join!(work(args, seed, &doors, &over, recorder), harassing);
    let stuck = harassed?;
    if kinds.iter().any(|kind| kind.changes_members()) {
        rest(&cluster, stuck, recorder, streams).await?;
    }
    cluster.ready().await?;
    if !args.converge.is_zero() {
        writeln!(streams.chatter, "comparing the replicas")?;
        let keys = recorder.borrow().keys.clone();
        let convergence = finale::converge(&keys, &cluster.admins(), args.converge).await;
        recorder.borrow_mut().record(Line::Convergence(convergence));
    }
    let endpoints = doors.borrow().clone();
    finish(args, &endpoints, recorder, streams).await?;
    cluster.check()
}

/// Waits until nothing moves any more, and notes what goes on all the same.
async fn rest(
    cluster: &Cluster,
    stuck: Option<String>,
    recorder: &Rc<RefCell<Recorder>>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    writeln!(streams.chatter, "waiting until nothing moves")?;
    let began = Instant::now();
    let within = if stuck.is_some() {
        Duration::ZERO
    } else {
        OVER_WITHIN
    };
    let mut restless = unrest(cluster, within).await;
    restless.extend(stuck);
    let after = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let rest = Rest { after, restless };
    recorder.borrow_mut().record(Line::Rest(rest));
    Ok(())
}

/// Lets the clients work, until their time is up and the last fault is over.
async fn work(
    args: &Args,
    seed: u64,
    doors: &Doors,
    over: &Rc<Cell<bool>>,
    recorder: &Rc<RefCell<Recorder>>,
) {
    let begin = Instant::now();
    let prefix = prefix(args, seed);
    let keys: Vec<_> = (args.workloads.iter())
        .map(|w| Keys::new(format!("{prefix}-{w:?}").to_lowercase()))
        .map(|keys| Rc::new(RefCell::new(keys)))
        .collect();
    let mut sessions = JoinSet::new();
    for number in 0..args.sessions {
        let n = usize::try_from(number).unwrap_or(0);
        let of = args.workloads.len().max(1);
        let (Some(&workload), Some(keys)) = (args.workloads.get(n % of), keys.get(n % of)) else {
            continue;
        };
        let plan = Plan {
            number,
            workload,
            strict: n / of % 2 == 1,
            moves: n % 2 == 1,
            doors: Rc::clone(doors),
            begin,
            end: begin + time(args),
            over: Rc::clone(over),
            seed,
        };
        let session = Session::new(plan, Rc::clone(recorder), Rc::clone(keys));
        sessions.spawn_local(session.run());
    }
    sessions.join_all().await;
}

/// Reads everything from every node, and again later.
async fn finish(
    args: &Args,
    endpoints: &[String],
    recorder: &Rc<RefCell<Recorder>>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let keys = recorder.borrow().keys.len();
    writeln!(streams.chatter, "reading {keys} keys from every node")?;
    finale::read_all(Phase::Final1, endpoints, recorder).await;
    sleep(args.settle).await;
    writeln!(streams.chatter, "reading them again")?;
    finale::read_all(Phase::Final2, endpoints, recorder).await;
    Ok(())
}

fn time(args: &Args) -> Duration {
    args.minutes.unwrap_or(args.seconds)
}

/// What keys begin with. In a cluster of its own a run chooses the same keys as the last one with
/// its seed; elsewhere that one's values may still be there.
fn prefix(args: &Args, seed: u64) -> String {
    let another = std::process::id();
    if args.endpoints.is_empty() {
        format!("verify-{seed}")
    } else {
        format!("verify-{seed}-{another}")
    }
}

/// The faults asked for, once each, if this machine can do them.
fn kinds(args: &Args) -> Result<Vec<Kind>, Failure> {
    let mut out = Vec::new();
    let asked = if args.endpoints.is_empty() {
        &args.nemesis[..]
    } else {
        &[]
    };
    for nemesis in asked {
        match nemesis {
            Nemesis::None if args.nemesis.len() > 1 => {
                return Err(Failure::Usage("--nemesis none goes with no other fault"));
            }
            Nemesis::None => {}
            Nemesis::Fault(kind) if out.contains(kind) => {}
            Nemesis::Fault(kind) => out.push(*kind),
        }
    }
    if out.contains(&Kind::Clock) {
        fake_time(1)?;
    }
    if args.nodes < LEAST_TO_CHANGE && out.iter().any(|kind| kind.changes_members()) {
        return Err(Failure::Usage(
            "members change only where there are three at least",
        ));
    }
    Ok(out)
}

fn place(args: &Args, seed: u64) -> Result<Place, Failure> {
    let temporary = || std::env::temp_dir().join(format!("quorate-verify-{}", std::process::id()));
    let dir = args.dir.clone().unwrap_or_else(temporary);
    fs::create_dir_all(&dir).map_err(|source| Failure::File {
        path: dir.clone(),
        source,
    })?;
    let file = || dir.join(format!("history-{seed}.jsonl"));
    Ok(Place {
        history: args.history.clone().unwrap_or_else(file),
        is_temporary: args.dir.is_none(),
        dir,
    })
}

/// The command that does it again.
fn command(args: &Args, seed: u64) -> String {
    let mut words = vec!["quorate verify".to_owned()];
    let mut flag = |name: &str, value: String| words.push(format!("--{name} {value}"));
    if args.endpoints.is_empty() {
        let kinds: Vec<String> = args.nemesis.iter().map(|n| n.name()).collect();
        flag("nodes", args.nodes.to_string());
        flag("nemesis", kinds.join(","));
    } else {
        flag("endpoints", args.endpoints.join(","));
    }
    let workloads: Vec<String> = args.workloads.iter().map(|w| format!("{w:?}")).collect();
    flag("workloads", workloads.join(","));
    flag("sessions", args.sessions.to_string());
    flag("seconds", time(args).as_secs_f64().to_string());
    flag("converge", args.converge.as_secs_f64().to_string());
    flag("settle", args.settle.as_secs_f64().to_string());
    flag("seed", seed.to_string());
    if !args.flags.is_empty() {
        words.push(format!("-- {}", args.flags.join(" ")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        verify: Args,
    }

    fn args(line: &str) -> Args {
        Line::try_parse_from(line.split_whitespace().skip(1))
            .unwrap()
            .verify
    }

    #[test]
    fn the_command_that_repeats_a_run_means_the_same_run() {
        let rows = [
            "quorate verify --seed 7",
            "quorate verify --nemesis kill,restart-storm,lossy --workloads w3,W5 --minutes 0.5",
            "quorate verify --endpoints 10.0.0.1:1,b:2 --seconds 3 --settle 0.5 --converge 0",
            "quorate verify --nodes 3 --sessions 4 --nemesis none -- --durability os",
        ];
        for row in rows {
            let once = command(&args(row), 9);
            let again = args(&once);
            assert_eq!(command(&again, 9), once, "{row}");
            assert_eq!(
                (again.seed, time(&again)),
                (Some(9), time(&args(row))),
                "{row}"
            );
            assert_eq!(kinds(&again).ok(), kinds(&args(row)).ok(), "{row}");
        }
    }

    #[test]
    fn no_fault_goes_with_no_other_and_each_counts_once() {
        assert!(kinds(&args("quorate verify --nemesis none,kill")).is_err());
        let twice = kinds(&args("quorate verify --nemesis kill,pause,kill")).unwrap();
        assert_eq!(twice, [Kind::Kill, Kind::Pause]);
        assert_eq!(kinds(&args("quorate verify --nemesis none")).unwrap(), []);
    }
}
