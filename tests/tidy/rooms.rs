//! Which room may know which: the table of the design, and its invariants.

use super::source::Source;

/// Every room may know the [`mutant`](quorate::mutant) to be caught: without its feature it is a
/// constant `false`, so it gives the pure core nothing to read.
const EVERYWHERE: &str = "mutant";

/// A room, the rooms it may import, and the crates it may not.
struct Room {
    name: &'static str,
    may: &'static [&'static str],
    never: &'static [&'static str],
}

const ASYNC: [&str; 7] = [
    "actix",
    "actix_http",
    "actix_rt",
    "actix_server",
    "actix_service",
    "actix_web",
    "awc",
];

const ROOMS: &[Room] = &[
    Room {
        name: "dynamo",
        may: &[],
        never: &[],
    },
    Room {
        name: "storage",
        may: &["dynamo", "wire", "limits"],
        never: &["actix", "actix_rt", "actix_web", "awc", "tokio"],
    },
    Room {
        name: "wire",
        may: &["dynamo", "limits"],
        never: &[
            "actix",
            "actix_rt",
            "actix_web",
            "awc",
            "tokio",
            "fjall",
            "slog",
        ],
    },
    Room {
        name: "discovery",
        may: &["dynamo", "limits", "clock", "metrics"],
        never: &["actix_web", "fjall"],
    },
    Room {
        name: "actors",
        may: &[
            "dynamo",
            "storage",
            "wire",
            "discovery",
            "limits",
            "clock",
            "logging",
            "metrics",
        ],
        never: &["actix_web", "fjall"],
    },
    Room {
        name: "http",
        may: &[
            "dynamo", "wire", "actors", "limits", "clock", "logging", "metrics",
        ],
        never: &["fjall"],
    },
    Room {
        name: "config",
        may: &["dynamo", "limits"],
        never: &ASYNC,
    },
    Room {
        name: "logging",
        may: &["config", "clock", "limits"],
        never: &ASYNC,
    },
    Room {
        name: "limits",
        may: &["dynamo", "wire"],
        never: &ASYNC,
    },
    Room {
        name: "mutant",
        may: &[],
        never: &ASYNC,
    },
    Room {
        name: "clock",
        may: &[],
        never: &ASYNC,
    },
    Room {
        name: "metrics",
        may: &["dynamo"],
        never: &ASYNC,
    },
];

/// The only crates that the pure core may use.
const DYNAMO_CRATES: [&str; 2] = ["fnv", "bytes"];

/// What would give the pure core a clock, files, threads or chance.
const IMPURE: [&str; 8] = [
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
];

/// Actors of which `http` may not know the structs: it sends messages to recipients.
const KEEPERS: [&str; 4] = [
    "StoreKeeper",
    "RingKeeper",
    "ReadCoordinator",
    "WriteCoordinator",
];

/// Imports against the table.
pub(crate) fn imports(source: &Source, dependencies: &[String]) -> Vec<String> {
    let Some(room) = ROOMS.iter().find(|r| source.room() == Some(r.name)) else {
        return Vec::new();
    };
    let code = source.shipped();
    let mut out = Vec::new();
    for other in after(code, "crate::") {
        if ![room.name, EVERYWHERE].contains(&other) && !room.may.contains(&other) {
            out.push(format!(
                "{}: {} may not know {other}",
                source.path, room.name
            ));
        }
    }
    let climbs = source.path == format!("src/{}/mod.rs", room.name)
        || source.path == format!("src/{}.rs", room.name);
    if climbs && code.contains("super::") {
        out.push(format!("{}: leaves its room by super::", source.path));
    }
    for name in dependencies
        .iter()
        .filter(|name| uses(code, &format!("{name}::")))
    {
        let pure = room.name == "dynamo" && !DYNAMO_CRATES.contains(&name.as_str());
        if pure || room.never.contains(&name.as_str()) {
            out.push(format!("{}: {} may not use {name}", source.path, room.name));
        }
    }
    if room.name == "dynamo" {
        let impure = IMPURE.iter().filter(|what| uses(code, what));
        out.extend(impure.map(|what| format!("{}: dynamo may not use {what}", source.path)));
    }
    out
}

/// Who may write to disk, replace the ring, and know an actor's struct.
pub(crate) fn owners(source: &Source) -> Vec<String> {
    let (path, code) = (source.path.as_str(), source.shipped());
    let mut out = Vec::new();
    let room = source.room().unwrap_or("");
    let keeps_store = path.starts_with("src/actors/store_keeper");
    if !matches!(room, "dynamo" | "storage" | "") && !keeps_store && code.contains(".commit(") {
        out.push(format!("{path}: only the store keeper commits"));
    }
    let stores = code.contains(".store(") || code.contains(".rcu(") || code.contains(".swap(");
    let ring = code.contains("ArcSwap<View>") || code.contains("ArcSwap<Ring>");
    if !room.is_empty() && stores && ring && !code.contains("struct RingPublisher") {
        out.push(format!("{path}: only RingPublisher replaces the ring"));
    }
    if room == "http" {
        let known = KEEPERS.iter().filter(|name| uses(code, name));
        out.extend(known.map(|name| format!("{path}: http may not know {name}")));
    }
    out
}

/// The word behind each occurrence of a prefix; each of `{a, b}` too.
fn after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                out.extend(list.split(',').map(word).filter(|w| !w.is_empty()));
            }
            None => out.push(word(rest)),
        }
    }
    out
}

fn word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Whether the code has the path, not as the end of a longer name or path.
fn uses(code: &str, path: &str) -> bool {
    let mut found = code.match_indices(path);
    found.any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
    })
}

/// The dependencies' names as code writes them.
pub(crate) fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or("");
    let section = section.split("\n[").next().unwrap_or("");
    let names = section.lines().filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

#[test]
fn an_import_against_the_table_is_found() {
    let crates = ["actix", "bytes", "fjall", "serde", "slog", "tokio"].map(str::to_owned);
    let rows = [
        (
            "src/dynamo/a.rs",
            "use crate::dynamo::key::Key;\nuse bytes::Bytes;",
            0,
        ),
        ("src/dynamo/a.rs", "use crate::wire::x;", 1),
        ("src/dynamo/a.rs", "use serde::Serialize;", 1),
        ("src/dynamo/a.rs", "fn f() { std::fs::read(p) }", 1),
        (
            "src/dynamo/a.rs",
            "use std::time::Instant;\nfn f() { Instant::now(); }",
            1,
        ),
        ("src/dynamo/a.rs", "use crate::mutant::Mutant;", 0),
        ("src/mutant.rs", "use crate::dynamo::key::Key;", 1),
        (
            "src/dynamo/a.rs",
            "// crate::wire::x\nfn f() { g(\"crate::actors\") }",
            0,
        ),
        (
            "src/dynamo/a.rs",
            "#[cfg(test)]\nmod tests { use crate::wire::x; }",
            0,
        ),
        (
            "src/storage/a.rs",
            "use crate::{dynamo::key, actors::x, http};",
            2,
        ),
        (
            "src/storage/a.rs",
            "fn f(x: crate::actors::X, y: tokio::sync::Y) {}",
            2,
        ),
        ("src/storage/mod.rs", "use super::actors;", 1),
        ("src/storage/a.rs", "use super::engine;", 0),
        ("src/wire/a.rs", "use fjall::Keyspace;", 1),
        ("src/actors/a.rs", "use crate::http::Dto;", 1),
        ("src/http/a.rs", "use crate::storage::Engine;", 1),
        ("src/http/a.rs", "use crate::actors::request::Read;", 0),
        ("src/node.rs", "use crate::{actors, http, storage};", 0),
        ("src/config/a.rs", "use crate::actors::X;", 1),
    ];
    for (path, text, want) in rows {
        let got = imports(&Source::new(path, text), &crates);
        assert_eq!(got.len(), want, "{path} {text:?}: {got:?}");
    }
}

#[test]
fn a_second_owner_is_found() {
    let swap = "use arc_swap::ArcSwap;\nfn f(r: &ArcSwap<Ring>) { r.store(x) }";
    let rows = [
        (
            "src/actors/handoff.rs",
            "fn f() { self.engine.commit(x) }",
            1,
        ),
        (
            "src/actors/store_keeper.rs",
            "fn f() { self.engine.commit(x) }",
            0,
        ),
        ("src/storage/memory.rs", "fn f() { batch.commit() }", 0),
        ("src/actors/peer.rs", swap, 1),
        (
            "src/actors/ring.rs",
            &format!("pub struct RingPublisher;\n{swap}"),
            0,
        ),
        (
            "src/actors/peer.rs",
            "fn f(n: &AtomicU64) { n.store(1, Relaxed) }",
            0,
        ),
        ("src/http/a.rs", "fn f(a: Addr<StoreKeeper>) {}", 1),
        ("src/actors/a.rs", "fn f(a: Addr<StoreKeeper>) {}", 0),
    ];
    for (path, text, want) in rows {
        let got = owners(&Source::new(path, text));
        assert_eq!(got.len(), want, "{path} {text:?}: {got:?}");
    }
}

#[test]
fn dependencies_are_read_from_the_manifest() {
    let manifest =
        "[package]\nname = \"x\"\n\n[dependencies]\nactix-web = \"4\"\nfnv = \"1\"\n\n[x]\na = 1\n";
    assert_eq!(dependencies(manifest), ["actix_web", "fnv"]);
}
