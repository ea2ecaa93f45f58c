//! What the machine allows, beside what a cluster does with it: a bare echo, a coordinator without
//! logic and a three-node cluster, measured in turn in one run. `make bench` runs it.

mod bare;
mod cells;
mod compare;
mod echo;
mod process;
mod serving;
mod systems;
mod table;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use cells::Plan;
use process::Processes;

/// Whatever goes wrong ends the run and is shown.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: limits [--seconds S] [--repeats N] [--quorate PATH]
       limits compare [--seconds S] [--repeats N] PATH[ FLAG…] PATH[ FLAG…]…
       limits echo ADDRESS
       limits bare ADDRESS LOG PEER PEER";

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["echo", address] => serving::run(echo::serve(address)),
        ["bare", address, log, ref peers @ ..] => serving::run(bare::serve(address, log, peers)),
        ["compare", ref words @ ..] => {
            let (plan, clusters) = plan(words)?;
            drive(|dir, processes| compare::measure(&plan, &clusters, dir, processes))
        }
        ref words => match plan(words)? {
            (plan, clusters) if clusters.is_empty() => {
                drive(|dir, processes| Ok(table::render(&cells::measure(&plan, dir, processes)?)?))
            }
            _ => Err(USAGE.into()),
        },
    }
}

/// What the flags say, and the words after them.
fn plan<'a>(words: &[&'a str]) -> Outcome<(Plan, Vec<&'a str>)> {
    let mut plan = Plan {
        seconds: 3,
        repeats: 3,
        quorate: beside_this_program()?,
    };
    let mut words = words;
    while let [flag, value, rest @ ..] = words {
        match *flag {
            "--seconds" => plan.seconds = value.parse()?,
            "--repeats" => plan.repeats = value.parse()?,
            "--quorate" => plan.quorate = value.into(),
            _ => break,
        }
        words = rest;
    }
    Ok((plan, words.to_vec()))
}

/// `target/release/examples/limits` finds `target/release/quorate`.
fn beside_this_program() -> Outcome<PathBuf> {
    let mut path = std::env::current_exe()?;
    path.pop();
    path.pop();
    Ok(path.join("quorate"))
}

/// Measures on a thread, so that a signal can end everything that it has started, and prints what
/// was measured.
fn drive(measure: impl FnOnce(&Path, &Processes) -> Outcome<String> + Send) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let processes = Processes::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = std::thread::scope(|scope| {
        let (done, finished) = tokio::sync::oneshot::channel::<()>();
        let measuring = scope.spawn(|| {
            let outcome = measure(directory.path(), &processes);
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
    Ok(std::io::stdout().write_all(outcome?.as_bytes())?)
}
