//! `quorate ring`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::admin::AdminArgs;
use super::connection::segment;
use super::failure::Failure;
use super::output::{Format, Streams, cell, line, table};

/// What `ring` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where this key lives; without it, who owns how much
    key: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The ring as the admin listener tells it.
#[derive(Debug, Deserialize)]
struct Ring {
    epoch: Value,
    hash: Value,
    partitions: Vec<Vec<String>>,
}

/// Prints who owns what, or where one key lives.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let path = match &args.key {
        Some(key) => format!("/ring/{}", segment(key)),
        None => "/ring".to_owned(),
    };
    let answer = args.admin.get(path, streams).await?;
    match (args.admin.output.for_reports(streams), args.key) {
        (Format::Json, _) => line(streams.data, answer.to_string().as_bytes())?,
        (Format::Table, Some(_)) => table(streams.data, &home(&answer))?,
        (Format::Table, None) => {
            let ring: Ring = serde_json::from_value(answer)?;
            let (epoch, hash) = (cell(Some(&ring.epoch)), cell(Some(&ring.hash)));
            writeln!(streams.data, "epoch {epoch}, hash {hash}")?;
            table(streams.data, &shares(&ring.partitions))?;
        }
    }
    Ok(())
}

/// One row a member: how many partitions it holds, how many it is the first owner of, its share.
fn shares(partitions: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut held: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for owners in partitions {
        for (place, owner) in owners.iter().enumerate() {
            let counts = held.entry(owner).or_default();
            counts.0 += 1;
            counts.1 += usize::from(place == 0);
        }
    }
    let titles = ["NAME", "PARTITIONS", "FIRST OWNER", "HOLDS"]
        .map(str::to_owned)
        .to_vec();
    let row = |(name, (all, first)): (&str, (usize, usize))| {
        let percent = all * 100 / partitions.len().max(1);
        vec![
            name.to_owned(),
            all.to_string(),
            first.to_string(),
            format!("{percent} %"),
        ]
    };
    std::iter::once(titles)
        .chain(held.into_iter().map(row))
        .collect()
}

fn home(answer: &Value) -> Vec<Vec<String>> {
    let names = |field| match answer.get(field).and_then(Value::as_array) {
        Some(names) => {
            let names = names.iter().map(|n| cell(Some(n)));
            names.collect::<Vec<_>>().join(", ")
        }
        None => "-".to_owned(),
    };
    vec![
        vec!["partition".to_owned(), cell(answer.get("partition"))],
        vec!["hash".to_owned(), cell(answer.get("hash"))],
        vec!["owners".to_owned(), names("owners")],
        vec!["fallbacks".to_owned(), names("fallbacks")],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_count_partitions_held_and_led() {
        let owners = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let partitions = [
            owners(&["a", "b"]),
            owners(&["b", "a"]),
            owners(&["a", "c"]),
        ];
        let rows = shares(&partitions);
        assert_eq!(rows[1], ["a", "3", "2", "100 %"]);
        assert_eq!(rows[2], ["b", "2", "1", "66 %"]);
        assert_eq!(rows[3], ["c", "1", "0", "33 %"]);
        assert_eq!(shares(&[]).len(), 1);
    }

    #[test]
    fn a_keys_home_is_four_facts() {
        let answer = json!({"partition": 7, "hash": "00ff", "owners": ["a", "b"], "fallbacks": []});
        let rows: Vec<String> = home(&answer).iter().map(|r| r.join(": ")).collect();
        assert_eq!(
            rows,
            ["partition: 7", "hash: 00ff", "owners: a, b", "fallbacks: "]
        );
    }
}
