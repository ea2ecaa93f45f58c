//! A page of metrics, as Prometheus scrapes it: the catalogue with the numbers of one moment.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::catalogue::{ALL, Kind, Spec};
use super::histogram::{MICROS, SIBLINGS, Shown};

/// What the page is served as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Of the steps of a duration only 1, 2 and 5 of a decade are shown, or there would be too many
/// series.
const SHOWN_DIGITS: [u64; 3] = [1, 2, 5];

/// The numbers of one moment.
#[derive(Debug, Default)]
pub struct Page(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    spec: &'static Spec,
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Real(f64),
    Steps {
        sum: f64,
        count: u64,
        steps: Vec<(f64, u64)>,
    },
}

impl Page {
    /// Adds a whole number; the labels' values in the order of the catalogue.
    pub fn count(&mut self, spec: &'static Spec, labels: &[&str], value: u64) {
        self.add(spec, labels, Value::Count(value));
    }

    /// Adds a number.
    pub fn real(&mut self, spec: &'static Spec, labels: &[&str], value: f64) {
        self.add(spec, labels, Value::Real(value));
    }

    /// Adds a yes or no.
    pub fn flag(&mut self, spec: &'static Spec, labels: &[&str], value: bool) {
        self.count(spec, labels, value.into());
    }

    /// Adds a histogram of durations.
    pub fn durations(&mut self, spec: &'static Spec, labels: &[&str], shown: &Shown) {
        let seconds = |micros: u64| real(micros) / 1e6;
        let steps = shown_steps(MICROS, &shown.steps, is_shown);
        let steps = steps
            .into_iter()
            .map(|(bound, count)| (bound.map_or(f64::INFINITY, seconds), count));
        let value = Value::Steps {
            sum: seconds(shown.sum),
            count: shown.count(),
            steps: steps.collect(),
        };
        self.add(spec, labels, value);
    }

    /// Adds a histogram of siblings.
    pub fn siblings(&mut self, spec: &'static Spec, shown: &Shown) {
        let steps = shown_steps(SIBLINGS, &shown.steps, |_| true);
        let steps = steps
            .into_iter()
            .map(|(bound, count)| (bound.map_or(f64::INFINITY, real), count));
        let value = Value::Steps {
            sum: real(shown.sum),
            count: shown.count(),
            steps: steps.collect(),
        };
        self.add(spec, &[], value);
    }

    fn add(&mut self, spec: &'static Spec, labels: &[&str], value: Value) {
        debug_assert_eq!(spec.labels.len(), labels.len(), "{}", spec.name);
        let values = labels.iter().map(ToString::to_string);
        let labels = spec.labels.iter().copied().zip(values).collect();
        self.0.push(Sample {
            spec,
            labels,
            value,
        });
    }

    /// The page as `OpenMetrics` text.
    ///
    /// # Errors
    /// Those of formatting.
    pub fn encode(self) -> Result<String, fmt::Error> {
        let (mut registry, mut out) = (Registry::default(), String::with_capacity(64 * 1024));
        registry.register_collector(Box::new(self));
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for spec in ALL {
            let mut samples = self
                .0
                .iter()
                .filter(|sample| sample.spec == *spec)
                .peekable();
            if samples.peek().is_none() {
                continue;
            }
            let unit = spec.unit().map(|unit| Unit::Other(unit.to_owned()));
            let suffix = spec.unit().map(|unit| format!("_{unit}"));
            let bare = suffix.and_then(|suffix| spec.name.strip_suffix(&suffix));
            let mut family = encoder.encode_descriptor(
                bare.unwrap_or(spec.name),
                spec.help,
                unit.as_ref(),
                metric_type(spec.kind),
            )?;
            for sample in samples {
                if sample.labels.is_empty() {
                    sample.encode_into(&mut family)?;
                } else {
                    sample.encode_into(&mut family.encode_family(&sample.labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Sample {
    fn encode_into(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::NoLabelSet;
        match (self.spec.kind, &self.value) {
            (Kind::Counter, Value::Count(value)) => {
                encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
            }
            (Kind::Counter, Value::Real(value)) => {
                encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
            }
            (Kind::Gauge, Value::Count(value)) => encoder.encode_gauge(value),
            (Kind::Gauge, Value::Real(value)) => encoder.encode_gauge(value),
            (_, Value::Steps { sum, count, steps }) => {
                encoder.encode_histogram::<NoLabelSet>(*sum, *count, steps, None)
            }
            (Kind::Histogram, Value::Count(_) | Value::Real(_)) => Err(fmt::Error),
        }
    }
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    }
}

/// The steps up to each bound that is shown, and last, those beyond all.
fn shown_steps(
    bounds: &[u64],
    steps: &[u64],
    is_shown: impl Fn(u64) -> bool,
) -> Vec<(Option<u64>, u64)> {
    let (mut out, mut count) = (Vec::new(), 0);
    let bounds = bounds.iter().copied().map(Some).chain([None]);
    for (bound, step) in bounds.zip(steps) {
        count += step;
        if bound.is_none_or(&is_shown) {
            out.push((bound, count));
            count = 0;
        }
    }
    out
}

fn is_shown(mut micros: u64) -> bool {
    while micros.is_multiple_of(10) && micros > 0 {
        micros /= 10;
    }
    SHOWN_DIGITS.contains(&micros)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be looked at")]
fn real(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::catalogue::{BUILD, DURATION, KEYS, OPERATIONS, PROCESS_CPU, SIBLINGS};
    use crate::metrics::histogram::{self, Histogram};

    #[test]
    fn a_page_is_openmetrics_text() {
        let mut page = Page::default();
        page.count(OPERATIONS, &["get", "done"], 7);
        page.count(BUILD, &["1.2.3", "always"], 1);
        page.real(PROCESS_CPU, &[], 1.5);
        page.count(KEYS, &[], 12);
        let text = page.encode().unwrap();
        let expected = "# HELP quorate_build_info 1, with the version of the program and when it syncs
# TYPE quorate_build_info gauge
quorate_build_info{version=\"1.2.3\",durability=\"always\"} 1
# HELP quorate_coordinator_operations Operations that this node coordinated (get, create, put, delete), by how they ended
# TYPE quorate_coordinator_operations counter
quorate_coordinator_operations_total{operation=\"get\",outcome=\"done\"} 7
# HELP quorate_keys Keys with a value on this node
# TYPE quorate_keys gauge
quorate_keys 12
# HELP process_cpu_seconds Time on a processor
# TYPE process_cpu_seconds counter
# UNIT process_cpu_seconds seconds
process_cpu_seconds_total 1.5
# EOF
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_histogram_is_shown_by_fewer_steps_that_still_hold_everything() {
        let histogram = Histogram::of_durations();
        for micros in [1, 60, 70, 160, 300, 20_000_000] {
            histogram.took(Duration::from_micros(micros));
        }
        let mut page = Page::default();
        page.durations(DURATION, &["put"], &histogram.shown());
        let text = page.encode().unwrap();
        let bucket = |le: &str| {
            let start = format!(
                "quorate_coordinator_duration_seconds_bucket{{le=\"{le}\",operation=\"put\"}} "
            );
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("no {start} in {text}"))
                .to_owned()
        };
        let rows = [
            ("0.00005", "1"),
            ("0.0001", "3"),
            ("0.0002", "4"),
            ("0.0005", "5"),
            ("10.0", "5"),
            ("+Inf", "6"),
        ];
        for (le, count) in rows {
            assert_eq!(bucket(le), count, "{le}");
        }
        assert_eq!(text.matches("_bucket{").count(), 18, "{text}");
        assert!(text.contains("_count{operation=\"put\"} 6\n"), "{text}");
    }

    #[test]
    fn siblings_are_shown_step_by_step() {
        let histogram = Histogram::new(histogram::SIBLINGS);
        for size in [1, 1, 2, 99] {
            histogram.met(size);
        }
        let mut page = Page::default();
        page.siblings(SIBLINGS, &histogram.shown());
        let text = page.encode().unwrap();
        assert!(
            text.contains("quorate_read_siblings_bucket{le=\"1.0\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("quorate_read_siblings_sum 103.0\n"), "{text}");
    }
}
