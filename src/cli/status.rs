//! `quorate status`.

use serde_json::Value;

use super::admin::AdminArgs;
use super::failure::Failure;
use super::output::{Format, Streams, cell, line, table};

/// What `status` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints everything a node says about itself but its members, which have a verb of their own.
pub(super) async fn run(args: Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let status = args.admin.get("/status".to_owned(), streams).await?;
    match args.admin.output.for_reports(streams) {
        Format::Json => line(streams.data, status.to_string().as_bytes())?,
        Format::Table => table(streams.data, &rows(&status))?,
    }
    Ok(())
}

/// What a person looks for first; the rest follows by name.
const FIRST: [&str; 5] = ["node", "state", "waiting_for", "ring.", "members"];

/// One row a leaf, named by its path.
fn rows(status: &Value) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    flatten("", status, &mut out);
    let rank = |row: &Vec<String>| {
        let name = row.first().map_or("", String::as_str);
        let place = FIRST.iter().position(|first| name.starts_with(first));
        place.unwrap_or(FIRST.len())
    };
    out.sort_by_key(rank);
    out
}

fn flatten(path: &str, value: &Value, out: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                flatten(&path, value, out);
            }
        }
        Value::Array(items) if path == "members" => {
            out.push(vec![path.to_owned(), items.len().to_string()]);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            out.push(vec![path.to_owned(), cell(Some(value))]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_of_any_shape_is_one_row_a_fact() {
        let status = json!({
            "node": "n1",
            "ring": {"epoch": 3},
            "members": [{"name": "n1"}, {"name": "n2"}],
            "queues": {"store": {"depth": 0}},
        });
        let rows: Vec<String> = rows(&status).iter().map(|r| r.join("=")).collect();
        assert_eq!(
            rows,
            [
                "node=n1",
                "ring.epoch=3",
                "members=2",
                "queues.store.depth=0"
            ]
        );
    }
}
