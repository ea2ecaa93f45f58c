//! A bounded queue of finished lines, and the thread that writes them. Whoever logs copies its line
//! into a buffer; the thread takes the whole buffer every now and then and writes it with one call.
//! A line that finds no room, or cannot be written, is counted and gone: logging never holds a
//! request up, and never ends a node.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::LOG_QUEUE_BYTES;

/// For how long the thread lets lines gather, so that it is not woken for each of them.
const GATHERING: Duration = Duration::from_millis(20);

/// Lines on their way to one file; the clones share them.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// There is something to do for the thread.
    work: Condvar,
    /// The thread has written something.
    written: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Counts what was taken in, and how far the thread has come.
    taken: u64,
    done: u64,
    /// Somebody waits for the lines to be written.
    is_urgent: bool,
    /// Takes the place of the file written to.
    next: Option<File>,
}

impl Queue {
    /// Starts the thread. It ends with the process.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(name: &str, file: File) -> io::Result<Self> {
        let queue = Self(Arc::new(Inner {
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            lost: AtomicU64::new(0),
        }));
        let inner = queue.0.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || inner.write_for_ever(file))?;
        Ok(queue)
    }

    /// Takes a line in; it ends in a line feed.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.lines.len() + line.len() > LOG_QUEUE_BYTES {
            drop(state);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        state.taken += 1;
        drop(state);
        if was_empty {
            self.0.work.notify_one();
        }
    }

    /// Waits until everything taken in so far is written, but no longer than the time; says whether
    /// it is.
    pub(super) fn flush(&self, time: Duration) -> bool {
        let mut state = self.0.state();
        let mark = state.taken;
        state.is_urgent = true;
        self.0.work.notify_one();
        let waiting = |state: &mut State| state.done < mark;
        let waited = self.0.written.wait_timeout_while(state, time, waiting);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.done >= mark
    }

    /// Lets what comes from now on go to another file.
    pub(super) fn go_on_in(&self, file: File) {
        self.0.state().next = Some(file);
        self.0.work.notify_one();
    }

    /// How many lines are gone.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

/// One write is one line.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, file: File) {
        let (mut page, mut lines) = (Page::new(file), Vec::new());
        loop {
            let (mark, next) = self.gather(&mut lines);
            if let Some(file) = next {
                page = Page::new(file);
            }
            let lost = page.write(&lines);
            lines.clear();
            self.lost.fetch_add(lost, Ordering::Relaxed);
            self.state().done = mark;
            self.written.notify_all();
        }
    }

    /// Waits for lines, and for more of them, and swaps them for the emptied buffer.
    fn gather(&self, lines: &mut Vec<u8>) -> (u64, Option<File>) {
        let idle =
            |state: &mut State| state.lines.is_empty() && state.next.is_none() && !state.is_urgent;
        let calm = |state: &mut State| !state.is_urgent && state.lines.len() < LOG_QUEUE_BYTES / 2;
        let state = self.work.wait_while(self.state(), idle);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.work.wait_timeout_while(state, GATHERING, calm);
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        state.is_urgent = false;
        std::mem::swap(lines, &mut state.lines);
        (state.taken, state.next.take())
    }
}

/// A file that lines are added to.
struct Page {
    file: File,
    /// A write stopped in the middle of a line.
    is_torn: bool,
}

impl Page {
    fn new(file: File) -> Self {
        Self {
            file,
            is_torn: false,
        }
    }

    /// Writes the lines, and says how many could not be written. What is left of a line that was cut
    /// off spoils no other.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let (mut rest, mut failed) = (lines, false);
        if self.is_torn && self.file.write_all(b"\n").is_ok() {
            self.is_torn = false;
        }
        while !rest.is_empty() && !failed {
            match self.file.write(rest) {
                Ok(0) => failed = true,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => failed = error.kind() != io::ErrorKind::Interrupted,
            }
        }
        let written = lines.len() - rest.len();
        if let Some(last) = written.checked_sub(1).and_then(|last| lines.get(last)) {
            self.is_torn = *last != b'\n';
        }
        let lost = rest.split_inclusive(|byte| *byte == b'\n').count();
        u64::try_from(lost).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const SOON: Duration = Duration::from_secs(10);

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        (dir, path)
    }

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let (_dir, path) = file();
        let queue = Queue::start("test", File::create(&path).unwrap()).unwrap();
        let mut all = String::new();
        for n in 0..1000 {
            let line = format!("line {n}\n");
            queue.push(line.as_bytes());
            all += &line;
        }
        assert!(queue.flush(SOON));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), all);
        assert_eq!(queue.lost(), 0);
        assert!(queue.flush(SOON), "nothing to wait for");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_rest_is_written() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let queue = Queue::start("test", file).unwrap();
        // A pipe that nobody reads stops the thread in its first write.
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        let pushed = 3 * LOG_QUEUE_BYTES / line.len();
        for _ in 0..pushed {
            queue.push(&line);
        }
        assert!(!queue.flush(Duration::from_millis(1)));
        let lost = usize::try_from(queue.lost()).unwrap();
        assert!(lost > 0 && lost < pushed, "{lost} of {pushed}");
        let mut seen = vec![0; (pushed - lost) * line.len()];
        reader.read_exact(&mut seen).unwrap();
        assert!(seen.chunks(line.len()).all(|chunk| *chunk == *line));
        assert!(queue.flush(SOON));
        assert_eq!(usize::try_from(queue.lost()).unwrap(), lost);
    }

    #[test]
    fn a_file_that_takes_nothing_loses_lines_and_the_next_file_takes_the_next() {
        let (_dir, path) = file();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let queue = Queue::start("test", full).unwrap();
        queue.push(b"one\n");
        queue.push(b"two\n");
        assert!(queue.flush(SOON), "lost is done too");
        assert_eq!(queue.lost(), 2);
        queue.go_on_in(File::create(&path).unwrap());
        queue.push(b"three\n");
        assert!(queue.flush(SOON));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(queue.lost(), 2);
    }

    #[test]
    fn a_line_cut_off_is_ended_before_the_next() {
        let (_dir, path) = file();
        let mut page = Page::new(File::create(&path).unwrap());
        assert_eq!(page.write(b"half"), 0);
        assert_eq!(page.write(b"whole\n"), 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half\nwhole\n");
    }
}
