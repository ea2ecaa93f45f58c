//! What is not written: swallowed errors, promises for later, sleeps in tests, and traces of the
//! machine somebody wrote it on.

use super::source::Source;

/// May wait for a process outside, under a deadline.
const MAY_SLEEP: [&str; 1] = ["tests/support/process.rs"];

/// In any file of the project, comments included.
const LATER: [&str; 2] = ["TODO", "FIXME"];

/// Paths of one machine, and hosts that only some networks have.
const MACHINE: [&str; 7] = [
    "/root/",
    "/home/",
    "/work/",
    "/tmp/wt",
    "artifactory",
    "jfrog",
    "index.crates.io",
];

/// In code.
pub(crate) fn code(source: &Source) -> Vec<String> {
    let mut out = Vec::new();
    let mut ban = |found: bool, what: &str| {
        if found {
            out.push(format!("{}: {what}", source.path));
        }
    };
    let (all, shipped, tests) = (&source.code, source.shipped(), source.tests());
    ban(drops_a_result(all), "`.ok();` hides a failure");
    ban(all.contains("let _ ="), "`let _ =` hides a failure");
    let prints = shipped.contains("println!") || shipped.contains("print!");
    let may_print = source.room() == Some("cli") || source.path.starts_with("benches/");
    ban(
        prints && !may_print,
        "only the command line and benchmarks print",
    );
    let may_sleep = MAY_SLEEP.contains(&source.path.as_str());
    let sleeps = tests.contains("sleep(") && !is_paused(tests) || tests.contains("thread::sleep");
    ban(sleeps && !may_sleep, "a test sleeps");
    out
}

/// Whether a statement ends in `.ok();` and keeps nothing of it.
fn drops_a_result(code: &str) -> bool {
    code.match_indices(".ok();").any(|(at, _)| {
        let begin = code[..at].rfind([';', '{', '}']).map_or(0, |n| n + 1);
        let statement = code[begin..at].trim_start();
        !statement.contains(" = ") && !statement.starts_with("return ")
    })
}

/// Whether time stands still in these tests, so that a sleep passes at once.
fn is_paused(tests: &str) -> bool {
    tests.contains("start_paused = true") || tests.contains("time::pause()")
}

/// In any text.
pub(crate) fn text(path: &str, text: &str) -> Vec<String> {
    let later = LATER.iter().filter(|word| text.contains(**word));
    let later = later.map(|word| format!("{path}: {word}"));
    let machine = MACHINE.iter().filter(|word| text.contains(**word));
    let machine = machine.map(|word| format!("{path}: {word} is of one machine or network"));
    later.chain(machine).collect()
}

#[test]
fn a_banned_word_in_code_is_found() {
    let test = |body: &str| format!("#[cfg(test)]\nmod tests {{ {body} }}");
    let rows = [
        ("src/a.rs", "f().ok();".to_owned(), 1),
        ("src/a.rs", "let x = f().ok()?;".to_owned(), 0),
        ("src/a.rs", "let x = f().ok();".to_owned(), 0),
        ("src/a.rs", "let x = 1;\nf(x).ok();".to_owned(), 1),
        ("src/a.rs", "let _ = f();".to_owned(), 1),
        ("src/a.rs", "let _unused = f();".to_owned(), 0),
        ("src/a.rs", "println!(\"\");".to_owned(), 1),
        ("src/a.rs", "eprintln!(\"\");".to_owned(), 1),
        ("src/a.rs", "// println!\nf(\"println!\");".to_owned(), 0),
        ("src/cli/a.rs", "println!(\"\");".to_owned(), 0),
        ("benches/a/main.rs", "println!(\"\");".to_owned(), 0),
        ("src/a.rs", "sleep(x).await;".to_owned(), 0),
        ("src/a.rs", test("sleep(x).await;"), 1),
        (
            "src/a.rs",
            test("#[tokio::test(start_paused = true)] fn f() { sleep(x) }"),
            0,
        ),
        (
            "src/a.rs",
            test("#[tokio::test(start_paused = true)] fn f() { thread::sleep(x) }"),
            1,
        ),
        ("tests/a.rs", "thread::sleep(x);".to_owned(), 1),
        (
            "tests/support/process.rs",
            "thread::sleep(x);".to_owned(),
            0,
        ),
    ];
    for (path, text, want) in rows {
        let got = code(&Source::new(path, &text));
        assert_eq!(got.len(), want, "{path} {text:?}: {got:?}");
    }
}

#[test]
fn a_banned_word_in_text_is_found() {
    let rows = [
        ("// TODO: later", 1),
        ("FIXME", 1),
        ("see /home/somebody/x", 1),
        ("nothing of the kind", 0),
    ];
    for (sample, want) in rows {
        assert_eq!(text("a", sample).len(), want, "{sample}");
    }
}
