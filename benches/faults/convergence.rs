//! P8: how long until all replicas are equal, and whether there is silence then.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::nodes::{Cluster, Node, until};
use super::{Outcome, bench, run, tell};

/// Waited for at most, beyond every bound.
const PATIENCE: Duration = Duration::from_mins(10);
/// For so long nothing may be sent once all is equal.
const SILENCE: Duration = Duration::from_secs(10);

/// Measures all three bounds, and says whether they were kept.
pub(crate) fn measure() -> Outcome<bool> {
    tell("| what was missed | keys | equal after, s | bound, s | then sent while idle |")?;
    tell("|---|---|---|---|---|")?;
    let hinted = hinted()?;
    let mut cluster = Cluster::start(3)?;
    write(&cluster, 3, 100_000, 1024)?;
    settle(&cluster)?;
    let alone = by_comparison(&mut cluster)?;
    let wiped = wiped(&mut cluster)?;
    Ok(hinted && alone && wiped)
}

/// Writes keys through the first so many nodes.
fn write(cluster: &Cluster, through: usize, keys: u32, bytes: u32) -> Outcome<()> {
    let flags = format!("--op get --seconds 1 --keys {keys} --value-size {bytes}");
    let report = run(bench(&cluster.endpoints(through), &flags)?)?;
    match report["failed"].as_u64() {
        Some(0) => Ok(()),
        _ => Err(format!("writing failed: {}", report["errors"]).into()),
    }
}

/// One of five nodes is away while keys are written; fallbacks keep hints for it.
fn hinted() -> Outcome<bool> {
    let mut cluster = Cluster::start(5)?;
    cluster.last()?.kill()?;
    write(&cluster, 4, 10_000, 100)?;
    cluster.start_last()?;
    cluster.wait_ready()?;
    let began = Instant::now();
    until(PATIENCE, || {
        let kept = |node: &Node| Ok(node.asked("/status")?["hints"] != serde_json::json!({}));
        let kept = cluster
            .nodes
            .iter()
            .map(kept)
            .collect::<Outcome<Vec<_>>>()?;
        Ok(!kept.contains(&true))
    })?;
    settle(&cluster)?;
    row(
        &cluster,
        "all writes, by hints",
        10_000,
        began.elapsed(),
        10,
    )
}

/// One of three nodes is away while 1 % of the keys are written anew; nobody can keep hints.
fn by_comparison(cluster: &mut Cluster) -> Outcome<bool> {
    cluster.last()?.kill()?;
    write(cluster, 2, 1000, 1024)?;
    cluster.start_last()?;
    cluster.wait_ready()?;
    let took = settle(cluster)?;
    row(cluster, "1 %, by comparison alone", 100_000, took, 60)
}

/// One of three nodes loses its disk.
fn wiped(cluster: &mut Cluster) -> Outcome<bool> {
    cluster.last()?.kill()?;
    cluster.last()?.wipe()?;
    let began = Instant::now();
    cluster.start_last()?;
    cluster.wait_ready()?;
    settle(cluster)?;
    let took = began.elapsed();
    row(cluster, "everything: a lost disk", 100_000, took, 300)
}

/// Waits until all owners of every partition have the same root.
fn settle(cluster: &Cluster) -> Outcome<Duration> {
    until(PATIENCE, || {
        let mut of: BTreeMap<String, Value> = BTreeMap::new();
        for node in &cluster.nodes {
            let Value::Object(roots) = node.asked("/merkle")?["roots"].take() else {
                return Ok(false);
            };
            for (partition, root) in roots {
                let first = of.entry(partition).or_insert_with(|| root.clone());
                if root.is_null() || *first != root {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })
}

/// Messages of anti-entropy beyond the comparison itself.
fn exchanges(cluster: &Cluster) -> Outcome<u64> {
    let of = |node: &Node| {
        let status = node.asked("/status")?;
        Ok(status["anti_entropy"]["exchanges"].as_u64().unwrap_or(0))
    };
    let all = cluster
        .nodes
        .iter()
        .map(of)
        .collect::<Outcome<Vec<u64>>>()?;
    Ok(all.into_iter().sum())
}

fn row(cluster: &Cluster, what: &str, keys: u32, took: Duration, bound: u64) -> Outcome<bool> {
    // What is under way comes to its end: a comparison that has just found all equal.
    sleep(Duration::from_secs(3));
    let before = exchanges(cluster)?;
    sleep(SILENCE);
    let sent = exchanges(cluster)? - before;
    let seconds = took.as_secs_f64();
    tell(&format!(
        "| {what} | {keys} | {seconds:.1} | {bound} | {sent} |"
    ))?;
    Ok(sent == 0 && took <= Duration::from_secs(bound))
}
