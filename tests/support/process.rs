//! Waiting for processes that nobody here is the parent of. This is the one file of the tests that
//! may sleep: it looks again and again, up to a deadline.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Returns once the process is gone.
///
/// # Panics
/// When it is still there after this many seconds.
pub(crate) fn wait_until_gone(pid: u32, seconds: u32) {
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    for _ in 0..seconds * 50 {
        match std::fs::read_to_string(&stat) {
            Err(_) => return,
            Ok(text) if text.contains(") Z ") => return,
            Ok(_) => pause(),
        }
    }
    panic!("process {pid} is still there after {seconds} s");
}

/// Between two looks at another process, which cannot be awaited.
pub(crate) fn pause() {
    sleep(LOOK_EVERY);
}
