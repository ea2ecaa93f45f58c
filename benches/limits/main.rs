//! What the machine allows, beside what a cluster does with it: a bare echo, a coordinator without
//! logic and a three-node cluster, measured in turn in one run. `make bench` runs it.

mod bare;
mod cells;
mod echo;
mod process;
mod serving;
mod systems;
mod table;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use cells::Plan;
use process::Processes;

/// Whatever goes wrong ends the run and is shown.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: limits [--seconds S] [--repeats N] [--quorate PATH]
       limits echo ADDRESS
       limits bare ADDRESS LOG PEER PEER";

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["echo", address] => serving::run(echo::serve(address)),
        ["bare", address, log, ref peers @ ..] => serving::run(bare::serve(address, log, peers)),
        _ => drive(&plan(&words)?),
    }
}

fn plan(words: &[&str]) -> Outcome<Plan> {
    let mut plan = Plan {
        seconds: 3,
        repeats: 3,
        quorate: beside_this_program()?,
    };
    for pair in words.chunks(2) {
        match *pair {
            ["--seconds", seconds] => plan.seconds = seconds.parse()?,
            ["--repeats", repeats] => plan.repeats = repeats.parse()?,
            ["--quorate", path] => plan.quorate = path.into(),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(plan)
}

/// `target/release/examples/limits` finds `target/release/quorate`.
fn beside_this_program() -> Outcome<PathBuf> {
    let mut path = std::env::current_exe()?;
    path.pop();
    path.pop();
    Ok(path.join("quorate"))
}

/// Runs the plan on a thread, so that a signal can end everything that it has started.
fn drive(plan: &Plan) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let processes = Processes::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = std::thread::scope(|scope| {
        let (done, finished) = tokio::sync::oneshot::channel::<()>();
        let measuring = scope.spawn(|| {
            let outcome = cells::measure(plan, directory.path(), &processes);
            drop(done);
            outcome
        });
        let stopped = runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = finished => Ok(false),
                _ = terminate.recv() => Ok(true),
                pressed = tokio::signal::ctrl_c() => pressed.map(|()| true),
            }
        });
        // The thread then fails at whatever it waits for.
        processes.end();
        let outcome = measuring
            .join()
            .unwrap_or_else(|_| Err("the measuring thread has panicked".into()));
        match stopped {
            Ok(true) => Err("stopped".into()),
            Ok(false) => outcome,
            Err(error) => Err(error.into()),
        }
    });
    let table = table::render(&outcome?)?;
    Ok(std::io::stdout().write_all(table.as_bytes())?)
}
