//! Source files as the rules see them: with and without comments and strings, and told apart into
//! what ships and what tests it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One file.
pub(crate) struct Source {
    /// From the project's root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The same lines, with comments and the insides of strings blanked out.
    pub(crate) code: String,
    /// Where in `code` the tests begin.
    tests: usize,
}

impl Source {
    /// A file of this content.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let whole = path.starts_with("tests/") || path.ends_with("tests.rs");
        let tests = if whole { 0 } else { test_module(&code) };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tests,
            code,
        }
    }

    /// The code that ships.
    pub(crate) fn shipped(&self) -> &str {
        &self.code[..self.tests]
    }

    /// The code that tests it.
    pub(crate) fn tests(&self) -> &str {
        &self.code[self.tests..]
    }

    /// The directory or file below `src` that it belongs to.
    pub(crate) fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }
}

/// What follows `mod`, up to the first semicolon, in an item that is a module.
fn declared(item: &str) -> Option<&str> {
    let item = item.strip_prefix("pub").map_or(item, |public| {
        let path = public.strip_prefix('(').and_then(|p| p.split_once(')'));
        path.map_or(public, |(_, rest)| rest).trim_start()
    });
    let name = item.strip_prefix("mod ")?;
    Some(name.split_once(';').map_or(name, |(name, _)| name))
}

/// Where the first `#[cfg(test)] mod` with its content begins.
fn test_module(code: &str) -> usize {
    let marks = code.match_indices("#[cfg(test)]");
    let mut starts = marks.filter(|(at, mark)| {
        let rest = code[at + mark.len()..].trim_start();
        // A declaration at the top of a file does not make tests of what follows it.
        declared(rest).is_some_and(|name| name.contains('{'))
    });
    starts.next().map_or(code.len(), |(at, _)| at)
}

/// Every Rust file of the project. A module that its parent declares under `#[cfg(test)]` is tests.
pub(crate) fn all() -> Vec<Source> {
    let mut sources = Vec::new();
    for dir in ["src", "tests", "benches"] {
        for path in files(Path::new(env!("CARGO_MANIFEST_DIR")), dir) {
            if Path::new(&path).extension().is_some_and(|e| e == "rs") {
                sources.push(Source::new(&path, &read(&path)));
            }
        }
    }
    let of_tests: BTreeSet<String> = sources.iter().flat_map(test_files).collect();
    for source in &mut sources {
        if of_tests.contains(&source.path) {
            source.tests = 0;
        }
    }
    sources
}

/// The files that a source's test modules may be.
fn test_files(source: &Source) -> Vec<String> {
    let dir = match source.path.strip_suffix("/mod.rs") {
        Some(dir) => dir,
        None => source.path.strip_suffix(".rs").unwrap_or_default(),
    };
    let declared = source
        .code
        .split("#[cfg(test)]")
        .skip(1)
        .filter_map(|rest| {
            let name = declared(rest.trim_start())?;
            (!name.contains('{')).then(|| format!("{dir}/{name}.rs"))
        });
    declared.collect()
}

/// A file's content, by its path from the project's root.
pub(crate) fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let bytes = std::fs::read(&full).unwrap_or_else(|e| panic!("{path}: {e}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All files below a directory of the root, by their paths from there, sorted.
pub(crate) fn files(root: &Path, dir: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut open = vec![PathBuf::from(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&dir)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else {
                out.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    out.sort();
    out
}

/// Replaces comments and the insides of string and character literals by spaces; keeps all lines.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw_from = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let (keep, hide) = match first {
            '/' if rest.starts_with("//") => (0, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (0, rest.find("*/").map_or(rest.len(), |n| n + 2)),
            '"' => (1, quoted(&rest[1..])),
            'r' if !raw_from && rest[1..].trim_start_matches('#').starts_with('"') => raw(rest),
            '\'' => (1, character(&rest[1..])),
            other => (other.len_utf8(), 0),
        };
        out.push_str(&rest[..keep]);
        let hidden = &rest[keep..keep + hide];
        out.extend(hidden.chars().map(|c| if c == '\n' { c } else { ' ' }));
        rest = &rest[keep + hide..];
        let closes = first == '"' || first == '\'' && hide > 0;
        if closes && rest.starts_with(first) {
            out.push(first);
            rest = &rest[1..];
        }
    }
    out
}

/// How long the inside of a string is.
fn quoted(inside: &str) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    inside.len()
}

/// How much of a raw string is kept, and how much hidden.
fn raw(rest: &str) -> (usize, usize) {
    let hashes = rest[1..].len() - rest[1..].trim_start_matches('#').len();
    let keep = 1 + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let hide = rest[keep..]
        .find(&end)
        .map_or(rest.len() - keep, |n| n + end.len());
    (keep, hide)
}

/// How long the inside of a character literal is; 0 for a lifetime.
fn character(inside: &str) -> usize {
    let mut chars = inside.char_indices();
    match chars.next() {
        Some((_, '\\')) => inside[2..].find('\'').map_or(0, |n| n + 2),
        Some((_, c)) if inside[c.len_utf8()..].starts_with('\'') => c.len_utf8(),
        _ => 0,
    }
}

#[test]
fn comments_and_strings_are_blanked_and_code_is_not() {
    let rows = [
        ("a // b\nc", "a     \nc"),
        ("a /* b\n*/ c", "a     \n   c"),
        ("f(\"x \\\" y\") + g", "f(\"      \") + g"),
        ("r#\"a \" b\"# c", "r#\"        c"),
        ("x: &'a str = '\"';", "x: &'a str = ' ';"),
        ("'\\'' // \"", "'  '"),
        ("['a','\"','b'] // x", "[' ',' ',' ']"),
    ];
    for (text, want) in rows {
        let got = blank(text);
        assert_eq!(got.trim_end(), want, "{text:?}");
        assert_eq!(got.lines().count(), text.lines().count());
    }
}

#[test]
fn tests_are_told_from_what_ships() {
    let text =
        "fn a() {}\n#[cfg(test)]\nfn h() {}\nfn b() {}\n#[cfg(test)]\nmod tests { fn c() {} }\n";
    let source = Source::new("src/x/y.rs", text);
    assert!(source.shipped().contains("fn b") && !source.shipped().contains("fn c"));
    assert!(source.tests().contains("fn c"));
    assert_eq!(Source::new("tests/x.rs", "fn a() {}").shipped(), "");
    assert_eq!(source.room(), Some("x"));
    assert_eq!(Source::new("src/node.rs", "").room(), Some("node"));
    let declares = Source::new("src/x/mod.rs", "#[cfg(test)]\nmod laws;\n");
    assert_eq!(test_files(&declares), ["src/x/laws.rs"]);
}

#[test]
fn only_a_test_module_with_its_content_ends_what_ships() {
    let rows = [
        ("mod a;\n#[cfg(test)]\nmod tests;\nfn f() {}", 40),
        ("#[cfg(test)]\npub(crate) mod fake;\nmod b;", 40),
        ("fn f() {}\n#[cfg(test)]\nmod tests { use a; }", 10),
        (
            "fn f() {}\n#[cfg(test)]\npub(crate) mod tests { use a; }",
            10,
        ),
    ];
    for (text, ships) in rows {
        let source = Source::new("src/a.rs", text);
        assert_eq!(source.shipped().len(), ships, "{text}");
    }
    let parent = Source::new("src/a/mod.rs", rows[1].0);
    assert_eq!(test_files(&parent), ["src/a/fake.rs"]);
}
