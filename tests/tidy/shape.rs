//! How large a file and a function may be, what a file is called, and that it says why it exists.

use super::source::Source;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

/// Sizes, names and module documentation.
pub(crate) fn shape(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut out = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        out.push(format!("{path}: {lines} lines"));
    }
    for (name, lines) in functions(&source.code) {
        if lines > FUNCTION_LINES {
            out.push(format!("{path}: {name} has {lines} lines"));
        }
    }
    let parts = path.trim_end_matches(".rs").split('/');
    for part in parts.filter(|p| EMPTY_NAMES.contains(p) || p.contains("manager")) {
        out.push(format!("{path}: {part} names nothing of the domain"));
    }
    if !source.text.starts_with("//! ") {
        out.push(format!("{path}: does not begin with //! and why it exists"));
    }
    out
}

/// Each function's name, and its lines of code between its outer braces.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts = code[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric());
        let rest = &code[at + 3..];
        let name = rest
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        if let (true, Some(name), Some(body)) = (starts, name, body(rest)) {
            let lines = body.lines().filter(|line| !line.trim().is_empty());
            out.push((name, lines.count()));
        }
    }
    out
}

/// Between the first brace and its partner; `None` for a declaration without a body.
fn body(rest: &str) -> Option<&str> {
    let mut nested = 0_i32;
    let open = rest.char_indices().find(|(_, c)| {
        nested += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        nested == 0 && matches!(c, '{' | ';')
    });
    let (open, _) = open.filter(|(_, c)| *c == '{')?;
    let mut depth = 0;
    for (at, c) in rest[open..].char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return Some(&rest[open + 1..open + at]);
        }
    }
    None
}

#[test]
fn a_file_out_of_shape_is_found() {
    let long_file = format!("//! A.\n{}", "\n".repeat(500));
    let function = |n: usize| format!("//! A.\nfn f() {{\n{}}}\n", "g();\n".repeat(n));
    let commented = format!("//! A.\nfn f() {{\n{}}}\n", "// c\n".repeat(100));
    let rows = [
        (
            "src/a.rs",
            "//! A.\nfn f(x: [u8; 3]);\nfn g() {}\n".to_owned(),
            0,
        ),
        ("src/a.rs", long_file, 1),
        ("src/a.rs", function(70), 0),
        ("src/a.rs", function(71), 1),
        ("src/a.rs", commented, 0),
        ("src/a.rs", "fn f() {}\n".to_owned(), 1),
        ("src/x/utils.rs", "//! A.\n".to_owned(), 1),
        ("src/helpers/a.rs", "//! A.\n".to_owned(), 1),
        ("src/x/ring_manager.rs", "//! A.\n".to_owned(), 1),
    ];
    for (path, text, want) in rows {
        let got = shape(&Source::new(path, &text));
        assert_eq!(got.len(), want, "{path} {text:.40?}: {got:?}");
    }
}
