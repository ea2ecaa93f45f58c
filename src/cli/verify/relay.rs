//! Bad networks without root: every byte between two nodes passes here, where it may be kept, held
//! back, or lost with its connection, for each direction of each pair.
//!
//! A node is known to the others by its relay's address. Who calls is told by a header that nodes
//! put on every call.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

use super::super::bench::Random;
use super::super::response::header;
use crate::actors::link::FROM_HEADER;

/// Longest head of a call that is waited for.
const MAX_HEAD_BYTES: usize = 16 * 1024;

const READ_BYTES: usize = 16 * 1024;

/// What becomes of what one node sends to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Treatment {
    /// Nothing passes; it does once the cut is over.
    pub(super) cut: bool,
    /// Everything is late by this.
    pub(super) delay: Duration,
    /// So many bytes a second pass.
    pub(super) bytes_per_second: Option<u32>,
    /// Of a thousand pieces, so many end their connection.
    pub(super) resets_per_thousand: u16,
}

impl Treatment {
    /// Nothing passes.
    pub(super) fn cut() -> Self {
        Self {
            cut: true,
            ..Self::default()
        }
    }

    /// As over a bad long line.
    pub(super) fn slow() -> Self {
        Self {
            delay: Duration::from_millis(150),
            bytes_per_second: Some(64 * 1024),
            ..Self::default()
        }
    }

    /// Connections break again and again.
    pub(super) fn lossy() -> Self {
        Self {
            delay: Duration::from_millis(5),
            resets_per_thousand: 200,
            ..Self::default()
        }
    }
}

/// The treatment of each direction; whoever is not there is treated well.
type Weather = HashMap<(usize, usize), Treatment>;

/// The relays of all nodes. Its connections end with it.
pub(super) struct Relay {
    weather: watch::Sender<Weather>,
    /// How many pieces were treated badly.
    harmed: Rc<Cell<u64>>,
    listeners: Vec<AbortHandle>,
}

/// One direction of one connection.
struct Pipe {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    pair: (usize, usize),
    weather: watch::Receiver<Weather>,
    harmed: Rc<Cell<u64>>,
    random: Random,
}

impl Relay {
    /// Listens for each node on the first port of its pair, and passes on to the second. Nodes are
    /// told apart by these names.
    pub(super) async fn start(
        ports: &[(u16, u16)],
        names: Rc<[String]>,
        seed: u64,
    ) -> io::Result<Self> {
        let mut relay = Self {
            weather: watch::Sender::new(Weather::new()),
            harmed: Rc::default(),
            listeners: Vec::new(),
        };
        for (node, (at, behind)) in ports.iter().enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", *at)).await?;
            let names = Rc::clone(&names);
            let (weather, harmed) = (relay.weather.subscribe(), Rc::clone(&relay.harmed));
            let mut random = Random::new(seed ^ (node as u64));
            let behind = *behind;
            let task = spawn_local(async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let names = Rc::clone(&names);
                    let (weather, harmed) = (weather.clone(), Rc::clone(&harmed));
                    let seeds = [random.next(), random.next()];
                    connections.spawn_local(async move {
                        let to = (node, behind);
                        // Its end is what both sides see.
                        drop(pass(stream, to, &names, weather, harmed, seeds).await);
                    });
                    while connections.try_join_next().is_some() {}
                }
            });
            relay.listeners.push(task.abort_handle());
        }
        Ok(relay)
    }

    /// Treats these directions so, and all others well.
    pub(super) fn treat(&self, pairs: &[(usize, usize)], treatment: Treatment) {
        let weather = pairs.iter().map(|pair| (*pair, treatment)).collect();
        self.weather.send_replace(weather);
    }

    /// Treats everything well.
    pub(super) fn heal(&self) {
        self.weather.send_replace(Weather::new());
    }

    /// How many pieces have been treated badly so far.
    pub(super) fn harmed(&self) -> u64 {
        self.harmed.get()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listeners.iter().for_each(AbortHandle::abort);
    }
}

/// Carries one connection, until either side or the weather ends it.
async fn pass(
    stream: TcpStream,
    (node, behind): (usize, u16),
    names: &[String],
    weather: watch::Receiver<Weather>,
    harmed: Rc<Cell<u64>>,
    seeds: [u64; 2],
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    let caller = loop {
        if !read_some(&stream, &mut head).await? || head.len() > MAX_HEAD_BYTES {
            return Ok(());
        }
        if head.windows(4).any(|w| w == b"\r\n\r\n") {
            let name = header(&head, FROM_HEADER);
            break names.iter().position(|n| Some(n.as_str()) == name);
        }
    };
    let Some(caller) = caller else {
        return Ok(());
    };
    let onward = TcpStream::connect(("127.0.0.1", behind)).await?;
    onward.set_nodelay(true)?;
    let ((from_caller, to_caller), (from_node, to_node)) =
        (stream.into_split(), onward.into_split());
    let [there, back] = seeds;
    let there = Pipe {
        from: from_caller,
        to: to_node,
        pair: (caller, node),
        weather: weather.clone(),
        harmed: Rc::clone(&harmed),
        random: Random::new(there),
    };
    let back = Pipe {
        from: from_node,
        to: to_caller,
        pair: (node, caller),
        weather,
        harmed,
        random: Random::new(back),
    };
    tokio::select! {
        ended = there.run(head) => ended,
        ended = back.run(Vec::new()) => ended,
    }
}

/// Appends what there is; `false` at the end of the stream.
async fn read_some(stream: &TcpStream, out: &mut Vec<u8>) -> io::Result<bool> {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut bytes) {
            Ok(n) => {
                out.extend_from_slice(bytes.get(..n).unwrap_or_default());
                return Ok(n > 0);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

impl Pipe {
    /// Passes on what was read already, and then what comes.
    async fn run(mut self, first: Vec<u8>) -> io::Result<()> {
        let mut bytes = first;
        loop {
            if !bytes.is_empty() && !self.endure(bytes.len()).await {
                return Ok(());
            }
            self.write(&bytes).await?;
            bytes.clear();
            if !read_some(self.from.as_ref(), &mut bytes).await? {
                return Ok(());
            }
        }
    }

    /// Waits as the weather has it; `false` if the connection is to break.
    async fn endure(&mut self, bytes: usize) -> bool {
        let pair = self.pair;
        let is_open = |weather: &Weather| weather.get(&pair).is_none_or(|t| !t.cut);
        let now = self.weather.borrow().get(&pair).copied();
        let Some(treatment) = now else {
            return true;
        };
        self.harmed.set(self.harmed.get() + 1);
        if self.weather.wait_for(is_open).await.is_err() {
            return false;
        }
        let mut wait = treatment.delay;
        if let Some(rate) = treatment.bytes_per_second {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            wait += Duration::from_secs(1) * bytes / rate.max(1);
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
        self.random.below(1000) >= usize::from(treatment.resets_per_thousand)
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.to.try_write(bytes) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.to.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
