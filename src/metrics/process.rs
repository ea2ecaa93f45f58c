//! What the operating system says of this process, in the names that every client library uses.

use std::fs;

/// A look at the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Time on a processor, in the program and in the kernel for it.
    pub cpu_seconds: f64,
    /// Memory that is really there.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Open files and connections.
    pub open_fds: u64,
    /// How many it may have; `None` if the system tells no number.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds since 1970.
    pub start_seconds: f64,
}

impl Process {
    /// Looks at this process; what cannot be read, as on another system than Linux, is zero.
    #[must_use]
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &read("/proc/self/stat"),
            &read("/proc/stat"),
            (ticks(), rustix::param::page_size() as u64),
        );
        process.max_fds = max_fds(&read("/proc/self/limits"));
        let fds = fs::read_dir("/proc/self/fd").map(Iterator::count);
        // One of them is the directory that is being read.
        process.open_fds = fds.map_or(0, |n| (n as u64).saturating_sub(1));
        process
    }

    fn parse(stat: &str, system: &str, (ticks, page): (f64, u64)) -> Self {
        // The name in parentheses may hold anything; what follows it begins with field 3.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| -> u64 {
            let text = fields.get(number - 3);
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let seconds = |ticked: u64| {
            #[expect(clippy::cast_precision_loss, reason = "lost after 280 years of ticks")]
            let ticked = ticked as f64;
            ticked / ticks
        };
        let booted = system.lines().find_map(|line| line.strip_prefix("btime "));
        let booted: f64 = booted.and_then(|t| t.trim().parse().ok()).unwrap_or(0.0);
        Self {
            cpu_seconds: seconds(field(14) + field(15)),
            threads: field(20),
            start_seconds: booted + seconds(field(22)),
            virtual_bytes: field(23),
            resident_bytes: field(24) * page,
            ..Self::default()
        }
    }
}

fn ticks() -> f64 {
    u32::try_from(rustix::param::clock_ticks_per_second()).map_or(100.0, f64::from)
}

fn max_fds(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "4242 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 \
            9 18 200 123456 77 21 22";
        let process = Process::parse(stat, "cpu 1 2\nbtime 1000\n", (100.0, 4096));
        let expected = Process {
            cpu_seconds: 3.0,
            threads: 9,
            start_seconds: 1002.0,
            virtual_bytes: 123_456,
            resident_bytes: 77 * 4096,
            ..Process::default()
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", (100.0, 1)), Process::default());
    }

    #[test]
    fn this_process_is_found() {
        let process = Process::look();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(
            process.virtual_bytes > process.resident_bytes,
            "{process:?}"
        );
        assert!(process.threads >= 1 && process.open_fds >= 3, "{process:?}");
        assert!(process.start_seconds > 1e9, "{process:?}");
        assert!(process.max_fds.is_none_or(|max| max > process.open_fds));
    }
}
