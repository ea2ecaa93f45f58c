//! Waiting for processes that nobody here is the parent of. This is the one file of the tests that
//! may sleep: it looks again and again, up to a deadline.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io;
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

/// The processes that this one has started, and what each calls itself.
pub(crate) fn children(of: u32) -> io::Result<BTreeMap<u32, String>> {
    let all = std::fs::read_dir("/proc")?;
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let named = pids.filter_map(|pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: the state, and who started it.
        let (_, rest) = stat.rsplit_once(") ")?;
        let parent: u32 = rest.split(' ').nth(1)?.parse().ok()?;
        let title = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (parent == of && !title.is_empty()).then_some((pid, title))
    });
    Ok(named.collect())
}

/// Between two looks at another process, which cannot be awaited.
pub(crate) fn pause() {
    sleep(LOOK_EVERY);
}
