//! `quorate dev`: a cluster of real processes on one machine, which end with this one.

pub(super) mod child;
pub(super) mod layout;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::endpoints::{Request, ask_one};
use super::failure::Failure;
use super::output::{Streams, table};
use child::Child;
use layout::{Node, layout};

/// How long the nodes may take until they all serve.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long the nodes may take to end in good order.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What `dev` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Node i serves clients on this port + 10·i, operators on the next one, nodes on the one after
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    base_port: u16,
    /// Where the nodes keep data and logs; a second start goes on with them [default:
    /// ~/.local/share/quorate/dev]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Further flags of `quorate server`, for every node
    #[arg(last = true, value_name = "SERVER FLAGS")]
    flags: Vec<String>,
}

/// What happens to the cluster from outside.
struct Events {
    interrupt: Signal,
    terminate: Signal,
    child: Signal,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// Somebody wants the cluster to end.
    Stop,
    /// A child may have ended.
    Child,
}

impl Events {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            child: signal(SignalKind::child())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.terminate.recv() => Event::Stop,
            _ = self.child.recv() => Event::Child,
        }
    }
}

/// Starts the nodes, waits until they serve, and keeps them until it is told to stop.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let dir = args.dir.unwrap_or_else(layout::default_dir);
    let nodes = layout(args.nodes, args.base_port, &dir)?;
    layout::check_ports(&nodes)?;
    writeln!(streams.chatter, "data and logs: {}", dir.display())?;
    let mut events = Events::listen()?;
    let mut children = Vec::new();
    let result = match start(&nodes, &args.flags, &mut children) {
        Ok(()) => attend(&mut children, &mut events, streams).await,
        Err(failure) => Err(failure),
    };
    stop(&mut children, &mut events, streams).await?;
    result
}

fn start(nodes: &[Node], flags: &[String], children: &mut Vec<Child>) -> Result<(), Failure> {
    for node in nodes {
        children.push(Child::start(node, nodes, flags)?);
    }
    Ok(())
}

/// From the start of the nodes to the wish to end them.
async fn attend(
    children: &mut [Child],
    events: &mut Events,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    if !until_ready(children, events).await? {
        return Ok(());
    }
    show(children, streams)?;
    let mut gone = BTreeSet::new();
    while events.next().await == Event::Child {
        for child in children.iter_mut() {
            if let Some(status) = child.ended()?
                && gone.insert(child.name().to_owned())
            {
                let (name, log) = (child.name(), child.log().display());
                writeln!(streams.chatter, "{name} ended with {status}; see {log}")?;
            }
        }
        if gone.len() == children.len() {
            return Err(Failure::AllDied);
        }
    }
    Ok(())
}

/// Waits until every node says that it is ready; `false` if somebody wants to stop before.
async fn until_ready(children: &mut [Child], events: &mut Events) -> Result<bool, Failure> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let waiting = not_ready(children.iter()).await;
                if waiting.is_empty() {
                    return Ok(true);
                }
                if Instant::now() > deadline {
                    let seconds = READY_WITHIN.as_secs();
                    return Err(Failure::NotReady { seconds, waiting });
                }
            }
            event = events.next() => match event {
                Event::Stop => return Ok(false),
                Event::Child => {}
            },
        }
        for child in children.iter_mut() {
            if let Some(status) = child.ended()? {
                return Err(child.died(status));
            }
        }
    }
}

/// The nodes that are not ready, and what they say.
pub(super) async fn not_ready(children: impl Iterator<Item = &Child>) -> Vec<String> {
    let request = Request {
        method: "GET",
        path: "/readyz".to_owned(),
        ..Request::default()
    };
    let mut waiting = Vec::new();
    for child in children {
        let said = match ask_one(child.client(), Duration::from_secs(2), &request).await {
            Ok(answer) if answer.status == 200 => continue,
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(broken) => broken.to_string(),
        };
        waiting.push(format!("{}: {}", child.name(), said.escape_debug()));
    }
    waiting
}

fn show(children: &[Child], streams: &mut Streams<'_>) -> Result<(), Failure> {
    let head = ["NAME", "PID", "CLIENT", "ADMIN"]
        .map(str::to_owned)
        .to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(children.iter().map(Child::row))
        .collect();
    table(streams.data, &rows)?;
    if let Some(first) = children.first() {
        let url = format!("http://{}/v1/hello", first.client());
        writeln!(
            streams.data,
            "\nTry:\n  curl -X POST {url} -H 'content-type: application/json' \
             -d '{{\"value\":\"world\"}}'\n  curl {url}\nCtrl-C stops the cluster; its data stays."
        )?;
    }
    Ok(streams.data.flush()?)
}

/// Ends every child: asked first, and forced when its time is over.
async fn stop(
    children: &mut [Child],
    events: &mut Events,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    for child in children.iter_mut() {
        child.ask_to_end()?;
    }
    let deadline = Instant::now() + STOP_WITHIN;
    loop {
        let mut left = false;
        for child in children.iter_mut() {
            left |= child.ended()?.is_none();
        }
        if !left {
            return Ok(());
        }
        if timeout_at(deadline, events.child.recv()).await.is_err() {
            break;
        }
    }
    for child in children.iter_mut() {
        if child.kill()? {
            let (name, log) = (child.name(), child.log().display());
            let seconds = STOP_WITHIN.as_secs();
            writeln!(
                streams.chatter,
                "{name} did not end within {seconds} s: killed; see {log}"
            )?;
        }
    }
    Ok(())
}
