//! Real connections between one caller and one node that answers every call with the same.

use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use super::super::super::connection::Broken;
use super::super::asker::{Asker, Question};
use super::*;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

/// A server that answers each request on each connection.
async fn node() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            spawn_local(async move {
                let mut request = Vec::new();
                while read_some(&stream, &mut request)
                    .await
                    .is_ok_and(|more| more)
                {
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        assert_eq!(stream.try_write(answer).unwrap(), answer.len());
                    }
                }
            });
        }
    });
    port
}

/// A relay before one node, b, which a calls; and a's connection.
async fn relay() -> (Relay, Asker) {
    let behind = node().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = free.local_addr().unwrap().port();
    drop(free);
    // The first node of the pair is never called here.
    let ports = [(0, behind), (at, behind)];
    let names = ["a", "b"].map(str::to_owned);
    let relay = Relay::start(&ports, Rc::new(names), 1).await.unwrap();
    (relay, Asker::new(format!("127.0.0.1:{at}")))
}

async fn call(asker: &mut Asker, from: &str, time: Duration) -> Result<u16, Broken> {
    let question = Question {
        method: "GET",
        path: "/",
        fields: &format!("{FROM_HEADER}: {from}\r\n"),
        body: None,
    };
    asker.ask(question, time).await.map(|reply| reply.status)
}

#[tokio::test]
async fn a_cut_holds_back_one_direction_until_it_heals() {
    let test = async {
        let (relay, mut asker) = relay().await;
        assert_eq!(call(&mut asker, "a", LONG).await.unwrap(), 200);
        assert_eq!(relay.harmed(), 0);
        for pair in [(0, 1), (1, 0)] {
            relay.treat(&[pair], Treatment::cut());
            let cut = call(&mut asker, "a", SHORT).await;
            assert!(matches!(cut, Err(Broken::TimedOut)), "{pair:?}: {cut:?}");
            let mut open = Asker::new(asker.endpoint.clone());
            let held = spawn_local(async move { call(&mut open, "a", LONG).await });
            assert!(timeout(SHORT, relay.weather.closed()).await.is_err());
            relay.heal();
            assert_eq!(held.await.unwrap().unwrap(), 200, "{pair:?}");
        }
        assert!(relay.harmed() > 0);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_pair_that_is_not_meant_is_not_harmed() {
    let test = async {
        let (relay, mut asker) = relay().await;
        relay.treat(&[(0, 1), (1, 0)], Treatment::cut());
        assert_eq!(call(&mut asker, "b", LONG).await.unwrap(), 200);
        assert_eq!(relay.harmed(), 0);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn slow_links_are_late_and_lossy_links_break() {
    let test = async {
        let (relay, mut asker) = relay().await;
        let late = Treatment {
            delay: Duration::from_millis(40),
            ..Treatment::default()
        };
        relay.treat(&[(0, 1), (1, 0)], late);
        let begin = Instant::now();
        assert_eq!(call(&mut asker, "a", LONG).await.unwrap(), 200);
        assert!(begin.elapsed() >= 2 * late.delay, "{:?}", begin.elapsed());
        let breaks = Treatment {
            resets_per_thousand: 1000,
            ..Treatment::default()
        };
        relay.treat(&[(0, 1)], breaks);
        let broken = call(&mut asker, "a", LONG).await;
        assert!(
            matches!(broken, Err(Broken::Closed | Broken::Io(_))),
            "{broken:?}"
        );
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_caller_without_a_name_is_not_passed_on() {
    let test = async {
        let (_relay, mut asker) = relay().await;
        let unknown = call(&mut asker, "c", LONG).await;
        assert!(
            matches!(unknown, Err(Broken::Closed | Broken::Io(_))),
            "{unknown:?}"
        );
    };
    LocalSet::new().run_until(test).await;
}
