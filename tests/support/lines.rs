//! Log lines, read as strictly as a log store would.

use std::fmt;
use std::path::Path;

use quorate::logging::{FIELDS, Kind};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// One line: its fields in their order, each there once.
#[derive(Debug, Clone)]
pub struct Line(pub Vec<(String, Value)>);

impl Line {
    /// The line, if it is one object without a field that is there twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|why| format!("{why} in {text}"))
    }

    /// All lines of a file; the last one must be whole as well.
    pub fn all(path: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(path).expect("a log file");
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{} is cut off",
            path.display()
        );
        Self::in_text(path, &text)
    }

    /// The lines of a file that is being written to.
    pub fn so_far(path: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        Self::in_text(path, &text[..whole])
    }

    fn in_text(path: &Path, text: &str) -> Vec<Self> {
        let parse =
            |line| Self::parse(line).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        text.lines().map(parse).collect()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// A field that holds a text; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field that holds a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    pub fn is(&self, name: &str, value: &str) -> bool {
        self.get(name).is_some_and(|v| v == value)
    }

    /// What is wrong with the line by the table of fields.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let names = self.0.iter().map(|(name, _)| name.as_str());
        let first = FIELDS.iter().take(4).map(|field| field.name);
        if !names.take(4).eq(first) {
            faults.push("it begins otherwise".to_owned());
        }
        for (name, value) in &self.0 {
            match FIELDS.iter().find(|field| field.name == name) {
                None => faults.push(format!("{name} is not in the table")),
                Some(field) if !holds(field.kind, value) => {
                    faults.push(format!("{name} is {value}"));
                }
                Some(_) => {}
            }
        }
        faults
    }
}

fn holds(kind: Kind, value: &Value) -> bool {
    let is_word = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    match kind {
        Kind::Date => value.as_str().is_some_and(is_stamp),
        Kind::Text | Kind::Keyword => is_word(value),
        Kind::Keywords => value.as_array().is_some_and(|all| all.iter().all(is_word)),
        Kind::Long => value.as_u64().is_some_and(|n| i64::try_from(n).is_ok()),
        Kind::Boolean => value.is_boolean(),
    }
}

/// `2026-11-24T13:00:00.000Z`
fn is_stamp(text: &str) -> bool {
    let shape = text.replace(|c: char| c.is_ascii_digit(), "0");
    shape == "0000-00-00T00:00:00.000Z"
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Strict;
        impl<'de> Visitor<'de> for Strict {
            type Value = Line;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
                let mut fields: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    if fields.iter().any(|(n, _)| *n == name) {
                        return Err(Error::custom(format!("{name} is there twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Line(fields))
            }
        }
        from.deserialize_map(Strict)
    }
}
