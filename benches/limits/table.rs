//! The table, and each target beside what was measured. Figures are medians over the repeats, with
//! the least and the greatest; a ratio is taken within a repeat.

use std::fmt::Write;

use super::cells::{Cell, Measured, Repeat};

type Pick = fn(&Repeat) -> Cell;

const ROWS: [(&str, &str, Pick); 7] = [
    ("echo, 1 process", "PUT c=64", |r| r.echo_put),
    ("bare coordinator, 3 nodes", "PUT c=64", |r| r.bare_put),
    ("quorate, 3 nodes", "PUT c=64", |r| r.put),
    ("echo, 1 process", "GET c=64", |r| r.echo_get),
    ("quorate, 3 nodes", "GET c=64", |r| r.get),
    ("quorate, 3 nodes", "PUT c=1", |r| r.put_alone),
    ("quorate, 3 nodes", "GET c=1", |r| r.get_alone),
];

/// The whole report, in Markdown.
pub(crate) fn render(measured: &Measured) -> Result<String, std::fmt::Error> {
    let mut out = String::from(
        "| system | load | ops/s | p50 ms | p99 ms | CPU-s/1000 | failed | stolen % |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (system, load, pick) in ROWS {
        let of = |figure: fn(&Cell) -> f64| {
            let figures = measured.repeats.iter().map(|r| figure(&pick(r)));
            Spread::of(figures.collect())
        };
        let row = [
            of(|c| c.per_second).shown(0),
            of(|c| c.p50_ms).shown(2),
            of(|c| c.p99_ms).shown(2),
            of(|c| c.cpu_per_1000).shown(4),
            of(|c| c.failed).shown(0),
            of(|c| c.stolen * 100.0).shown(0),
        ];
        writeln!(out, "| {system} | {load} | {} |", row.join(" | "))?;
    }
    write!(
        out,
        "\n| figure | measured | target | |\n|---|---|---|---|\n"
    )?;
    for (figure, spread, target) in figures(measured) {
        let met = if target.is_met(spread.median) {
            "met"
        } else {
            "missed"
        };
        let (shown, target) = (spread.shown(3), target.shown());
        writeln!(out, "| {figure} | {shown} | {target} | {met} |")?;
    }
    Ok(out)
}

#[derive(Debug, Clone, Copy)]
enum Target {
    AtLeast(f64),
    Below(f64),
}

impl Target {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::Below(bound) => figure < bound,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::Below(bound) => format!("< {bound}"),
        }
    }
}

fn figures(measured: &Measured) -> [(&'static str, Spread, Target); 7] {
    let of = |figure: fn(&Repeat) -> f64| Spread::of(measured.repeats.iter().map(figure).collect());
    let one = |figure| Spread::of(vec![figure]);
    let put = of(|r| r.put.per_second / r.bare_put.per_second);
    let get = of(|r| r.get.per_second / r.echo_get.per_second);
    let alone = of(|r| r.put_alone.p99_ms.max(r.get_alone.p99_ms));
    [
        ("PUT, of the bare coordinator's", put, Target::AtLeast(0.5)),
        (
            "CPU seconds for 1000 PUTs",
            of(|r| r.put.cpu_per_1000),
            Target::Below(0.12),
        ),
        // 15 000 a second where the echo does 74 000.
        ("GET, of the echo's", get, Target::AtLeast(0.203)),
        (
            "CPU seconds for 1000 GETs",
            of(|r| r.get.cpu_per_1000),
            Target::Below(0.12),
        ),
        ("p99 at one connection, ms", alone, Target::Below(10.0)),
        (
            "MiB of a node with 10 000 keys of 100 B",
            one(measured.loaded_mib),
            Target::Below(100.0),
        ),
        (
            "MiB of a node after all of this",
            one(measured.final_mib),
            Target::Below(100.0),
        ),
    ]
}

/// The median of some figures, the least and the greatest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        Self {
            median: at(figures.len() / 2),
            least: at(0),
            most: at(figures.len().saturating_sub(1)),
        }
    }

    pub(crate) fn shown(self, digits: usize) -> String {
        let Self {
            median,
            least,
            most,
        } = self;
        if (least - most).abs() < f64::EPSILON {
            return format!("{median:.digits$}");
        }
        format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}
