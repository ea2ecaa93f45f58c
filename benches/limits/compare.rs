//! Clusters of several programs, or of one with several flags, side by side under the same load.

use std::fmt::Write;
use std::path::Path;

use super::Outcome;
use super::cells::{Cell, GET, Load, PUT, Plan, cell};
use super::process::Processes;
use super::systems::{self, System};
use super::table::Spread;

const LOADS: [(&str, Load); 2] = [("PUT c=64", PUT), ("GET c=64", GET)];

/// Each cluster is a program and its flags, separated by blanks. All run all the time, and are
/// driven in turn, in each repeat in the opposite order to the one before.
pub(crate) fn measure(
    plan: &Plan,
    clusters: &[&str],
    dir: &Path,
    processes: &Processes,
) -> Outcome<String> {
    let mut systems = Vec::new();
    for (i, said) in clusters.iter().enumerate() {
        let words: Vec<&str> = said.split_whitespace().collect();
        let [program, flags @ ..] = &words[..] else {
            return Err(super::USAGE.into());
        };
        let (own, program) = (dir.join(i.to_string()), Path::new(program));
        systems.push(systems::cluster(processes, &own, program, flags)?);
    }
    let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); systems.len() * LOADS.len()];
    for repeat in 0..plan.repeats {
        for (row, (_, load)) in LOADS.iter().enumerate() {
            let mut turns: Vec<(usize, &System)> = systems.iter().enumerate().collect();
            if repeat % 2 == 1 {
                turns.reverse();
            }
            for (i, system) in turns {
                let place = cells.get_mut(row * systems.len() + i);
                place.ok_or("no such row")?.push(cell(plan, system, *load)?);
            }
        }
    }
    Ok(render(clusters, &cells)?)
}

/// Ratios are to the first cluster, within a repeat.
fn render(clusters: &[&str], cells: &[Vec<Cell>]) -> Result<String, std::fmt::Error> {
    let mut out = String::from(
        "| cluster | load | ops/s | p99 ms | CPU-s/1000 | CPU, of the first\'s | ops/s, of the first\'s | failed | stolen % |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for ((load, _), rows) in LOADS.iter().zip(cells.chunks(clusters.len())) {
        let Some(first) = rows.first() else { continue };
        for (said, row) in clusters.iter().zip(rows) {
            let of = |figure: fn(&Cell) -> f64| Spread::of(row.iter().map(figure).collect());
            let ratio = |figure: fn(&Cell) -> f64| {
                let pairs = row.iter().zip(first);
                Spread::of(pairs.map(|(a, b)| figure(a) / figure(b)).collect())
            };
            let shown = [
                of(|c| c.per_second).shown(0),
                of(|c| c.p99_ms).shown(2),
                of(|c| c.cpu_per_1000).shown(4),
                ratio(|c| c.cpu_per_1000).shown(3),
                ratio(|c| c.per_second).shown(3),
                of(|c| c.failed).shown(0),
                of(|c| c.stolen * 100.0).shown(0),
            ];
            writeln!(out, "| {said} | {load} | {} |", shown.join(" | "))?;
        }
    }
    Ok(out)
}
