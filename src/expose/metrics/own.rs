//! The daemon's metrics about itself, from its registry.

use std::fmt::Write as _;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::labels::LabelSet;
use super::text::{Kind, Writer};

pub(super) fn write(writer: &mut Writer, families: &[MetricFamily]) {
    for family in families {
        let name = family.name();
        match family.get_field_type() {
            MetricType::COUNTER => {
                writer.family(name, family.help(), Kind::Counter);
                for metric in family.get_metric() {
                    let value = metric.get_counter().get_value();
                    writer.sample(name, "", &labels(metric), value);
                }
            }
            MetricType::GAUGE => {
                writer.family(name, family.help(), Kind::Gauge);
                for metric in family.get_metric() {
                    writer.sample(name, "", &labels(metric), metric.get_gauge().get_value());
                }
            }
            MetricType::HISTOGRAM => {
                writer.family(name, family.help(), Kind::Histogram);
                for metric in family.get_metric() {
                    write_histogram(writer, name, metric);
                }
            }
            // `telemetry` has none of these.
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
}

fn write_histogram(writer: &mut Writer, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    let labels = labels(metric);
    let mut bucket = |bound: f64, count: u64| {
        let mut labels = labels.clone();
        let comma = if labels.is_empty() { "" } else { "," };
        // Writing to a String does not fail.
        write!(labels, "{comma}le=\"{}\"", writer.bound(bound)).ok();
        writer.sample(name, "_bucket", &labels, count as f64);
    };
    let finite = histogram.get_bucket().iter();
    for each in finite.filter(|bucket| bucket.upper_bound().is_finite()) {
        bucket(each.upper_bound(), each.cumulative_count());
    }
    bucket(f64::INFINITY, histogram.get_sample_count());
    writer.sample(name, "_sum", &labels, histogram.get_sample_sum());
    writer.sample(name, "_count", &labels, histogram.get_sample_count() as f64);
}

fn labels(metric: &Metric) -> String {
    let pairs = metric.get_label().iter();
    LabelSet::new([], pairs.map(|pair| (pair.name(), pair.value())), &[]).render()
}
