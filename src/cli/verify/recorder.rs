//! Where every operation of a run ends up: in a file, line by line, and in memory for the check.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use fnv::FnvHasher;
use serde::Deserialize;
use tokio::time::Instant;

use super::super::failure::Failure;
use super::answer::Answer;
use super::history::{Action, Fault, History, Line, Operation, Outcome, Phase};

/// So much of a value that nobody wrote is shown.
const STRANGE_CHARS: usize = 40;

/// Records one run.
pub(super) struct Recorder {
    /// What was recorded so far.
    pub(super) history: History,
    /// The keys that were ever written to, or tried to.
    pub(super) keys: BTreeSet<String>,
    path: PathBuf,
    out: BufWriter<File>,
    failed: Option<io::Error>,
    begin: Instant,
    next: u64,
    faults: usize,
    /// What was written under each name, as a hash: an answer must show just that.
    written: HashMap<String, u64>,
}

/// The name in a value.
#[derive(Deserialize)]
struct Named {
    w: String,
}

impl Recorder {
    /// Begins a history in this file; time begins too.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let failure = |source| Failure::File {
            path: path.to_owned(),
            source,
        };
        Ok(Self {
            history: History::default(),
            keys: BTreeSet::new(),
            out: BufWriter::new(File::create(path).map_err(failure)?),
            path: path.to_owned(),
            failed: None,
            begin: Instant::now(),
            next: 0,
            faults: 0,
            written: HashMap::new(),
        })
    }

    /// Microseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// An operation begins; who is asked, and with what, is for the caller to add.
    pub(super) fn begin(&mut self, op: Action, key: &str, session: u32) -> Operation {
        self.next += 1;
        let now = self.now();
        Operation {
            id: self.next,
            session,
            endpoint: String::new(),
            phase: self.phase(),
            key: key.to_owned(),
            op,
            strict: false,
            value: None,
            clock: None,
            invoked: now,
            completed: now,
            result: Outcome::Info,
            answer: String::new(),
            hinted: None,
            values: None,
            token: None,
        }
    }

    /// It ends so.
    pub(super) fn complete(&mut self, mut operation: Operation, answer: &Answer) {
        let shown = answer.values.as_ref();
        operation.completed = self.now();
        operation.result = answer.result;
        operation.answer.clone_from(&answer.text);
        operation.hinted = answer.hinted;
        operation.values = shown.map(|v| v.iter().map(|v| self.name(v.get())).collect());
        operation.token.clone_from(&answer.token);
        if operation.op != Action::Get {
            self.keys.insert(operation.key.clone());
        }
        self.record(Line::Op(operation));
    }

    /// The phase of an operation that begins now, before the end.
    fn phase(&self) -> Phase {
        if self.faults > 0 {
            Phase::Faults
        } else {
            Phase::Calm
        }
    }

    /// A value of this name is about to be written, as this text.
    pub(super) fn writes(&mut self, name: &str, text: &str) {
        self.written.insert(name.to_owned(), hash(text));
    }

    /// The name of a value in an answer; the text itself if nobody wrote just that.
    pub(super) fn name(&self, text: &str) -> String {
        let named = serde_json::from_str(text).map(|named: Named| named.w);
        match named {
            Ok(name) if self.written.get(&name) == Some(&hash(text)) => name,
            Ok(_) | Err(_) => text.chars().take(STRANGE_CHARS).collect(),
        }
    }

    /// Takes one more line.
    pub(super) fn record(&mut self, mut line: Line) {
        let written = serde_json::to_writer(&mut self.out, &line).map_err(io::Error::from);
        if let Err(error) = written.and_then(|()| self.out.write_all(b"\n")) {
            self.failed.get_or_insert(error);
        }
        // A long run reads a million times, and verdicts show the clocks of writes.
        if let Line::Op(operation) = &mut line
            && operation.op == Action::Get
        {
            operation.token = None;
        }
        self.history.add(line);
    }

    /// A fault begins; gives the time.
    pub(super) fn fault_begins(&mut self) -> u64 {
        self.faults += 1;
        self.now()
    }

    /// A fault is over.
    pub(super) fn fault_ends(&mut self, fault: Fault) {
        self.faults = self.faults.saturating_sub(1);
        self.record(Line::Fault(fault));
    }

    /// Brings everything to the file; fails if any of it could not be written.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let flushed = self.out.flush();
        let result = self.failed.take().map_or(flushed, Err);
        result.map_err(|source| Failure::File {
            path: self.path.clone(),
            source,
        })
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_by_its_name_only_if_it_is_just_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(&dir.path().join("h")).unwrap();
        recorder.writes("a", "{\"w\":\"a\",\"n\":1}");
        let rows = [
            ("{\"w\":\"a\",\"n\":1}", "a"),
            ("{\"w\":\"a\",\"n\":2}", "{\"w\":\"a\",\"n\":2}"),
            ("{\"w\":\"b\"}", "{\"w\":\"b\"}"),
            ("7", "7"),
        ];
        for (text, want) in rows {
            assert_eq!(recorder.name(text), want);
        }
    }

    #[test]
    fn what_is_recorded_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h");
        let mut recorder = Recorder::create(&path).unwrap();
        assert_eq!(recorder.phase(), Phase::Calm);
        let from = recorder.fault_begins();
        assert_eq!(recorder.phase(), Phase::Faults);
        recorder.fault_ends(Fault {
            kind: "kill".to_owned(),
            target: "n1".to_owned(),
            from,
            until: recorder.now(),
            bit: true,
            role: Some("giver".to_owned()),
            moment: None,
        });
        assert_eq!(recorder.phase(), Phase::Calm);
        recorder.finish().unwrap();
        let mut again = History::default();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            again.add_text(1, line).unwrap();
        }
        assert_eq!(again, recorder.history);
    }
}
