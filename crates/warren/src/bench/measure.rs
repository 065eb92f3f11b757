//! What a run has measured so far: the books, the latencies, and when each kind of thing last happened.

use super::account::{Counts, Ledger};
use super::arguments::Plan;
use super::clock::{monotonic_ns, own_cpu_ns};
use super::error::BenchError;
use super::latency::Latency;
use super::process::{Usage, usage};

/// The measurements, written by producers and consumers.
#[derive(Debug)]
pub(super) struct Measure {
    pub(super) ledger: Ledger,
    /// From publish to confirm.
    pub(super) confirm: Latency,
    /// From publish to delivery.
    pub(super) delivery: Latency,
    pub(super) last_publish_ns: u64,
    pub(super) last_confirm_ns: u64,
    pub(super) last_delivery_ns: u64,
    /// How often the broker asked publishers to pause (connection.blocked).
    pub(super) blocked: u64,
}

impl Measure {
    /// Nothing measured yet.
    pub(super) fn new(ledger: Ledger) -> Result<Self, BenchError> {
        Ok(Self {
            ledger,
            confirm: Latency::new()?,
            delivery: Latency::new()?,
            last_publish_ns: 0,
            last_confirm_ns: 0,
            last_delivery_ns: 0,
            blocked: 0,
        })
    }

    /// When anything last happened; 0: never.
    pub(super) fn last_ns(&self) -> u64 {
        self.last_publish_ns.max(self.last_confirm_ns).max(self.last_delivery_ns)
    }
}

/// The stretch of time that the figures are about, from the end of the warm-up on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// When it began.
    pub(super) start_ns: u64,
    /// The counts then.
    pub(super) counts: Counts,
    /// The brokers' usage then.
    pub(super) usage: Option<Usage>,
    /// This process's CPU then.
    pub(super) own_cpu_ns: u64,
    /// The brokers' largest memory since.
    pub(super) rss_peak_bytes: u64,
}

impl Window {
    /// Begins now: the latencies so far are forgotten, the counts are remembered.
    pub(super) fn begin(plan: &Plan, measure: &mut Measure) -> Self {
        measure.confirm.clear();
        measure.delivery.clear();
        let usage = usage(&plan.common.pids);
        Self {
            start_ns: monotonic_ns(),
            counts: measure.ledger.counts,
            usage,
            own_cpu_ns: own_cpu_ns(),
            rss_peak_bytes: usage.map_or(0, |usage| usage.rss_bytes),
        }
    }

    /// Looks at the brokers' memory.
    pub(super) fn watch(&mut self, plan: &Plan) {
        let now = usage(&plan.common.pids).map_or(0, |usage| usage.rss_bytes);
        self.rss_peak_bytes = self.rss_peak_bytes.max(now);
    }
}
