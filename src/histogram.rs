//! How long things took, counted in a few classes: what the histograms of `/metrics` are made of. Both planes count, `app`
//! reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the classes, in thousandths of a second: from an answer out of the same zone to the four seconds after which
/// nobody waits any more.
const UPPER_ENDS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 300, 500, 1000, 2000, 5000];

/// Durations counted since the start. Counting takes no lock.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each upper end, and one for what took longer.
    classes: [AtomicU64; UPPER_ENDS.len() + 1],
    /// Of all durations, in millionths of a second: enough for half a million years.
    sum: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Durations {
    /// For each upper end in seconds, how many took no longer.
    pub up_to: Vec<(f64, u64)>,
    pub count: u64,
    /// In seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let class = UPPER_ENDS.iter().position(|end| took <= Duration::from_millis(*end)).unwrap_or(UPPER_ENDS.len());
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn read(&self) -> Durations {
        let counts = self.classes.each_ref().map(|class| class.load(Ordering::Relaxed));
        let mut count = 0;
        let up_to = UPPER_ENDS.iter().zip(&counts).map(|(end, of_class)| {
            count += of_class;
            (*end as f64 / 1000.0, count)
        });
        let up_to = up_to.collect();
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1_000_000.0;
        Durations { up_to, count: counts.iter().sum(), sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_holds_what_took_no_longer_and_the_count_all() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 300, 301, 5000, 5001, 100_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let read = histogram.read();
        let up_to = |end: f64| read.up_to.iter().find(|(at, _)| *at == end).unwrap().1;
        assert_eq!([0.001, 0.002, 0.1, 0.3, 0.5, 5.0].map(up_to), [2, 3, 3, 4, 5, 6]);
        assert_eq!((read.count, read.sum), (8, 110.605));
    }
}
