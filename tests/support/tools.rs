//! The programs that stand around a cluster, in the versions that `tests/tools.sh` installs.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};

/// Where it is; fails the test, and says what to do, if it is not there.
pub fn tool(name: &str) -> PathBuf {
    let by = format!("tests/tools.sh {name}");
    installed(&format!("bin/{name}"), &by)
}

/// What the project itself installs, which lies there wherever cargo builds; fails the test if it
/// is not there, and says what installs it.
pub fn installed(path: &str, by: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there = root.join("target/tools").join(path);
    let install = format!("this test needs {path}: run `{by}` as root on Debian 12");
    assert!(there.exists(), "{install}");
    there
}
