//! What a run shows, said to a person or a program.

use std::io::{self, Write};

use serde::Serialize;

use super::check::{Report, Verdict};
use super::history::{Convergence, History};

/// So many broken promises are shown to a person; a program gets them all.
const SHOWN: usize = 20;

/// Everything that is said at the end.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    convergence_seconds: Option<f64>,
}

/// For programs: one JSON object.
pub(super) fn json(report: &Report, history: &History) -> Result<Vec<u8>, serde_json::Error> {
    let run = history.run.as_ref();
    serde_json::to_vec(&Said {
        report,
        seed: run.map(|run| run.seed),
        repeat: run.map(|run| run.command.as_str()),
        convergence_seconds: history.convergence.as_ref().and_then(converged),
    })
}

/// How many seconds it took until all owners were equal; `None` if they never were.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of minutes are far below 2^52"
)]
fn converged(convergence: &Convergence) -> Option<f64> {
    let equal = convergence.differing.is_empty();
    equal.then(|| (convergence.after / 1000) as f64 / 1000.0)
}

/// For people.
pub(super) fn text(out: &mut dyn Write, report: &Report, history: &History) -> io::Result<()> {
    let counts = &report.counts;
    writeln!(
        out,
        "{} operations on {} keys: {} done, {} surely not, {} unknown; {} of {} during faults are \
         known",
        counts.operations,
        counts.keys,
        counts.ok,
        counts.fail,
        counts.info,
        counts.determinate_in_faults,
        counts.in_faults
    )?;
    writeln!(
        out,
        "{} acknowledged writes, {} strict reads, {} final reads",
        counts.acked_writes, counts.strict_reads, counts.final_reads
    )?;
    if !counts.faults.is_empty() {
        let each = counts
            .faults
            .iter()
            .map(|(fault, n)| format!("{n} × {fault}"));
        writeln!(out, "faults: {}", each.collect::<Vec<_>>().join(", "))?;
    }
    if let Some(seconds) = history.convergence.as_ref().and_then(converged) {
        writeln!(
            out,
            "all replicas equal {seconds:.1} s after the last fault"
        )?;
    }
    for violation in report.violations.iter().take(SHOWN) {
        writeln!(out, "\n{violation}")?;
    }
    let more = report.violations.len().saturating_sub(SHOWN);
    if more > 0 {
        writeln!(out, "\n… and {more} more")?;
    }
    for reason in &report.void {
        writeln!(out, "\nVOID: {reason}")?;
    }
    conclude(out, report, history)
}

fn conclude(out: &mut dyn Write, report: &Report, history: &History) -> io::Result<()> {
    let n = report.violations.len();
    match report.verdict {
        Verdict::Ok => return writeln!(out, "\nOK: no promise was broken"),
        Verdict::Violated => writeln!(out, "\nVIOLATED: {n} times")?,
        Verdict::Void => writeln!(out, "\nVOID: the run shows nothing")?,
    }
    match &history.run {
        Some(run) => writeln!(out, "Again: {}", run.command),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::super::history::Rest;
    use super::*;

    fn history(finals: &str) -> History {
        let mut history = History::default();
        let head = r#""session":1,"endpoint":"n1","key":"k","answer":"200","result":"ok","#;
        let lines = [
            r#"{"line":"run","seed":9,"command":"quorate verify --seed 9"}"#.to_owned(),
            format!(
                r#"{{"line":"op",{head}"id":0,"phase":"calm","op":"PUT","value":"a","invoked":1,"completed":2}}"#
            ),
            format!(
                r#"{{"line":"op",{head}"id":1,"phase":"final1","op":"GET","values":{finals},"invoked":3,"completed":4}}"#
            ),
            format!(
                r#"{{"line":"op",{head}"id":2,"phase":"final2","op":"GET","values":{finals},"invoked":5,"completed":6}}"#
            ),
            r#"{"line":"convergence","after":1500000,"differing":[]}"#.to_owned(),
        ];
        for (n, line) in lines.iter().enumerate() {
            history.add_text(n, line).unwrap();
        }
        history
    }

    fn said(history: &History) -> String {
        let mut out = Vec::new();
        text(&mut out, &check(history).unwrap(), history).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_failing_run_says_how_to_repeat_it_and_a_good_one_does_not() {
        let rows: [(&str, &[&str]); 2] = [
            (
                "[\"a\"]",
                &["equal 1.5 s after", "\nOK: no promise was broken\n"],
            ),
            (
                "[]",
                &[
                    "\nLOST (P1, P2)",
                    "\nVIOLATED: 1 times\nAgain: quorate verify --seed 9\n",
                ],
            ),
        ];
        for (finals, parts) in rows {
            let text = said(&history(finals));
            for part in parts {
                assert!(text.contains(part), "{part:?} is not in: {text}");
            }
            assert_eq!(
                text.contains("Again:"),
                parts.len() == 2 && finals == "[]",
                "{text}"
            );
        }
    }

    #[test]
    fn a_change_of_members_that_does_not_end_breaks_a_promise() {
        let mut history = history("[\"a\"]");
        let rest = r#"{"line":"rest","after":60000000,"restless":["leave n2: 7 partitions are moving in epoch 3"]}"#;
        history.add_text(9, rest).unwrap();
        let text = said(&history);
        let stuck = "\nSTUCK (P9): although nothing failed any more: leave n2: 7 partitions are \
                     moving in epoch 3\n";
        assert!(text.contains(stuck), "{text}");
        assert!(text.contains("\nVIOLATED: 1 times\n"), "{text}");
        history.rest = Some(Rest::default());
        assert!(said(&history).contains("\nOK: "));
    }

    #[test]
    fn programs_get_everything_in_one_object() {
        let history = history("[]");
        let bytes = json(&check(&history).unwrap(), &history).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(object["verdict"], "violated");
        assert_eq!(object["violations"][0]["kind"], "LOST");
        assert_eq!(object["violations"][0]["value"], "a");
        assert_eq!(object["seed"], 9);
        assert_eq!(object["counts"]["acked_writes"], 1);
        assert_eq!(object["convergence_seconds"], 1.5);
    }
}
