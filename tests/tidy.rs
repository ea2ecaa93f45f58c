//! The house rules, enforced. Each rule is also tried on a planted violation, beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::path::Path;

/// Documents and how many lines each may have.
const DOCUMENTS: [(&str, usize); 2] = [("README.md", 150), ("ARCHITECTURE.md", 200)];

fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn rooms_import_only_what_the_design_allows() {
    let dependencies = rooms::dependencies(&source::read("Cargo.toml"));
    assert!(
        dependencies.iter().any(|name| name == "actix"),
        "{dependencies:?}"
    );
    let all = source::all();
    none(
        &all.iter()
            .flat_map(|s| rooms::imports(s, &dependencies))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_disk_and_the_ring_have_one_owner_each() {
    none(
        &source::all()
            .iter()
            .flat_map(rooms::owners)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn files_and_functions_are_small_named_and_say_why_they_exist() {
    none(
        &source::all()
            .iter()
            .flat_map(shape::shape)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_hides_a_failure_prints_or_sleeps() {
    none(
        &source::all()
            .iter()
            .flat_map(words::code)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_file_leaves_work_for_later_or_names_a_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut violations = Vec::new();
    for dir in ["src", "tests", "benches", "docs", "docker", ".ci", "fuzz"] {
        for path in source::files(root, dir)
            .iter()
            .filter(|p| !p.starts_with("tests/tidy"))
        {
            violations.extend(words::text(path, &source::read(path)));
        }
    }
    for path in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Makefile",
        "Cargo.toml",
    ] {
        if root.join(path).exists() {
            violations.extend(words::text(path, &source::read(path)));
        }
    }
    none(&violations);
}

#[test]
fn the_first_documents_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there = DOCUMENTS
        .iter()
        .filter(|(path, _)| root.join(path).exists());
    let long = there.filter_map(|(path, most)| too_long(path, &source::read(path), *most));
    none(&long.collect::<Vec<_>>());
}

fn too_long(path: &str, text: &str, most: usize) -> Option<String> {
    let lines = text.lines().count();
    (lines > most).then(|| format!("{path}: {lines} lines, may have {most}"))
}

#[test]
fn a_document_that_is_too_long_is_found() {
    assert_eq!(too_long("a", "1\n2\n", 2), None);
    assert!(too_long("a", "1\n2\n3\n", 2).is_some());
}

#[test]
fn the_project_is_found_at_all() {
    let all = source::all();
    for path in ["src/lib.rs", "src/dynamo/key.rs", "tests/tidy.rs"] {
        assert!(all.iter().any(|s| s.path == path), "{path}");
    }
}
