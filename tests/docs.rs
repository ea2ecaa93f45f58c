//! The documents tell the truth: links lead somewhere, flags and codes exist, the example
//! configuration loads.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use quorate::config::{Config, Settings};
use quorate::http::api_error::Code;
use quorate::logging::{FIELDS, Field, Kind};
use quorate::metrics::catalogue;

const EXAMPLE: &str = "docs/quorate.example.toml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Every document, relative to the root.
fn documents() -> Vec<String> {
    let mut all = Vec::new();
    for dir in ["", "docs/"] {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|e| e == "md") {
                all.push(format!("{dir}{name}"));
            }
        }
    }
    assert!(all.len() > 3, "{all:?}");
    all
}

/// Where the document's links lead.
fn links(text: &str) -> Vec<&str> {
    let ends = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    ends.filter_map(|rest| rest.split(')').next()).collect()
}

/// The fragments that a document's headings make, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
            _ => None,
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

/// Links of one document that lead nowhere.
fn broken_links(path: &str, text: &str) -> Vec<String> {
    let folder = root().join(path).parent().unwrap().to_owned();
    let is_broken = |link: &&str| {
        if link.starts_with("http://") || link.starts_with("https://") {
            return false;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target: PathBuf = if file.is_empty() {
            root().join(path)
        } else {
            folder.join(file)
        };
        let there = target.exists();
        let heading = anchor.is_empty()
            || std::fs::read_to_string(&target).is_ok_and(|t| anchors(&t).contains(anchor));
        !(there && heading)
    };
    let broken = links(text).into_iter().filter(is_broken);
    broken.map(|link| format!("{path}: {link}")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut documents = documents();
    documents.push("docker/README.md".to_owned());
    let broken = documents.iter().flat_map(|d| broken_links(d, &read(d)));
    assert_eq!(broken.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let rows = [
        ("[a](docs/api.md)", 0),
        ("[a](docs/no-such.md)", 1),
        ("[a](docs/api.md#limits)", 0),
        ("[a](docs/api.md#no-such-heading)", 1),
        ("[a](https://example.org/x)", 0),
        ("no link", 0),
    ];
    for (text, want) in rows {
        assert_eq!(broken_links("README.md", text).len(), want, "{text}");
    }
}

/// The long flags that a text names, in any number of words.
fn flags(text: &str) -> BTreeSet<&str> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text.split(|c: char| !is_flag(c));
    let flags = words.filter(|w| w.starts_with("--") && w.len() > 2 && !w.starts_with("---"));
    flags.collect()
}

/// What the command says of one of its verbs.
fn help(verb: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.args(verb).arg("--help").output().unwrap();
    assert!(output.status.success(), "{verb:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the command says of one of its verbs, and of the verbs below that.
fn whole_help(verb: String) -> (String, String) {
    let mut text = help(&[&verb]);
    if text.contains("\nCommands:\n") {
        let below = listed(&text);
        text.extend(below.iter().map(|below| help(&[&verb, below])));
    }
    (verb, text)
}

/// The verbs, from the list in the command's own help.
fn verbs() -> Vec<String> {
    listed(&help(&[]))
}

fn listed(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.split_whitespace().next());
    names.filter(|n| *n != "help").map(str::to_owned).collect()
}

#[test]
fn every_flag_that_the_documents_name_exists() {
    let verbs = verbs();
    assert!(verbs.iter().any(|verb| verb == "server"), "{verbs:?}");
    let helps: Vec<(String, String)> = verbs.into_iter().map(whole_help).collect();
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document).replace("\\\n", " ");
        for line in text
            .lines()
            .filter(|l| !l.contains("cargo ") && !l.contains("docker "))
        {
            let named = |verb: &str| line.contains(&format!("quorate {verb}"));
            let narrow = helps.iter().filter(|(verb, _)| named(verb));
            let narrow: Vec<_> = narrow.collect();
            let any = if narrow.is_empty() {
                helps.iter().collect()
            } else {
                narrow
            };
            for flag in flags(line) {
                if !any.iter().any(|(_, help)| flags(help).contains(flag)) {
                    missing.push(format!("{document}: {flag} in {line:?}"));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_verb_is_in_the_readme() {
    let readme = read("README.md");
    for verb in verbs() {
        assert!(readme.contains(&format!("quorate {verb}")), "{verb}");
    }
}

#[test]
fn every_error_code_is_explained() {
    let api = read("docs/api.md");
    for code in Code::ALL {
        let row = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
        assert!(api.contains(&row), "docs/api.md has no row {row}");
    }
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let text = read("docs/operations-metrics.md");
    let table = text.split("## Every metric").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let wanted: Vec<String> = catalogue::ALL.iter().map(|spec| spec.row()).collect();
    assert_eq!(rows.collect::<Vec<_>>(), wanted);
}

/// The example with every line that is commented-out TOML switched on.
fn everything(text: &str) -> String {
    let is_key = |line: &str| {
        let rest = line.strip_prefix('#')?;
        let first = rest.bytes().next()?;
        first.is_ascii_lowercase().then(|| rest.to_owned())
    };
    let lines = text
        .lines()
        .map(|l| is_key(l).unwrap_or_else(|| l.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_configuration_loads_as_it_is() {
    let flags = Settings {
        config: Some(root().join(EXAMPLE)),
        ..Settings::default()
    };
    let config = Config::load(flags).unwrap();
    assert_eq!(config.name.as_str(), "n1");
}

#[test]
fn the_example_configuration_has_every_setting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.toml");
    let text = everything(&read(EXAMPLE));
    std::fs::write(&file, &text).unwrap();
    Settings::read(&file).unwrap();
    let command = Settings::augment_args(clap::Command::new("server"));
    let shown = command.get_arguments().filter(|a| !a.is_hide_set());
    let names: Vec<&str> = shown.filter_map(clap::Arg::get_long).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "config") {
        let set = text
            .lines()
            .filter(|l| l.starts_with(&format!("{name} = ")));
        assert_eq!(set.count(), 1, "{name}");
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[test]
fn the_defaults_that_the_example_shows_are_the_defaults() {
    let shown = |key: &str| {
        let text = read(EXAMPLE);
        let start = format!("#{key} = ");
        let line = text.lines().find_map(|l| l.strip_prefix(&start));
        line.unwrap().trim_matches('"').to_owned()
    };
    let file = root().join(EXAMPLE);
    let bare = Settings {
        config: Some(file),
        ..Settings::default()
    };
    let is = Config::load(bare).unwrap();
    let rows = [
        ("client", is.listen.client.to_string()),
        ("admin", is.listen.admin.to_string()),
        ("peer", is.listen.peer.to_string()),
        ("replicas", is.replicas.to_string()),
        ("read-quorum", is.read_quorum.to_string()),
        ("write-quorum", is.write_quorum.to_string()),
        ("zone", is.zone),
        ("weight", is.weight.to_string()),
        ("durability", format!("{:?}", is.durability).to_lowercase()),
        ("storage", format!("{:?}", is.storage).to_lowercase()),
        ("max-in-flight", is.max_in_flight.to_string()),
        ("tombstone-grace", is.tombstone_grace.as_secs().to_string()),
        ("quarantine", is.quarantine.as_secs().to_string()),
        ("hint-bytes", is.hint_bytes.to_string()),
        ("auto-commit", is.auto_commit.to_string()),
        ("log-level", format!("{:?}", is.log_level).to_lowercase()),
        ("log-format", format!("{:?}", is.log_format).to_lowercase()),
        ("log-actions", yes_or_no(is.log_actions)),
        ("log-keys", yes_or_no(is.log_keys)),
    ];
    for (key, want) in rows {
        assert_eq!(shown(key), want, "{key}");
    }
}

const LOGS: &str = "docs/operations-logs.md";

#[test]
fn the_table_of_log_fields_is_that_of_the_code() {
    let text = read(LOGS);
    let (_, table) = text
        .split_once("| field | type | what it is |\n|---|---|---|\n")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let row = |field: &Field| {
        let kind = match field.kind {
            Kind::Date => "date",
            Kind::Text => "text",
            Kind::Keyword => "keyword",
            Kind::Keywords => "keywords",
            Kind::Long => "whole number",
            Kind::Boolean => "boolean",
        };
        format!("| `{}` | {kind} | {} |", field.name, field.about)
    };
    let rows: Vec<String> = FIELDS.iter().map(row).collect();
    assert_eq!(table.lines().collect::<Vec<_>>(), rows);
}

/// The text between the parentheses of every call of these in the sources.
fn calls(source: &str, names: &[&str]) -> Vec<String> {
    let mut calls = Vec::new();
    for name in names {
        for (at, _) in source.match_indices(&format!("{name}(")) {
            let (mut depth, mut quoted, mut call) = (0, false, String::new());
            let mut letters = source[at + name.len()..].chars();
            while let Some(letter) = letters.next() {
                call.push(letter);
                match letter {
                    '\\' if quoted => call.extend(letters.next()),
                    '"' => quoted = !quoted,
                    '(' if !quoted => depth += 1,
                    ')' if !quoted => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            calls.push(call);
        }
    }
    calls
}

/// The quoted texts of a call, and what follows each.
fn quoted(call: &str) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    let mut rest = call;
    while let Some((_, after)) = rest.split_once('"') {
        let Some((text, after)) = after.split_once('"') else {
            break;
        };
        out.push((text, after.trim_start()));
        rest = after;
    }
    out
}

#[test]
fn every_field_and_action_that_the_sources_log_is_documented() {
    let (doc, mut fields, mut actions) = (read(LOGS), BTreeSet::new(), BTreeSet::new());
    for file in sources(&root().join("src")) {
        let source = std::fs::read_to_string(&file).unwrap();
        let logged = [
            "trace!", "debug!", "info!", "warn!", "error!", "crit!", "o!",
        ];
        for call in calls(&source, &logged) {
            let texts = quoted(&call);
            let keys = texts.iter().filter(|(_, after)| after.starts_with("=>"));
            fields.extend(keys.map(|(key, _)| (*key).to_owned()));
            for pair in texts.windows(2).filter(|pair| pair[0].0 == "event.action") {
                actions.insert(pair[1].0.to_owned());
            }
        }
        for call in calls(
            &source,
            &[
                ".emit_str",
                ".emit_u64",
                ".emit_u16",
                ".emit_usize",
                ".emit_arguments",
            ],
        ) {
            fields.extend(quoted(&call).first().map(|(key, _)| (*key).to_owned()));
        }
    }
    assert!(
        fields.len() > 30 && actions.len() > 15,
        "{fields:?} {actions:?}"
    );
    let known = |name: &String| FIELDS.iter().any(|field| field.name == name);
    let unknown: Vec<&String> = fields.iter().filter(|name| !known(name)).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "not in logging::FIELDS");
    let unsaid = |action: &&String| !doc.contains(&format!("`{action}`"));
    let unsaid: Vec<&String> = actions.iter().filter(unsaid).collect();
    assert_eq!(unsaid, Vec::<&String>::new(), "not in {LOGS}");
}

/// Every file of the program that is not a test.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && name != "tests.rs" {
            all.push(path);
        }
    }
    all
}
