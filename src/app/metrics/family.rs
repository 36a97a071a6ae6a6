//! One metric: its name, what it means, and a series for each set of labels. The encoder escapes labels, whatever is in them.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::histogram::Durations;

/// A metric that is being put together.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    series: Vec<Metric>,
}

/// What a series may say.
pub(super) trait Number {
    fn to_f64(self) -> f64;
}

impl Number for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

impl Number for u32 {
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Number for u64 {
    /// Exact up to 2^53.
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Number for usize {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

/// A total since the start.
pub(super) fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::COUNTER, series: Vec::new() }
}

/// A state.
pub(super) fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::GAUGE, series: Vec::new() }
}

/// Durations in seconds.
pub(super) fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::HISTOGRAM, series: Vec::new() }
}

impl Family {
    /// One more series. Each set of labels may come once.
    pub(super) fn with<const N: usize>(mut self, labels: [(&str, &str); N], value: impl Number) -> Self {
        let (mut metric, value) = (labelled(labels), value.to_f64());
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.series.push(metric);
        self
    }

    /// One more series of a histogram.
    pub(super) fn with_durations<const N: usize>(mut self, labels: [(&str, &str); N], read: &Durations) -> Self {
        let buckets = read.up_to.iter().map(|(end, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*end);
            bucket.set_cumulative_count(*count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(read.count);
        histogram.set_sample_sum(read.sum);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.series.push(metric);
        self
    }

    /// As the encoder takes it; `None` if it has no series.
    pub(super) fn into_proto(self) -> Option<MetricFamily> {
        if self.series.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(self.series);
        Some(family)
    }
}

fn labelled<const N: usize>(labels: [(&str, &str); N]) -> Metric {
    let pairs = labels.map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.into())
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let family = gauge("sidegate_source_ids", "Ids.").with([("source", "file /a\"b\\c\nd\r{}=1 #")], 7usize);
        let text = TextEncoder::new().encode_to_string(&[family.into_proto().unwrap()]).unwrap();
        assert_eq!(
            text,
            "# HELP sidegate_source_ids Ids.\n# TYPE sidegate_source_ids gauge\n\
             sidegate_source_ids{source=\"file /a\\\"b\\\\c\\nd\r{}=1 #\"} 7\n"
        );
    }

    #[test]
    fn what_has_no_series_is_not_there() {
        assert!(gauge("sidegate_source_ids", "Ids.").into_proto().is_none());
    }
}
