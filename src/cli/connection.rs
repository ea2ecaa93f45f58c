//! A kept-alive HTTP/1.1 connection, one request at a time. It is this small because the load
//! generator shares its cores with the nodes it measures.

use std::io;

use tokio::net::TcpStream;

use super::response::{self, Frame, Malformed};

const READ_BYTES: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// No connection: nothing was sent.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// The connection failed with the request under way.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// It ended instead of an answer.
    #[error("the connection was closed without an answer")]
    Closed,
    /// The answer is not HTTP as we know it.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
}

/// An open connection.
pub(super) struct Connection {
    stream: TcpStream,
    /// What was read is in front; the rest is space.
    bytes: Vec<u8>,
    read: usize,
}

/// A whole answer, valid until the next request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Response<'a> {
    /// Its status.
    pub(super) status: u16,
    /// Status line and headers.
    pub(super) head: &'a [u8],
    /// Its body.
    pub(super) body: &'a [u8],
    /// Whether the connection is of no further use.
    pub(super) close: bool,
}

impl Connection {
    /// Connects to `host:port`.
    pub(super) async fn open(address: &str) -> Result<Self, Broken> {
        let stream = TcpStream::connect(address).await.map_err(Broken::Connect)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            bytes: vec![0; READ_BYTES],
            read: 0,
        })
    }

    /// Sends a whole request and waits for its whole answer. After an error the connection is of
    /// no further use.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Response<'_>, Broken> {
        self.send(request).await?;
        let frame = self.receive().await?;
        let (head, body) = self.bytes.split_at(frame.head);
        Ok(Response {
            status: frame.status,
            head,
            body: body.get(..frame.body).unwrap_or_default(),
            close: frame.close,
        })
    }

    /// Whether the other side has ended it, or said something that nobody asked for: then it is of
    /// no further use.
    pub(super) fn is_spent(&self) -> bool {
        !matches!(self.stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    async fn send(&self, mut request: &[u8]) -> Result<(), Broken> {
        while !request.is_empty() {
            match self.stream.try_write(request) {
                Ok(n) => request = request.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Reads one answer to the front of the buffer.
    async fn receive(&mut self) -> Result<Frame, Broken> {
        self.read = 0;
        let mut frame = None;
        loop {
            if frame.is_none() {
                frame = response::frame(self.bytes.get(..self.read).unwrap_or_default())?;
            }
            if let Some(frame) = frame.filter(|f| f.head + f.body <= self.read) {
                return Ok(frame);
            }
            self.read_some().await?;
        }
    }

    async fn read_some(&mut self) -> Result<(), Broken> {
        if self.read == self.bytes.len() {
            self.bytes.resize(self.read * 2, 0);
        }
        let space = self.bytes.get_mut(self.read..).unwrap_or_default();
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(space) {
                Ok(0) => return Err(Broken::Closed),
                Ok(n) => {
                    self.read += n;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Writes a request; `fields` are further header lines, each ended by CR LF.
pub(super) fn write_request(
    out: &mut Vec<u8>,
    method: &str,
    path: &str,
    host: &str,
    fields: &str,
    body: Option<&[u8]>,
) {
    out.clear();
    for part in [
        method,
        " ",
        path,
        " HTTP/1.1\r\nhost: ",
        host,
        "\r\n",
        fields,
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(body) = body {
        out.extend_from_slice(b"content-type: application/json\r\ncontent-length: ");
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

/// A key as a path segment: everything but letters, digits and `-._~` is percent-encoded.
pub(super) fn segment(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for b in key.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            const HEX: [char; 16] = [
                '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
            ];
            let digit = |n: u8| HEX.get(usize::from(n)).copied();
            out.push('%');
            out.extend(digit(b >> 4).into_iter().chain(digit(b & 15)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn keys_become_one_path_segment() {
        let rows = [
            ("cart:7", "cart%3A7"),
            ("a/b?c=d&e", "a%2Fb%3Fc%3Dd%26e"),
            ("%", "%25"),
            ("ä ", "%C3%A4%20"),
            ("A-z.0_9~", "A-z.0_9~"),
        ];
        for (key, want) in rows {
            assert_eq!(segment(key), want);
        }
    }

    #[test]
    fn a_request_carries_a_length_exactly_if_it_has_a_body() {
        let mut out = Vec::new();
        write_request(&mut out, "GET", "/v1/k", "h:1", "", None);
        assert_eq!(out, b"GET /v1/k HTTP/1.1\r\nhost: h:1\r\n\r\n");
        write_request(&mut out, "PUT", "/v1/k", "h:1", "a: b\r\n", Some(b"{}"));
        let want = "PUT /v1/k HTTP/1.1\r\nhost: h:1\r\na: b\r\n\
                    content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    /// A server that answers each request on one connection with the next of these, then closes.
    fn scripted(answers: &'static [&'static str]) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                for piece in answer.as_bytes().chunks(7) {
                    stream.write_all(piece).unwrap();
                    stream.flush().unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn one_connection_carries_one_exchange_after_another() {
        let address = scripted(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        ]);
        let mut connection = Connection::open(&address).await.unwrap();
        let first = connection
            .exchange(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(
            (first.status, first.body, first.close),
            (200, &b"hello"[..], false)
        );
        let second = connection
            .exchange(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(
            (second.status, second.body, second.close),
            (404, &b"{}"[..], true)
        );
    }

    #[tokio::test]
    async fn an_answer_that_ends_half_way_is_no_answer() {
        let address = scripted(&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"]);
        let mut connection = Connection::open(&address).await.unwrap();
        let got = connection.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(matches!(got, Err(Broken::Closed)), "{got:?}");
    }
}
