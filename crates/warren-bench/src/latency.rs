//! Latencies as histograms with three significant digits, and the few numbers a report shows of one.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::SECOND_NS;
use crate::error::BenchError;

/// Latencies of one kind.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

/// Below a microsecond nothing is told apart; an hour and longer counts as an hour.
const SHORTEST_NS: u64 = 1_000;
const LONGEST_NS: u64 = 3_600 * SECOND_NS;

impl Latency {
    /// No latencies yet.
    ///
    /// # Errors
    /// Never with the constants above; the histogram's maker can refuse others.
    pub(crate) fn new() -> Result<Self, BenchError> {
        Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, 3)
            .map(Self)
            .map_err(|refusal| BenchError::Usage(refusal.to_string()))
    }

    /// Something that began at `from_ns` was over at `to_ns`. What ended before it began (another machine's clock) took no time.
    #[inline]
    pub(crate) fn record(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns));
    }

    /// Forgets everything: the warm-up is over.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// Adds another worker's.
    pub(crate) fn merge(&mut self, other: &Self) {
        // Both have the same bounds: nothing of one is out of the other's range.
        self.0 += &other.0;
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The middle one, in milliseconds.
    pub(crate) fn p50_ms(&self) -> f64 {
        milliseconds(self.0.value_at_quantile(0.5))
    }

    /// The numbers of a report; none when nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Summary> {
        (!self.0.is_empty()).then(|| Summary {
            count: self.0.len(),
            mean: milliseconds(self.0.mean() as u64),
            p50: milliseconds(self.0.value_at_quantile(0.5)),
            p95: milliseconds(self.0.value_at_quantile(0.95)),
            p99: milliseconds(self.0.value_at_quantile(0.99)),
            p999: milliseconds(self.0.value_at_quantile(0.999)),
            max: milliseconds(self.0.max()),
        })
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// How many were recorded.
    pub(crate) count: u64,
    /// Their mean.
    pub(crate) mean: f64,
    /// Half took no longer.
    pub(crate) p50: f64,
    /// 95 in 100 took no longer.
    pub(crate) p95: f64,
    /// 99 in 100 took no longer.
    pub(crate) p99: f64,
    /// 999 in 1,000 took no longer.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// Milliseconds, rounded to whole microseconds.
fn milliseconds(ns: u64) -> f64 {
    (ns as f64 / 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let mut latency = Latency::new().unwrap();
        (1..=1_000).for_each(|ms| latency.record(5, 5 + ms * 1_000_000));
        let summary = latency.summary().unwrap();
        let near = |found: f64, expected: f64| {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} is not {expected}")
        };
        near(summary.p50, 500.0);
        near(summary.p95, 950.0);
        near(summary.p99, 990.0);
        near(summary.p999, 999.0);
        near(summary.max, 1_000.0);
        near(summary.mean, 500.5);
        assert_eq!(summary.count, 1_000);
    }

    #[test]
    fn a_warm_up_leaves_nothing_behind() {
        let mut latency = Latency::new().unwrap();
        latency.record(0, 5 * SECOND_NS);
        latency.clear();
        assert_eq!(latency.summary(), None);
        latency.record(10, 5);
        // Nothing below the shortest time is told apart.
        let summary = latency.summary().unwrap();
        assert!(summary.count == 1 && summary.max <= 0.002, "{summary:?}");
    }
}
