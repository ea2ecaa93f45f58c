//! P9: a node joins, leaves, replaces another and is forgotten, one after the other, under load at
//! an even rate through four members that stay; and what was acknowledged meanwhile is there
//! afterwards.

use std::process::Command;
use std::time::Duration;

use super::load::{Load, Second, median};
use super::nodes::{Cluster, until};
use super::witness::{Testimony, Witness};
use super::{Outcome, quorate, tell};

/// The load: half reads, half writes.
const LOAD: &str =
    "--op mixed --connections 32 --rate 1000 --keys 20000 --value-size 1000 --seconds 100";
/// When the changes begin, in seconds from the beginning of the load.
const BEGIN: [u64; 4] = [15, 35, 55, 75];
/// Before this second nothing happens.
const HEALTHY: usize = 14;
/// How long a change may take.
const OVER_WITHIN: Duration = Duration::from_secs(19);

/// A change that was made, and the seconds that it took.
struct Made {
    what: &'static str,
    from: usize,
    until: usize,
    partitions: u64,
    took: Duration,
}

/// Measures all four changes, and says whether the bounds were kept.
pub(crate) fn measure() -> Outcome<bool> {
    let mut cluster = Cluster::start(5)?;
    let endpoints = cluster.endpoints(4);
    let load = Load::start(&endpoints, LOAD)?;
    let witness = Witness::start(endpoints.clone());
    let changes: [Change; 4] = [
        ("join", join),
        ("leave", leave),
        ("replace", replace),
        ("forget", forget),
    ];
    let mut made = Vec::new();
    for (due, (what, change)) in BEGIN.into_iter().zip(changes) {
        load.wait_until(Duration::from_secs(due));
        let from = load.elapsed();
        let partitions = change(&mut cluster)?;
        let took = load.elapsed().saturating_sub(from);
        made.push(Made {
            what,
            from: whole(from),
            until: whole(from + took),
            partitions,
            took,
        });
    }
    let seconds = load.finish()?;
    let kept = show(&seconds, &made)?;
    let Testimony { acknowledged, lost } = witness.finish(&endpoints)?;
    tell(&format!(
        "\n{acknowledged} writes beside the load were acknowledged; {} of {} reads of \
         them, through every node, miss one",
        lost.len(),
        acknowledged * endpoints.len()
    ))?;
    for one in &lost {
        tell(one)?;
    }
    Ok(kept && acknowledged > 0 && lost.is_empty())
}

type Change = (&'static str, fn(&mut Cluster) -> Outcome<u64>);

fn whole(time: Duration) -> usize {
    usize::try_from(time.as_secs()).unwrap_or(usize::MAX)
}

/// A sixth node joins by itself.
fn join(cluster: &mut Cluster) -> Outcome<u64> {
    cluster.add(&[])?;
    until(OVER_WITHIN, || Ok(moving(cluster)? > 0))?;
    rest(cluster, 6)
}

/// It leaves again.
fn leave(cluster: &mut Cluster) -> Outcome<u64> {
    operator(cluster, &["leave", "n6"])?;
    commit(cluster)?;
    rest(cluster, 5)
}

/// The fifth is replaced by a seventh.
fn replace(cluster: &mut Cluster) -> Outcome<u64> {
    cluster.add(&["--auto-commit", "false"])?;
    let is_staged = || -> Outcome<bool> {
        let status = cluster.first()?.asked("/status")?;
        Ok(status["ring"]["staged"] == serde_json::json!(["join n7"]))
    };
    until(OVER_WITHIN, is_staged)?;
    operator(cluster, &["replace", "n5", "n7"])?;
    commit(cluster)?;
    rest(cluster, 5)
}

/// The seventh dies, and is forgotten.
fn forget(cluster: &mut Cluster) -> Outcome<u64> {
    cluster.last()?.kill()?;
    operator(cluster, &["forget", "n7", "--accept-data-loss"])?;
    commit(cluster)?;
    rest(cluster, 4)
}

fn commit(cluster: &Cluster) -> Outcome<()> {
    operator(cluster, &["commit"])
}

fn operator(cluster: &Cluster, words: &[&str]) -> Outcome<()> {
    let mut command = Command::new(quorate()?);
    command.arg("cluster").args(words);
    command.args(["-o", "json", "--admin", &cluster.first()?.admin]);
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{words:?}: {said}").into());
    }
    Ok(())
}

fn moving(cluster: &Cluster) -> Outcome<u64> {
    let status = cluster.first()?.asked("/status")?;
    status["ring"]["moving"].as_u64().ok_or("no ring".into())
}

/// Waits until nothing moves; how many partitions did.
fn rest(cluster: &Cluster, members: usize) -> Outcome<u64> {
    let partitions = moving(cluster)?;
    until(OVER_WITHIN, || {
        let status = cluster.first()?.asked("/status")?;
        let there = status["members"].as_array().map_or(0, Vec::len);
        Ok(status["ring"]["moving"] == 0 && there == members)
    })?;
    Ok(partitions)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "thousands of operations are far below 2^52"
)]
fn show(seconds: &[Second], made: &[Made]) -> Outcome<bool> {
    let healthy = median(seconds.get(1..HEALTHY).unwrap_or_default());
    tell(&format!("p99 before the first change: {healthy:.1} ms\n"))?;
    tell(
        "| change | partitions | took, s | operations | failed | p99, ms | worst second, ms | ratio |",
    )?;
    tell("|---|---|---|---|---|---|---|---|")?;
    let mut kept = true;
    for it in made {
        let during = seconds.get(it.from..=it.until).unwrap_or_default();
        let (done, failed) = during.iter().fold((0, 0), |(done, failed), s| {
            (done + s.done, failed + s.failed)
        });
        let p99 = median(during);
        let worst = during.iter().map(|s| s.p99_ms).fold(0.0, f64::max);
        let ratio = p99 / healthy;
        let all = done + failed;
        kept &= ratio <= 2.0 && failed * 1000 <= all;
        let (what, partitions, took) = (it.what, it.partitions, it.took.as_secs_f64());
        tell(&format!(
            "| {what} | {partitions} | {took:.1} | {all} | {failed} | {p99:.1} | {worst:.1} | \
             {ratio:.2} |"
        ))?;
    }
    let failed: u64 = seconds.iter().map(|s| s.failed).sum();
    let all = failed + seconds.iter().map(|s| s.done).sum::<u64>();
    let share = 100.0 * failed as f64 / all as f64;
    tell(&format!(
        "\n{failed} of {all} operations failed: {share:.3} %"
    ))?;
    tell("\np99 by second, ms:")?;
    for part in seconds.chunks(20) {
        let part: Vec<String> = part.iter().map(|s| format!("{:.1}", s.p99_ms)).collect();
        tell(&part.join(" "))?;
    }
    Ok(kept)
}
