//! Where a verb writes, and tables for people.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

/// A command's two ways out.
pub(super) struct Streams<'a> {
    /// What was asked for.
    pub(super) data: &'a mut dyn Write,
    /// What a person may like to know besides.
    pub(super) chatter: &'a mut dyn Write,
    /// Whether a person reads the data.
    pub(super) is_terminal: bool,
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// `-o`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct OutputArgs {
    /// How the data is written
    #[arg(short, long, value_enum)]
    pub(super) output: Option<Format>,
}

impl OutputArgs {
    /// What was asked for; otherwise a table on a terminal and JSON into a pipe.
    pub(super) fn for_reports(self, streams: &Streams<'_>) -> Format {
        let usual = if streams.is_terminal {
            Format::Table
        } else {
            Format::Json
        };
        self.output.unwrap_or(usual)
    }

    /// Whether JSON was asked for.
    pub(super) fn is_json(self) -> bool {
        self.output == Some(Format::Json)
    }
}

/// Writes a line of bytes as they are.
pub(super) fn line(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(b"\n")
}

/// Writes rows with their columns aligned; the first row is the head.
pub(super) fn table(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let text: Vec<String> = cells.map(|(cell, &w)| format!("{cell:<w$}")).collect();
        writeln!(out, "{}", text.join("  ").trim_end())?;
    }
    Ok(())
}

/// A JSON value as a table's cell.
pub(super) fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let rows = [
            row(&["NAME", "STATE"]),
            row(&["n1", "READY"]),
            row(&["läng", ""]),
        ];
        let mut out = Vec::new();
        table(&mut out, &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "NAME  STATE\nn1    READY\nläng\n");
    }

    #[test]
    fn cells_show_absence_and_no_control_characters() {
        let rows = [
            (json!(null), "-"),
            (json!("a\u{1b}[31m"), "a\\u{1b}[31m"),
            (json!(7), "7"),
            (json!(true), "true"),
        ];
        for (value, want) in rows {
            assert_eq!(cell(Some(&value)), want);
        }
        assert_eq!(cell(None), "-");
    }
}
