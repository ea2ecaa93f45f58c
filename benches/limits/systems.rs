//! The three systems that are measured, started on free ports.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Outcome;
use super::process::Processes;

/// How often a system may be asked, twenty times a second, until it serves.
const ASKED_AT_MOST: u32 = 1200;

/// A system that serves.
#[derive(Debug)]
pub(crate) struct System {
    /// Where its nodes take requests.
    pub(crate) endpoints: Vec<String>,
    /// Its processes.
    pub(crate) ids: Vec<u32>,
}

/// The bare echo: one process.
pub(crate) fn echo(processes: &Processes) -> Outcome<System> {
    let endpoints = vec![free_address()?];
    let mut command = Command::new(std::env::current_exe()?);
    let ids = vec![processes.start(command.arg("echo").args(&endpoints))?];
    until(processes, &endpoints, connects)?;
    Ok(System { endpoints, ids })
}

/// The coordinator without logic: three processes.
pub(crate) fn bare(processes: &Processes, dir: &Path) -> Outcome<System> {
    let endpoints = three_free_addresses()?;
    let mut ids = Vec::new();
    for (i, own) in endpoints.iter().enumerate() {
        let mut command = Command::new(std::env::current_exe()?);
        let log = dir.join(format!("bare-{i}.log"));
        let peers = endpoints.iter().filter(|other| *other != own);
        ids.push(processes.start(command.args(["bare", own]).arg(log).args(peers))?);
    }
    until(processes, &endpoints, connects)?;
    Ok(System { endpoints, ids })
}

/// A cluster: three processes, as an operator would start them, with these flags beside the needed.
pub(crate) fn cluster(
    processes: &Processes,
    dir: &Path,
    quorate: &Path,
    flags: &[&str],
) -> Outcome<System> {
    let (endpoints, peers) = (three_free_addresses()?, three_free_addresses()?);
    let (admins, seeds) = (three_free_addresses()?, peers.join(","));
    let mut ids = Vec::new();
    for (i, ((client, admin), peer)) in endpoints.iter().zip(&admins).zip(&peers).enumerate() {
        let name = format!("n{}", i + 1);
        let mut command = Command::new(quorate);
        command
            .args(["server", "--exit-with-stdin", "--workers", "1"])
            .args(["--name", &name, "--client", client, "--admin", admin])
            .args(["--peer", peer, "--seeds", &seeds, "--data-dir"])
            .arg(dir.join(&name))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ids.push(processes.start(&mut command)?);
    }
    until(processes, &endpoints, is_ready)?;
    Ok(System { endpoints, ids })
}

fn three_free_addresses() -> Outcome<Vec<String>> {
    (0..3).map(|_| free_address()).collect()
}

/// Free when asked: nobody promises that it stays so, but ports are given out in turn.
fn free_address() -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

fn until(processes: &Processes, all: &[String], serves: fn(&str) -> bool) -> Outcome<()> {
    for _ in 0..ASKED_AT_MOST {
        if all.iter().all(|address| serves(address)) {
            return Ok(());
        }
        if !processes.are_alive()? {
            return Err("a process ended before it served".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("a system does not come up".into())
}

fn connects(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

fn is_ready(address: &str) -> bool {
    ureq::get(format!("http://{address}/readyz")).call().is_ok()
}
