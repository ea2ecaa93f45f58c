//! A connection that is kept for the next request, by a client that knows what became of the last
//! one: ureq does not tell whether a connection was new, nor how much of an answer had arrived.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::http::Answer;

/// Nothing waits longer.
const DEADLINE: Duration = Duration::from_secs(15);

/// To one address; opened when it is needed.
pub struct Connection {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The connection had served before, and ended before the first byte of this answer: what a
    /// server does that closes an idle connection just then. RFC 9112 section 9.3.1 lets a client
    /// repeat an idempotent request.
    ClosedWhileKept,
    /// Anything else.
    Broken(io::Error),
}

impl Connection {
    pub fn to(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            stream: None,
        }
    }

    /// Sends a request with these lines after the host's, and waits for its answer.
    pub fn call(&mut self, head: &str, lines: &str, body: &str) -> Result<Answer, NoAnswer> {
        let is_kept = self.stream.is_some();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open().map_err(NoAnswer::Broken)?,
        };
        let request = format!(
            "{head} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n{lines}\r\n{body}",
            self.address,
            body.len()
        );
        let sent = stream.get_mut().write_all(request.as_bytes());
        let begun = sent.and_then(|()| stream.fill_buf().map(|bytes| !bytes.is_empty()));
        match begun {
            Ok(true) => {}
            Ok(false) if is_kept => return Err(NoAnswer::ClosedWhileKept),
            Err(error) if is_kept && is_end(&error) => return Err(NoAnswer::ClosedWhileKept),
            Ok(false) => return Err(NoAnswer::Broken(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(NoAnswer::Broken(error)),
        }
        let answer = receive(&mut stream).map_err(NoAnswer::Broken)?;
        let ends = answer.header("connection").eq_ignore_ascii_case("close");
        self.stream = (!ends).then_some(stream);
        Ok(answer)
    }

    /// Sends a request but for the rest of its body, which [`Connection::end`] sends.
    pub fn begin(&mut self, head: &str, lines: &str, body: &str, rest: &str) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open()?,
        };
        let request = format!(
            "{head} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n{lines}\r\n{body}",
            self.address,
            body.len() + rest.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        self.stream = Some(stream);
        Ok(())
    }

    /// The answer to a request that was begun.
    pub fn end(&mut self, rest: &str) -> io::Result<Answer> {
        let mut stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        stream.get_mut().write_all(rest.as_bytes())?;
        receive(&mut stream)
    }

    fn open(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(BufReader::new(stream))
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

/// Every answer here has a length.
fn receive(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|text| text.parse().ok());
    let headers = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    let mut answer = Answer {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: String::new(),
    };
    let length = answer.header("content-length").parse();
    let length: usize = length.map_err(|error| io::Error::other(format!("{error}: {answer:?}")))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    answer.body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(answer)
}
