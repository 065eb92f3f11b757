//! One line a second on stderr while a run goes on.

use crate::account::Counts;
use crate::arguments::Plan;
use crate::clock::{SECOND_NS, ns_as_seconds};
use crate::measure::Measure;
use crate::report::grouped;

/// What was printed last, and when.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    start_ns: u64,
    last_ns: u64,
    last: Counts,
}

impl Progress {
    /// Nothing printed yet.
    pub(crate) fn new(plan: &Plan, start_ns: u64) -> Self {
        Self { quiet: plan.common.quiet, start_ns, last_ns: start_ns, last: Counts::default() }
    }

    /// Whether a second has passed since the last line.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_ns) >= SECOND_NS
    }

    /// Prints a line.
    pub(crate) fn print(&mut self, now_ns: u64, measure: &Measure, waiting: u64) {
        let counts = measure.ledger.counts;
        if !self.quiet {
            let seconds = ns_as_seconds(now_ns - self.last_ns);
            let rate = |now: u64, before: u64| grouped(((now - before) as f64 / seconds) as u64);
            eprintln!(
                "{:>4} s  published {} ({}/s)  confirmed {} ({}/s, {} waiting)  delivered {} ({}/s)  confirm p50 {} ms{}",
                (now_ns - self.start_ns) / SECOND_NS,
                grouped(counts.published),
                rate(counts.published, self.last.published),
                grouped(counts.confirmed),
                rate(counts.confirmed, self.last.confirmed),
                grouped(waiting),
                grouped(counts.delivered),
                rate(counts.delivered, self.last.delivered),
                measure.confirm.p50_ms(),
                if measure.blocked > 0 { "  (the broker has blocked publishers)" } else { "" },
            );
        }
        self.last_ns = now_ns;
        self.last = counts;
    }
}
