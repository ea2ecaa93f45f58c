//! A connection that ends when its client lets it hang. The framework bounds the first head of a
//! connection and its idle time; this bounds what it leaves open: a later head, a body or an answer
//! that moves by a byte now and then, for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Fails with `TimedOut` when something begun makes no end in time: what was read since the last
/// write must be written to, and what is written must be taken.
pub struct TimedStream<T> {
    inner: T,
    timeout: Duration,
    /// The first byte read since the last write came at this time.
    begun: Option<Instant>,
    /// Since this time, the peer has not taken all that was written.
    stalled: Option<Instant>,
    /// Never later than the next time at which something may have to end.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<T> TimedStream<T> {
    /// Wraps a fresh connection.
    #[must_use]
    pub fn new(inner: T, timeout: Duration) -> Self {
        Self {
            inner,
            timeout,
            begun: None,
            stalled: None,
            alarm: None,
        }
    }

    /// Ready with an error once it is over; else the task will be woken when it may be.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Some(since) = self.begun.into_iter().chain(self.stalled).min() else {
                return Poll::Pending;
            };
            let end = since + self.timeout;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
            if alarm.deadline() > end {
                alarm.as_mut().reset(end);
            }
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= end {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            // It was set for an exchange that has since ended well.
            alarm.as_mut().reset(end);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedStream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if buf.filled().len() > before && this.begun.is_none() {
            this.begun = Some(Instant::now());
        }
        if let Poll::Ready(over) = this.poll_over(cx) {
            return Poll::Ready(Err(over));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begun = None;
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        if written.is_pending() && this.stalled.is_none() {
            this.stalled = Some(Instant::now());
        }
        if let Poll::Ready(over) = this.poll_over(cx) {
            return Poll::Ready(Err(over));
        }
        written
    }

    /// The framework flushes when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.stalled = None;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn connection(buffer: usize) -> (DuplexStream, TimedStream<DuplexStream>) {
        let (client, server) = duplex(buffer);
        (client, TimedStream::new(server, LIMIT))
    }

    async fn reads_timed_out(server: &mut TimedStream<DuplexStream>) -> bool {
        let outcome = server.read_u8().await;
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_ends_after_the_limit() {
        let (mut client, mut server) = connection(64);
        let start = Instant::now();
        let mut read = 0;
        let ended = loop {
            client.write_u8(b'x').await.unwrap();
            match server.read_u8().await {
                Ok(_) => read += 1,
                Err(error) => break error,
            }
            advance(SECOND).await;
        };
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMIT);
        assert_eq!(read, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_begun_exchange_ends_even_if_nothing_more_comes() {
        let (mut client, mut server) = connection(64);
        client.write_u8(b'x').await.unwrap();
        server.read_u8().await.unwrap();
        let start = Instant::now();
        assert!(reads_timed_out(&mut server).await);
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_exchange_and_idling_is_allowed() {
        let (mut client, mut server) = connection(64);
        for _ in 0..10 {
            client.write_u8(b'x').await.unwrap();
            server.read_u8().await.unwrap();
            advance(20 * SECOND).await;
            server.write_u8(b'y').await.unwrap();
            server.flush().await.unwrap();
        }
        let idle = timeout(100 * LIMIT, server.read_u8()).await;
        assert!(idle.is_err(), "an idle connection was ended: {idle:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_exchange_has_the_whole_limit_again() {
        let (mut client, mut server) = connection(64);
        client.write_u8(b'x').await.unwrap();
        server.read_u8().await.unwrap();
        // Arms the alarm, which then is too early for what follows.
        assert!(timeout(20 * SECOND, server.read_u8()).await.is_err());
        server.write_u8(b'y').await.unwrap();
        server.flush().await.unwrap();
        client.write_u8(b'x').await.unwrap();
        server.read_u8().await.unwrap();
        let start = Instant::now();
        assert!(reads_timed_out(&mut server).await);
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_ends_after_the_limit() {
        let (_client, mut server) = connection(4);
        let start = Instant::now();
        let ended = server.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_taken_byte_by_byte_ends_after_the_limit() {
        let (mut client, mut server) = connection(4);
        let answer = vec![b'y'; 1000];
        let start = Instant::now();
        let write = server.write_all(&answer);
        let sip = async {
            loop {
                client.read_u8().await.unwrap();
                tokio::time::sleep(SECOND).await;
            }
        };
        let ended = tokio::select! {
            outcome = write => outcome.unwrap_err(),
            () = sip => unreachable!("the client reads for ever"),
        };
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMIT);
    }
}
