//! Deadlines of a process that may itself be stopped for a while: when it goes on, its timers are
//! all over at once, and the answers that came in time are still in its sockets.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

/// A timer that goes off so much too late tells that the process was stopped, or starved.
const BELATED: Duration = Duration::from_millis(100);

/// What it takes to hear what has arrived meanwhile; well within what a deadline may be overrun by.
const GRACE: Duration = Duration::from_millis(150);

/// Whether a timer that was due then has gone off much too late.
pub(super) fn is_belated(due: Instant) -> bool {
    Instant::now() >= due + BELATED
}

/// As `timeout_at`, but what arrived while this process was stopped is heard first.
///
/// # Errors
/// [`Elapsed`].
pub(super) async fn timely<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let outcome = timeout_at(deadline, &mut future).await;
    if outcome.is_err() && is_belated(deadline) {
        return timeout(GRACE, future).await;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::{advance, pause};

    use super::*;

    /// The future needs a second step after the timers are over, as an answer in a socket does.
    async fn heard(stopped_for: Duration, answered_after: Duration) -> bool {
        let (sender, receiver) = oneshot::channel();
        let deadline = Instant::now() + Duration::from_secs(1);
        let waiting = actix::spawn(timely(deadline, receiver));
        tokio::task::yield_now().await;
        advance(stopped_for).await;
        tokio::task::yield_now().await;
        advance(answered_after).await;
        tokio::task::yield_now().await;
        let _gone = sender.send(());
        waiting.await.unwrap().is_ok()
    }

    #[actix::test]
    async fn only_a_process_that_was_stopped_waits_a_little_longer() {
        pause();
        let milli = Duration::from_millis;
        assert!(heard(milli(3000), milli(10)).await);
        assert!(!heard(milli(3000), milli(200)).await);
        assert!(!heard(milli(1010), milli(10)).await);
        assert!(heard(milli(500), milli(10)).await);
    }
}
