//! `quorate members`.

use serde_json::Value;

use super::admin::AdminArgs;
use super::failure::Failure;
use super::output::{Format, Streams, cell, line, table};

const COLUMNS: [&str; 10] = [
    "name",
    "state",
    "zone",
    "weight",
    "reachable",
    "preferred",
    "latency_us",
    "client",
    "admin",
    "peer",
];

/// What `members` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints the members as the asked node sees them.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let status = args.admin.get("/status".to_owned(), streams).await?;
    let members = status.get("members").and_then(Value::as_array);
    let members = members.map_or(&[][..], Vec::as_slice);
    match args.admin.output.for_reports(streams) {
        Format::Json => line(streams.data, &serde_json::to_vec(members)?)?,
        Format::Table => table(streams.data, &rows(members))?,
    }
    Ok(())
}

fn rows(members: &[Value]) -> Vec<Vec<String>> {
    let head = COLUMNS.iter().map(|c| c.to_ascii_uppercase()).collect();
    let row = |member: &Value| COLUMNS.iter().map(|c| cell(member.get(c))).collect();
    std::iter::once(head)
        .chain(members.iter().map(row))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_one_row_each_under_a_head() {
        let rows = rows(&[
            json!({"name": "n1", "state": "READY", "weight": 2, "reachable": true, "preferred": false}),
        ]);
        assert_eq!(rows[0][..3], ["NAME", "STATE", "ZONE"]);
        let row = ["n1", "READY", "-", "2", "true", "false", "-", "-", "-", "-"];
        assert_eq!(rows[1], row);
    }
}
