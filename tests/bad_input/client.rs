//! A client that sends whatever bytes it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Nothing here waits longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Client(BufReader<TcpStream>);

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One request; the body's length is added to the headers.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// With a body declared as JSON.
    pub(crate) fn json(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type: application/json")
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { method, target, .. } = self;
        let mut out = format!("{method} {target} HTTP/1.1\r\nhost: quorate\r\n").into_bytes();
        for line in &self.headers {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        let announced = self.headers.iter().any(|line| {
            line.starts_with("content-length") || line.starts_with("transfer-encoding")
        });
        if !announced && !self.body.is_empty() {
            out.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// One end to send with and one to receive with.
    pub(crate) fn split(self) -> (Self, Self) {
        let sender = self.0.get_ref().try_clone().unwrap();
        (Self(BufReader::new(sender)), self)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn call(&mut self, call: &Call) -> Answer {
        self.send(&call.bytes());
        self.answer(&call.method)
    }

    /// The next answer; `method` tells whether it has a body.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).unwrap();
            assert!(read > 0, "the connection ended before an answer: {lines:?}");
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let status = lines.remove(0).split(' ').nth(1).unwrap().parse().unwrap();
        let split = |line: &String| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let headers: Vec<(String, String)> = lines.iter().map(split).collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |v| v.parse().unwrap());
        if method != "HEAD" && status != 100 {
            answer.body.resize(length, 0);
            self.0.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// Waits for the server to end the connection.
    pub(crate) fn ended(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    pub(crate) fn code(&self) -> String {
        let json = self.json();
        json["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn clock(&self) -> String {
        self.json()["clock"].as_str().unwrap().to_owned()
    }
}
