//! The numbers as text: what a collector reads at `GET /metrics`.
//!
//! May not count anything but this process itself. Invariant: a scrape reads, it never waits for
//! the work that it counts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::ground::clock::Clock;
use crate::ports::process;
use crate::ports::telemetry::{Metrics, Reading, Shape, Shown};

/// The media type of [`Exposition::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sets what is only known when somebody asks, such as counts of an index.
pub type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Renders one set of numbers.
pub struct Exposition {
    metrics: Arc<Metrics>,
    registry: Registry,
    before: Vec<Refresh>,
}

impl Exposition {
    /// Of these numbers; the process is taken to have started now.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, clock: &dyn Clock, before: Vec<Refresh>) -> Self {
        metrics.start_time.set(u64::try_from(clock.now().millis() / 1000).unwrap_or(0));
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("dormouse_build", "The program that runs", build);
        registry.register_collector(Box::new(Table(Arc::clone(&metrics))));
        Self { metrics, registry, before }
    }

    /// All of them as they stand now, in the `OpenMetrics` text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.before.iter().for_each(|refresh| refresh(&self.metrics));
        if let Some(bytes) = process::resident_bytes() {
            self.metrics.resident_bytes.set(bytes);
        }
        if let Some(count) = process::open_fds() {
            self.metrics.open_fds.set(count);
        }
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

/// The numbers, as the encoder wants to see them.
struct Table(Arc<Metrics>);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Table")
    }
}

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for metric in self.0.show() {
            let shape = match metric.shape {
                Shape::Count => MetricType::Counter,
                Shape::Level => MetricType::Gauge,
                Shape::Spread => MetricType::Histogram,
            };
            encode(&metric, encoder.encode_descriptor(metric.name, metric.help, None, shape)?)?;
        }
        Ok(())
    }
}

fn encode(metric: &Shown, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    if metric.readings.is_empty() && metric.labels.is_empty() && metric.shape == Shape::Count {
        // A counter that is there from the beginning shows its first step as a step.
        return put(&Reading::Count(0), &mut encoder);
    }
    for (values, reading) in &metric.readings {
        if values.is_empty() {
            put(reading, &mut encoder)?;
            continue;
        }
        let named = metric.labels.iter().zip(values);
        let labels: Vec<(Cow<'_, str>, Cow<'_, str>)> =
            named.map(|(name, value)| ((*name).into(), value.into())).collect();
        put(reading, &mut encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

fn put(reading: &Reading, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match reading {
        Reading::Count(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
        Reading::Level(level) => encoder.encode_gauge(level),
        Reading::Spread { sum, buckets } => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::{ManualClock, Timestamp};

    #[test]
    fn what_was_written_is_shown_as_text() {
        let metrics = Arc::new(Metrics::default());
        let clock = ManualClock::at(Timestamp::from_millis(5_000));
        let refresh: Refresh = Box::new(|metrics| metrics.runs.with(["parked"]).set(3));
        let exposition = Exposition::new(Arc::clone(&metrics), &clock, vec![refresh]);
        metrics.effect_outcomes.with(["agent", "ok"]).add(2);
        metrics.settle.observe(0.003);
        let text = exposition.render();
        for line in [
            "dormouse_build_info{version=\"",
            "dormouse_runs{state=\"parked\"} 3\n",
            "dormouse_effect_outcomes_total{kind=\"agent\",outcome=\"ok\"} 2\n",
            "dormouse_settle_seconds_count 1\n",
            "dormouse_settle_seconds_bucket{le=\"0.002\"} 0\n",
            "dormouse_settle_seconds_bucket{le=\"0.005\"} 1\n",
            "dormouse_settle_seconds_bucket{le=\"+Inf\"} 1\n",
            "dormouse_divergences_total 0\n",
            "dormouse_start_time_seconds 5\n",
            "process_open_fds ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("\ndormouse_runs_warm "), "nobody set it");
    }
}
