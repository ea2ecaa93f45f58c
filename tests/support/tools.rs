//! The programs that stand around a cluster, in the versions that `tests/tools.sh` installs.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};

/// Where it is; fails the test, and says what to do, if it is not there.
pub fn tool(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("target/tools/bin").join(name);
    let install =
        format!("this test needs {name}: run `tests/tools.sh {name}` as root on Debian 12");
    assert!(path.exists(), "{install}");
    path
}
