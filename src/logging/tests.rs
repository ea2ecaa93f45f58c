//! Lines read back as strictly as a log store would.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use slog::{Serde, crit, debug, error, info, warn};
use tempfile::TempDir;

use self::lines::Line;
use super::*;
use crate::config::LogLevel;

/// As the tests of whole nodes read them.
#[path = "../../tests/support/lines.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "it is a module of other tests, too"
)]
mod lines;

/// A log into a file.
pub(crate) struct Fixture {
    dir: TempDir,
    pub(crate) log: Logger,
    control: LogControl,
}

impl Fixture {
    pub(crate) fn start(level: LogLevel) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let queue = Queue::start("test", control::open(&path).unwrap()).unwrap();
        let control = LogControl::new(level, None, Some((path, queue.clone())));
        let drain = Outlets {
            control: control.clone(),
            json: vec![queue],
            tail: json::tail("n1"),
            text: None,
        };
        let log = Logger::root(drain, o!());
        Self { dir, log, control }
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// The lines about one kind of event, each as the table of fields has it.
    pub(crate) fn told(&self, action: &str) -> usize {
        let lines = self.lines();
        let lines = lines.iter().map(|line| Line::parse(line).unwrap());
        let told = lines.filter(|line| line.is("event.action", action));
        told.inspect(|line| assert_eq!(line.faults(), Vec::<String>::new()))
            .count()
    }

    fn lines(&self) -> Vec<String> {
        self.control.flush();
        self.text("log").lines().map(str::to_owned).collect()
    }

    fn messages(&self) -> Vec<String> {
        let text = |line: &String| Line::parse(line).unwrap().text("message").to_owned();
        self.lines().iter().map(text).collect()
    }
}

#[test]
fn the_strict_reader_refuses_a_field_that_is_there_twice() {
    assert!(Line::parse("{\"a\":1,\"b\":2}").is_ok());
    let twice = Line::parse("{\"a\":1,\"a\":1}").unwrap_err();
    assert!(twice.contains("a is there twice"), "{twice}");
}

#[test]
fn a_line_is_one_object_whose_first_fields_are_time_level_and_message() {
    let log = Fixture::start(LogLevel::Info);
    let narrowed = log.log.new(o!("log.logger" => "store"));
    let hostile = "a\"b\\c\nd\u{1b}[31m\u{2028}é";
    warn!(narrowed, "key {} is odd", hostile; "quorate.partition" => 7,
        "error.message" => hostile, "quorate.keys.sample" => Serde(vec![hostile, "b"]));
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let fields = Line::parse(&lines[0]).unwrap();
    let names: Vec<&str> = fields.0.iter().map(|(n, _)| n.as_str()).collect();
    let first: Vec<&str> = FIELDS.iter().take(4).map(|field| field.name).collect();
    assert_eq!(names[..4], first[..]);
    assert_eq!(names[..3], ["@timestamp", "log.level", "message"]);
    let expected = serde_json::json!({
        "log.level": "warn",
        "message": format!("key {hostile} is odd"),
        "ecs.version": "8.11.0",
        "service.name": "quorate",
        "service.version": env!("CARGO_PKG_VERSION"),
        "service.node.name": "n1",
        "event.dataset": "quorate.node",
        "log.logger": "store",
        "error.message": hostile,
        "quorate.partition": 7,
        "quorate.keys.sample": [hostile, "b"],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(fields.get(name), Some(value), "{name}");
    }
    assert_eq!(names.len(), expected.as_object().unwrap().len() + 1);
    let stamp = fields.text("@timestamp");
    assert!(stamp.len() == 24 && stamp.ends_with('Z'), "{stamp}");
}

/// A record is stamped where it is logged: not when the thread that writes comes to it.
#[test]
fn lines_have_the_time_of_the_call() {
    let log = Fixture::start(LogLevel::Info);
    let mut bounds = Vec::new();
    for _ in 0..3 {
        let before = clock::stamp().to_string();
        info!(log.log, "now");
        bounds.push((before, clock::stamp().to_string()));
        while clock::stamp().to_string() == bounds.last().unwrap().1 {
            std::hint::spin_loop();
        }
    }
    for (line, (before, after)) in log.lines().iter().zip(bounds) {
        let fields = Line::parse(line).unwrap();
        let stamp = fields.text("@timestamp");
        assert!(
            *before <= *stamp && *stamp <= *after,
            "{before} {stamp} {after}"
        );
    }
}

#[test]
fn lines_below_the_level_are_not_written_and_the_level_can_change() {
    let log = Fixture::start(LogLevel::Info);
    debug!(log.log, "below");
    info!(log.log, "at");
    error!(log.log, "above");
    assert_eq!(log.messages(), ["at", "above"]);
    assert_eq!(log.control.level(), LogLevel::Info);
    for level in LevelName::ALL {
        log.control.set_level(level);
        assert_eq!(log.control.level(), level);
        assert_eq!(LevelName::parse(LevelName(level).as_str()), Some(level));
        let shows_debug = level >= LogLevel::Debug;
        assert_eq!(log.log.is_enabled(Level::Debug), shows_debug, "{level:?}");
    }
    debug!(log.log, "now seen");
    assert_eq!(log.messages().len(), 3);
    assert_eq!(log.control.lost(), 0);
}

/// A node ends right after such a line.
#[test]
fn the_most_important_lines_are_written_before_the_call_returns() {
    let log = Fixture::start(LogLevel::Info);
    info!(log.log, "before");
    crit!(log.log, "the end");
    assert_eq!(log.text("log").lines().count(), 2);
}

#[test]
fn a_moved_log_file_is_left_alone_once_it_is_opened_again() {
    let log = Fixture::start(LogLevel::Info);
    info!(log.log, "one");
    log.control.flush();
    let dir = log.dir.path();
    std::fs::rename(dir.join("log"), dir.join("log.1")).unwrap();
    info!(log.log, "two");
    log.control.flush();
    log.control.reopen().unwrap();
    info!(log.log, "three");
    assert_eq!(log.messages(), ["three"]);
    assert_eq!(log.text("log.1").lines().count(), 2);
    std::fs::remove_dir_all(dir).unwrap();
    assert!(log.control.reopen().is_err());
    info!(log.log, "goes on in the old file");
    log.control.flush();
    assert_eq!(log.control.lost(), 0);
}

#[test]
fn a_log_file_is_never_cut_and_a_line_cut_off_in_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for (there, then) in [("", ""), ("{}\n", "{}\n"), ("{\"a", "{\"a\n")] {
        std::fs::write(&path, there).unwrap();
        drop(control::open(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), then);
    }
}

/// Logs while it is shown.
struct Odd<'a>(&'a Logger);

impl fmt::Display for Odd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        info!(self.0, "within");
        f.write_str("odd")
    }
}

#[test]
fn a_value_that_logs_while_it_is_shown_makes_two_lines() {
    let log = Fixture::start(LogLevel::Info);
    info!(log.log, "around {}", Odd(&log.log));
    assert_eq!(log.messages(), ["within", "around odd"]);
}

/// Keeps what each call wrote.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<String>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.0.lock().unwrap().push(text);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn text_is_stamped_in_utc_and_written_once_a_record() {
    let page = Page::default();
    let log = Logger::root(text(page.clone()).ignore_res(), o!());
    info!(log, "listening"; "address" => "127.0.0.1:8080");
    let lines = page.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (stamp, rest) = lines[0].split_once(' ').unwrap();
    assert!(stamp.len() == 24 && stamp.ends_with('Z'), "{stamp}");
    assert_eq!(rest, "INFO listening, address: 127.0.0.1:8080\n");
}

/// A log store makes an object of every part before a dot: it cannot be a value as well.
#[test]
fn no_field_is_another_ones_object() {
    let names: BTreeSet<&str> = FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names.len(), FIELDS.len());
    for name in &names {
        let dots = name.match_indices('.').map(|(at, _)| &name[..at]);
        for object in dots {
            assert!(!names.contains(object), "{object} of {name}");
        }
    }
}
