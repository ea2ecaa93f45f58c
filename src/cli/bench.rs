//! `quorate bench`: a load generator that costs little beside the nodes it measures.

mod random;
mod tally;
mod worker;

use std::cell::RefCell;
use std::num::{NonZeroU32, NonZeroUsize};
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::endpoints::{EndpointArgs, seconds};
use super::failure::Failure;
use super::output::{Format, OutputArgs, Streams, line};
pub(super) use random::Random;
use tally::{Report, Tally};
use worker::{Plan, Worker};

/// Runs before anything is counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// Smallest value: an empty JSON string.
const MIN_VALUE_BYTES: usize = 2;

/// What `bench` takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    at: EndpointArgs,
    /// What is measured; mixed is as many reads as writes
    #[arg(long, value_enum, default_value_t = Op::Mixed)]
    op: Op,
    /// Connections, spread over all endpoints; each has keys of its own, so that no two conflict
    #[arg(long, default_value = "64")]
    connections: NonZeroUsize,
    /// How long, after half a second that is not counted
    #[arg(long, value_parser = seconds, default_value = "10")]
    seconds: Duration,
    /// Bytes of a value: a JSON string with its quotes
    #[arg(long, default_value_t = 100)]
    value_size: usize,
    /// How many keys, bench-00000000 and on; all are written before anything is measured
    #[arg(long, default_value = "10000")]
    keys: NonZeroUsize,
    /// Operations a second over all connections, due at even times: a latency counts from when its
    /// operation was due, by a clock of one millisecond [default: as many as will go]
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Shows every second for itself, by when its operations were due; JSON always has them
    #[arg(long)]
    timeline: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Op {
    /// Writes, each with the clock of the key's last one
    Put,
    /// Reads
    Get,
    /// Half of each
    Mixed,
}

/// Preloads, measures, reports.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if args.connections > args.keys {
        return Err(Failure::Usage("--keys must be at least --connections"));
    }
    if args.value_size < MIN_VALUE_BYTES {
        return Err(Failure::Usage("--value-size must be at least 2"));
    }
    let tally = Rc::new(RefCell::new(Tally::new()));
    writeln!(streams.chatter, "writing {} keys", args.keys)?;
    let workers = preload(&args, &tally).await;
    let failed = tally.borrow_mut().take_errors();
    for (what, count) in &failed {
        writeln!(streams.chatter, "preload: {count} × {what}")?;
    }
    let unreached = failed.get(worker::CANNOT_CONNECT).copied();
    if unreached.is_some_and(|n| usize::try_from(n).is_ok_and(|n| n >= args.keys.get())) {
        return Err(Failure::NothingMeasured);
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + args.seconds;
    measure(workers, begin, end, &tally, streams).await?;
    show(&args, &tally.borrow().report(args.seconds), streams)
}

async fn preload(args: &Args, tally: &Rc<RefCell<Tally>>) -> Vec<Worker> {
    let mut tasks = JoinSet::new();
    for place in 0..args.connections.get() {
        let plan = Plan {
            endpoints: args.at.endpoints.clone(),
            timeout: args.at.timeout.timeout,
            op: args.op,
            place,
            of: args.connections.get(),
            keys: args.keys.get(),
            value_bytes: args.value_size,
            every: args.rate.map(|rate| gap(args.connections, rate)),
        };
        let mut worker = Worker::new(plan, Rc::clone(tally));
        tasks.spawn_local(async move {
            worker.preload().await;
            worker
        });
    }
    tasks.join_all().await
}

/// How far apart one connection's operations are.
fn gap(connections: NonZeroUsize, rate: NonZeroU32) -> Duration {
    let connections = u32::try_from(connections.get()).unwrap_or(u32::MAX);
    Duration::from_secs(1) * connections / rate.get()
}

async fn measure(
    workers: Vec<Worker>,
    begin: Instant,
    end: Instant,
    tally: &Rc<RefCell<Tally>>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let running = spawn_local(async move {
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn_local(worker.run(begin, end));
        }
        tasks.join_all().await;
    });
    tokio::pin!(running);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    let mut before = 0;
    loop {
        tokio::select! {
            _ = &mut running => return Ok(()),
            _ = ticks.tick() => {
                let (done, errors) = tally.borrow().progress();
                writeln!(streams.chatter, "{:>9}/s, {errors} errors", done - before)?;
                before = done;
            }
        }
    }
}

fn show(args: &Args, report: &Report, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if report.operations == 0 {
        return Err(Failure::NothingMeasured);
    }
    match args.output.for_reports(streams) {
        Format::Json => line(streams.data, &serde_json::to_vec(report)?)?,
        Format::Table => report.table(args.timeline, streams.data)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
