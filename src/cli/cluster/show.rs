//! Plans and transfers for people.

use std::io::Write;

use serde_json::Value;

use crate::cli::failure::Failure;
use crate::cli::output::{Streams, cell, table};

fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice)
}

fn joined(items: &[Value]) -> String {
    items
        .iter()
        .map(|item| cell(Some(item)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A number of bytes as people say it.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut tenths, mut unit) = (count, 0, 0);
    while whole >= 1024 && unit + 1 < units.len() {
        tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{whole} {name}")
    } else {
        format!("{whole}.{tenths} {name}")
    }
}

/// What is staged and what it would do.
pub(super) fn plan(plan: &Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (epoch, staged) = (number(plan, "epoch"), list(plan, "staged"));
    let out = &mut *streams.data;
    if number(plan, "moving_now") > 0 {
        writeln!(
            out,
            "{} partitions are still moving",
            number(plan, "moving_now")
        )?;
    }
    if staged.is_empty() {
        writeln!(out, "epoch {epoch}: nothing is staged")?;
        return Ok(());
    }
    writeln!(out, "epoch {epoch}, staged:")?;
    for change in staged {
        writeln!(out, "  {}", cell(Some(change)))?;
    }
    if let Some(error) = plan.get("error") {
        writeln!(out, "it cannot be committed: {}", cell(Some(error)))?;
        return Ok(());
    }
    table(out, &loads(plan))?;
    let total: u64 = list(plan, "nodes")
        .iter()
        .map(|node| number(node, "bytes"))
        .sum();
    let (moving, seconds) = (number(plan, "moving"), number(plan, "seconds"));
    writeln!(
        out,
        "{moving} partitions move, about {} in about {} s",
        bytes(total),
        seconds.max(1)
    )?;
    remarks(plan, out)?;
    // What follows goes another way, and must not come first.
    out.flush()?;
    let spared: Vec<String> = list(plan, "spared").iter().map(|n| cell(Some(n))).collect();
    // Said even if it is nobody, so that what is committed is what was shown.
    let without = match spared.join(",") {
        nobody if nobody.is_empty() => "none".to_owned(),
        names => names,
    };
    if !is_dry(plan) {
        writeln!(
            streams.chatter,
            "to make it so: quorate cluster commit --epoch {epoch} --without {without}"
        )?;
    }
    Ok(())
}

/// What an operator should know before the plan is committed.
fn remarks(plan: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    partitions_told(plan, out)?;
    let told = [
        (
            "silent",
            "these did not answer, so the figures leave them out",
        ),
        ("spared", "these do not answer and get nothing"),
        (
            "waits_for",
            "these do not answer and yet get partitions, for the others are too few; the change \
            waits for them",
        ),
    ];
    for (field, text) in told {
        let nodes = list(plan, field);
        if !nodes.is_empty() {
            writeln!(out, "{text}: {}", joined(nodes))?;
        }
    }
    Ok(())
}

/// The partitions that something is to be said of, every one.
pub(super) fn partitions_told(plan: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    for (field, text) in [
        ("zones_violated", "with fewer zones than there could be"),
        (
            "under_replicated",
            "left with fewer replicas until they have moved",
        ),
        (
            "below_read_quorum",
            "left with fewer replicas than a read needs until they have moved",
        ),
        ("lost", "that nobody else holds: LOST"),
    ] {
        let partitions = list(plan, field);
        if !partitions.is_empty() {
            let (count, which) = (partitions.len(), ranges(partitions));
            writeln!(out, "{count} partitions {text}: {which}")?;
        }
    }
    Ok(())
}

/// Numbers in order, those that follow on each other as one.
fn ranges(numbers: &[Value]) -> String {
    let numbers = numbers.iter().filter_map(Value::as_u64);
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => runs.push((n, n)),
        }
    }
    let told = runs.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

fn loads(plan: &Value) -> Vec<Vec<String>> {
    let head = ["NODE", "PARTITIONS", "AFTER", "GAINS", "KEYS", "BYTES"];
    let row = |node: &Value| {
        vec![
            cell(node.get("node")),
            cell(node.get("before")),
            cell(node.get("after")),
            cell(node.get("gains")),
            cell(node.get("keys")),
            bytes(number(node, "bytes")),
        ]
    };
    let head = head.map(str::to_owned).to_vec();
    std::iter::once(head)
        .chain(list(plan, "nodes").iter().map(row))
        .collect()
}

/// Whether it tells only what would be.
fn is_dry(answer: &Value) -> bool {
    answer.get("dry_run").and_then(Value::as_bool) == Some(true)
}

/// What a change has made, or would make.
pub(super) fn made(made: &Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (epoch, moving) = (number(made, "epoch"), number(made, "moving"));
    let changed = made.get("changed").and_then(Value::as_bool) != Some(false);
    if is_dry(made) && changed {
        let next = epoch.saturating_add(1);
        writeln!(
            streams.data,
            "it would make epoch {next}, in which {moving} partitions move"
        )?;
        return Ok(());
    }
    if made.get("changed").and_then(Value::as_bool) == Some(false) {
        writeln!(streams.data, "there is nothing to change; epoch {epoch}")?;
    } else {
        writeln!(streams.data, "epoch {epoch} is in force")?;
    }
    if moving > 0 {
        writeln!(
            streams.data,
            "{moving} partitions are moving; see quorate cluster transfers"
        )?;
    }
    Ok(())
}

/// Who pulls how fast from now on, or would.
pub(super) fn limited(told: &Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let out = &mut *streams.data;
    let rate = match told.get("bytes_s").and_then(Value::as_u64) {
        Some(rate) => format!("{rate} bytes a second"),
        None => "any number of bytes a second".to_owned(),
    };
    let at_once = number(told, "at_once");
    let nodes = joined(list(told, "limited"));
    writeln!(
        out,
        "at most {at_once} partitions at a time and {rate} each: {nodes}"
    )?;
    let silent = list(told, "silent");
    if !silent.is_empty() {
        writeln!(out, "no answer from {}", joined(silent))?;
    }
    Ok(())
}

/// Everything that is on its way.
pub(super) fn transfers(shown: &Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (all, out) = (list(shown, "transfers"), &mut *streams.data);
    if number(shown, "moving") == 0 {
        writeln!(out, "epoch {}: nothing is moving", number(shown, "epoch"))?;
        return kept(shown, out);
    }
    let row = |t: &Value| {
        vec![
            cell(t.get("partition")),
            cell(t.get("from")),
            cell(t.get("to")),
            cell(t.get("step")),
            format!("{}/{}", number(t, "done"), number(t, "total")),
            format!("{}/s", bytes(number(t, "rate_bytes_s"))),
            cell(t.get("waiting_for")),
        ]
    };
    let head = [
        "PARTITION",
        "FROM",
        "TO",
        "STEP",
        "RECORDS",
        "RATE",
        "WAITING FOR",
    ];
    let head = head.map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(all.iter().map(row)).collect();
    table(out, &rows)?;
    let silent = list(shown, "silent");
    if !silent.is_empty() {
        writeln!(out, "no answer from {}", joined(silent))?;
    }
    kept(shown, out)
}

/// What is left with nodes that own it no more.
fn kept(shown: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    for kept in list(shown, "kept") {
        let (left, seconds) = (number(kept, "partitions"), number(kept, "seconds_left"));
        writeln!(
            out,
            "{} keeps an old copy of {left} partitions ({} keys) for {seconds} s more",
            cell(kept.get("node")),
            number(kept, "keys"),
        )?;
    }
    Ok(())
}

/// How far a move is, in one line.
pub(super) fn progress(shown: &Value) -> String {
    let all = list(shown, "transfers");
    let is_at = |t: &&Value, step: &str| t.get("step").and_then(Value::as_str) == Some(step);
    let done = all.iter().filter(|t| is_at(t, "flipped")).count();
    let rate: u64 = all
        .iter()
        .filter(|t| is_at(t, "pulling"))
        .map(|t| number(t, "rate_bytes_s"))
        .sum();
    let unknown = all.iter().filter(|t| is_at(t, "unknown")).count();
    let unknown = if unknown == 0 {
        String::new()
    } else {
        format!(", {unknown} unknown")
    };
    let reasons = all
        .iter()
        .filter_map(|t| t.get("waiting_for").and_then(Value::as_str));
    let reasons: std::collections::BTreeSet<&str> = reasons.collect();
    let waits = if reasons.is_empty() && done == all.len() {
        let silent = joined(list(shown, "silent"));
        let silent = Some(silent).filter(|silent| !silent.is_empty());
        let silent = silent.map_or_else(String::new, |them| format!(" (no answer from {them})"));
        format!(", waiting for: the members to agree on the end{silent}")
    } else if reasons.is_empty() {
        String::new()
    } else {
        let some: Vec<&str> = reasons.iter().copied().take(REASONS).collect();
        format!(", waiting for: {}", some.join("; "))
    };
    format!(
        "{done} of {} transfers done{unknown}, {}/s{waits}",
        all.len(),
        bytes(rate)
    )
}

/// Reasons told in one line.
const REASONS: usize = 3;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let rows = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
        ];
        for (count, told) in rows {
            assert_eq!(bytes(count), told);
        }
    }

    fn told(show: impl FnOnce(&mut Streams<'_>) -> Result<(), Failure>) -> String {
        let (mut data, mut chatter) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            data: &mut data,
            chatter: &mut chatter,
            is_terminal: true,
        };
        show(&mut streams).unwrap();
        data.extend(chatter);
        String::from_utf8(data).unwrap()
    }

    #[test]
    fn a_plan_tells_loads_and_losses_and_how_to_go_on() {
        let shown = json!({
            "epoch": 4, "staged": ["forget n2"], "moving": 3, "seconds": 0, "lost": [9],
            "below_read_quorum": [1, 2, 3, 7, 9, 10],
            "spared": ["n5", "n6"], "waits_for": ["n7"],
            "nodes": [{"node": "n1", "before": 5, "after": 8, "gains": 3, "keys": 12, "bytes": 2048}],
        });
        let text = told(|streams| plan(&shown, streams));
        for part in [
            "epoch 4, staged:\n  forget n2",
            "n1    5           8      3      12    2.0 KiB",
            "3 partitions move, about 2.0 KiB in about 1 s",
            "6 partitions left with fewer replicas than a read needs until they have moved: \
                1-3, 7, 9-10\n",
            "1 partitions that nobody else holds: LOST: 9",
            "these do not answer and get nothing: n5, n6",
            "the others are too few; the change waits for them: n7",
            "quorate cluster commit --epoch 4 --without n5,n6",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        let mut shown = json!({"epoch": 4, "staged": ["leave n2"], "moving": 3, "spared": []});
        let text = told(|streams| plan(&shown, streams));
        assert!(
            text.ends_with("commit --epoch 4 --without none\n"),
            "{text}"
        );
        shown["dry_run"] = json!(true);
        let text = told(|streams| plan(&shown, streams));
        assert!(!text.contains("to make it so"), "it is not staged: {text}");
        let nothing = told(|streams| plan(&json!({"epoch": 2, "staged": []}), streams));
        assert_eq!(nothing, "epoch 2: nothing is staged\n");
        let stuck = json!({"epoch": 2, "staged": ["leave n1"], "error": "no member would be left"});
        assert!(told(|s| plan(&stuck, s)).contains("cannot be committed: no member would be left"));
    }

    #[test]
    fn what_was_made_or_would_be_is_told_in_words() {
        let rows = [
            (
                json!({"epoch": 7, "changed": true, "moving": 0}),
                "epoch 7 is in force\n",
            ),
            (
                json!({"epoch": 7, "changed": true, "moving": 3}),
                "epoch 7 is in force\n3 partitions are moving; see quorate cluster transfers\n",
            ),
            (
                json!({"epoch": 7, "changed": false, "moving": 0}),
                "there is nothing to change; epoch 7\n",
            ),
            (
                json!({"epoch": 7, "changed": true, "moving": 3, "dry_run": true}),
                "it would make epoch 8, in which 3 partitions move\n",
            ),
            (
                json!({"epoch": 7, "changed": false, "moving": 0, "dry_run": true}),
                "there is nothing to change; epoch 7\n",
            ),
        ];
        for (answer, text) in rows {
            assert_eq!(told(|streams| made(&answer, streams)), text, "{answer}");
        }
        let answer = json!({"at_once": 2, "bytes_s": 9, "limited": ["n1", "n2"], "silent": ["n3"]});
        let text = "at most 2 partitions at a time and 9 bytes a second each: n1, n2\n\
            no answer from n3\n";
        assert_eq!(told(|streams| limited(&answer, streams)), text);
        let answer = json!({"at_once": 2, "bytes_s": null, "limited": ["n1"], "silent": []});
        let text = "at most 2 partitions at a time and any number of bytes a second each: n1\n";
        assert_eq!(told(|streams| limited(&answer, streams)), text);
    }

    #[test]
    fn transfers_tell_what_they_wait_for() {
        let shown = json!({"epoch": 5, "moving": 1, "silent": ["n4"], "transfers": [{
            "partition": 7, "from": "n1", "to": "n5", "step": "pulling", "done": 3, "total": 9,
            "rate_bytes_s": 2048, "waiting_for": "n4 to answer",
        }]});
        let text = told(|streams| transfers(&shown, streams));
        assert!(
            text.contains("n1    n5  pulling  3/9      2.0 KiB/s  n4 to answer"),
            "{text}"
        );
        let line = "0 of 1 transfers done, 2.0 KiB/s, waiting for: n4 to answer";
        assert_eq!(progress(&shown), line);
        let dead = json!({"partition": 8, "step": "unknown", "waiting_for": "n5 to answer"});
        let done = json!({"partition": 7, "step": "flipped"});
        let line = "1 of 2 transfers done, 1 unknown, 0 B/s, waiting for: n5 to answer";
        assert_eq!(progress(&json!({"transfers": [done, dead]})), line);
        let line = "1 of 1 transfers done, 0 B/s, waiting for: the members to agree on the end";
        assert_eq!(progress(&json!({"transfers": [done]})), line);
        let away = json!({"transfers": [done], "silent": ["n2", "n3"]});
        let line = format!("{line} (no answer from n2, n3)");
        assert_eq!(progress(&away), line);
        let rest = told(|streams| transfers(&json!({"epoch": 6, "moving": 0}), streams));
        assert_eq!(rest, "epoch 6: nothing is moving\n");
        let kept = json!({"node": "n2", "partitions": 9, "keys": 120, "seconds_left": 60});
        let shown = json!({"epoch": 6, "moving": 0, "kept": [kept]});
        let text = told(|streams| transfers(&shown, streams));
        assert!(
            text.ends_with("\nn2 keeps an old copy of 9 partitions (120 keys) for 60 s more\n"),
            "{text}"
        );
    }
}
