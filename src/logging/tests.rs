//! Lines read back as strictly as a log store would.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use slog::{debug, error, info, warn};

use super::*;

/// Keeps what each call wrote.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<String>>>);

impl Page {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

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

/// Fails the first time.
struct Flaky(Page, bool);

impl Write for Flaky {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.1) {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A JSON object's fields in their order; a field that is there twice is an error.
#[derive(Debug)]
struct Fields(Vec<(String, serde_json::Value)>);

impl Fields {
    fn of(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    fn get(&self, name: &str) -> &serde_json::Value {
        &self.0.iter().find(|(n, _)| n == name).unwrap().1
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Strict;
        impl<'de> Visitor<'de> for Strict {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, serde_json::Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    if fields.iter().any(|(n, _)| *n == name) {
                        return Err(serde::de::Error::custom(format!("{name} is there twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Strict)
    }
}

fn json_logger(page: &Page, level: Level) -> (Logger, LostLines) {
    let lost = LostLines::default();
    let drain = JsonLines(Mutex::new(page.clone()));
    let node = "n1".to_owned();
    (logger(drain, level, &lost, o!(Identity { node })), lost)
}

#[test]
fn the_strict_reader_refuses_a_field_that_is_there_twice() {
    assert!(Fields::of("{\"a\":1,\"b\":2}").is_ok());
    let twice = Fields::of("{\"a\":1,\"a\":1}").unwrap_err().to_string();
    assert!(twice.contains("a is there twice"), "{twice}");
}

#[test]
fn a_line_is_one_object_whose_first_fields_are_time_level_and_message() {
    let page = Page::default();
    let (log, _lost) = json_logger(&page, Level::Info);
    let narrowed = log.new(o!("log.logger" => "store"));
    let hostile = "a\"b\\c\nd\u{1b}[31m\u{2028}é";
    warn!(narrowed, "key {} is odd", hostile; "quorate.key.hash" => 7, "error.message" => hostile);
    let lines = page.lines();
    assert_eq!(lines.len(), 1, "one write call a record");
    assert_eq!(lines[0].matches('\n').count(), 1, "{:?}", lines[0]);
    let fields = Fields::of(&lines[0]).unwrap();
    let names: Vec<&str> = fields.0.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names[..3], ["@timestamp", "log.level", "message"]);
    assert_eq!(fields.get("log.level"), "warn");
    assert_eq!(
        fields.get("message"),
        format!("key {hostile} is odd").as_str()
    );
    assert_eq!(fields.get("error.message"), hostile);
    assert_eq!(fields.get("quorate.key.hash"), 7);
    assert_eq!(fields.get("log.logger"), "store");
    for (name, value) in [
        ("ecs.version", "8.11.0"),
        ("service.name", "quorate"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.node.name", "n1"),
        ("event.dataset", "quorate.node"),
    ] {
        assert_eq!(fields.get(name), value, "{name}");
    }
    let stamp = fields.get("@timestamp").as_str().unwrap();
    assert!(stamp.len() == 24 && stamp.ends_with('Z'), "{stamp}");
}

#[test]
fn lines_below_the_level_are_not_written_and_not_lost() {
    let page = Page::default();
    let (log, lost) = json_logger(&page, Level::Info);
    debug!(log, "below");
    info!(log, "at");
    error!(log, "above");
    let messages: Vec<String> = page.lines();
    assert_eq!(messages.len(), 2);
    assert_eq!(Fields::of(&messages[0]).unwrap().get("message"), "at");
    assert_eq!(lost.count(), 0);
}

#[test]
fn a_write_that_fails_is_counted_and_the_next_line_is_whole() {
    let page = Page::default();
    let lost = LostLines::default();
    let drain = JsonLines(Mutex::new(Flaky(page.clone(), true)));
    let log = logger(drain, Level::Info, &lost, o!());
    info!(log, "lost");
    info!(log, "kept");
    assert_eq!(lost.count(), 1);
    let lines = page.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(Fields::of(&lines[0]).unwrap().get("message"), "kept");
}

#[test]
fn text_is_stamped_in_utc_and_written_once_a_record() {
    let page = Page::default();
    let lost = LostLines::default();
    let log = logger(text(page.clone()), Level::Info, &lost, o!());
    info!(log, "listening"; "address" => "127.0.0.1:8080");
    let lines = page.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (stamp, rest) = lines[0].split_once(' ').unwrap();
    assert!(stamp.len() == 24 && stamp.ends_with('Z'), "{stamp}");
    assert_eq!(rest, "INFO listening, address: 127.0.0.1:8080\n");
}
