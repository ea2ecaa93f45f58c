//! Whole benchmarks against a server of a few lines that keeps the clocks of its keys.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: Args,
}

fn args(line: &str) -> Args {
    let words = std::iter::once("bench").chain(line.split_whitespace());
    Line::try_parse_from(words).unwrap().bench
}

/// The keys' write counts, which are their clocks, and how often a write came with another clock.
#[derive(Default)]
struct Book {
    writes: BTreeMap<String, u64>,
    stale: u64,
    refuse_puts: bool,
}

fn server(book: &Arc<Mutex<Book>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let book = Arc::clone(book);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, book) = (stream.unwrap(), Arc::clone(&book));
            std::thread::spawn(move || serve(stream, &book));
        }
    });
    address
}

fn serve(mut stream: TcpStream, book: &Mutex<Book>) {
    let mut from = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begin = head.len();
            if from.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = head[begin..].strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).unwrap();
        let (status, text) = answer(&head, &body, &mut book.lock().unwrap());
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        if stream
            .write_all(format!("{head}{text}").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn answer(head: &str, body: &[u8], book: &mut Book) -> (u16, String) {
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let writes = book.writes.get(&path).copied();
    if head.starts_with("GET") {
        let status = if writes.is_some() { 200 } else { 404 };
        return (
            status,
            format!("{{\"clock\":\"c{}\"}}", writes.unwrap_or(0)),
        );
    }
    if book.refuse_puts {
        return (503, "{\"code\":\"quorum_not_met\"}".to_owned());
    }
    let put: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(put["value"].to_string().len(), 50);
    book.stale += u64::from(put["clock"] != format!("c{}", writes.unwrap_or(0)));
    let count = book.writes.entry(path).or_default();
    *count += 1;
    (
        200,
        format!("{{\"message\":\"updated\",\"clock\":\"c{count}\",\"siblings\":1}}"),
    )
}

async fn bench(line: &str, book: &Arc<Mutex<Book>>) -> Result<Value, Failure> {
    let (one, two) = (server(book), server(book));
    let mut data = Vec::new();
    let mut streams = Streams {
        data: &mut data,
        chatter: &mut Vec::new(),
        is_terminal: false,
    };
    let line = format!("--endpoints {one},{two} --value-size 50 --seconds 0.3 {line}");
    let whole = run(args(&line), &mut streams);
    tokio::task::LocalSet::new().run_until(whole).await?;
    Ok(serde_json::from_slice(&data).unwrap())
}

#[tokio::test]
async fn every_put_carries_the_clock_of_the_keys_last_answer() {
    let book = Arc::new(Mutex::new(Book::default()));
    let report = bench("--op put --connections 4 --keys 10", &book)
        .await
        .unwrap();
    let book = book.lock().unwrap();
    assert_eq!((book.stale, book.writes.len()), (0, 10));
    assert!(report["operations"].as_u64().unwrap() > 10, "{report}");
    assert_eq!(report["failed"], 0);
    assert_eq!(report["latencies"][0]["op"], "put");
    assert_eq!(report["latencies"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn mixed_is_reads_and_writes() {
    let book = Arc::new(Mutex::new(Book::default()));
    let report = bench("--op mixed --connections 2 --keys 2", &book)
        .await
        .unwrap();
    let of = |n: usize| report["latencies"][n]["operations"].as_u64().unwrap();
    let (puts, gets) = (of(0), of(1));
    assert!(
        puts > 0 && gets > 0 && puts < 2 * gets && gets < 2 * puts,
        "{report}"
    );
}

#[tokio::test]
async fn a_rate_is_kept() {
    let book = Arc::new(Mutex::new(Book::default()));
    let line = "--op get --connections 3 --keys 3 --rate 100";
    let report = bench(line, &book).await.unwrap();
    let done = report["operations"].as_u64().unwrap() + report["unsent"].as_u64().unwrap();
    assert!((27..=33).contains(&done), "{report}");
}

#[tokio::test]
async fn refusals_are_counted_by_status_and_are_no_throughput() {
    let book = Arc::new(Mutex::new(Book::default()));
    bench("--op get --connections 2 --keys 2", &book)
        .await
        .unwrap();
    book.lock().unwrap().refuse_puts = true;
    let report = bench("--op mixed --connections 2 --keys 2", &book)
        .await
        .unwrap();
    assert!(report["errors"]["503"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["latencies"][0]["op"], "get");
    let nothing = bench("--op put --connections 1 --keys 1", &book).await;
    assert!(
        matches!(nothing, Err(Failure::NothingMeasured)),
        "{nothing:?}"
    );
}

#[tokio::test]
async fn arguments_that_do_not_go_together_are_refused() {
    let book = Arc::new(Mutex::new(Book::default()));
    let got = bench("--connections 3 --keys 2", &book).await;
    assert!(matches!(got, Err(Failure::Usage(_))), "{got:?}");
    let mut streams = Streams {
        data: &mut Vec::new(),
        chatter: &mut Vec::new(),
        is_terminal: false,
    };
    let got = run(args("--value-size 1"), &mut streams).await;
    assert!(matches!(got, Err(Failure::Usage(_))), "{got:?}");
}
