//! What a run has measured so far: the books, the latencies, and when each kind of thing last happened.

use crate::account::{Counts, Ledger};
use crate::arguments::Plan;
use crate::clock::{monotonic_ns, own_cpu_ns};
use crate::error::BenchError;
use crate::latency::Latency;
use crate::process::{Usage, usage};

/// The measurements, written by producers and consumers.
#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) ledger: Ledger,
    /// From publish to confirm.
    pub(crate) confirm: Latency,
    /// From publish to delivery.
    pub(crate) delivery: Latency,
    pub(crate) last_publish_ns: u64,
    pub(crate) last_confirm_ns: u64,
    pub(crate) last_delivery_ns: u64,
    /// 0 until then.
    pub(crate) first_delivery_ns: u64,
    /// How often the broker asked publishers to pause (connection.blocked).
    pub(crate) blocked: u64,
}

impl Measure {
    /// Nothing measured yet.
    pub(crate) fn new(ledger: Ledger) -> Result<Self, BenchError> {
        Ok(Self {
            ledger,
            confirm: Latency::new()?,
            delivery: Latency::new()?,
            last_publish_ns: 0,
            last_confirm_ns: 0,
            last_delivery_ns: 0,
            first_delivery_ns: 0,
            blocked: 0,
        })
    }

    /// Something was delivered.
    #[inline]
    pub(crate) fn on_delivery(&mut self, now_ns: u64) {
        self.last_delivery_ns = now_ns;
        if self.first_delivery_ns == 0 {
            self.first_delivery_ns = now_ns;
        }
    }

    /// When anything last happened; 0: never.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_publish_ns.max(self.last_confirm_ns).max(self.last_delivery_ns)
    }
}

/// The stretch of time that the figures are about, from the end of the warm-up on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// When it began.
    pub(crate) start_ns: u64,
    /// The counts then.
    pub(crate) counts: Counts,
    /// The brokers' usage then.
    pub(crate) usage: Option<Usage>,
    /// This process's CPU then.
    pub(crate) own_cpu_ns: u64,
    /// The brokers' largest memory since.
    pub(crate) rss_peak_bytes: u64,
}

impl Window {
    /// Begins now: the latencies so far are forgotten, the counts are remembered.
    pub(crate) fn begin(plan: &Plan, measure: &mut Measure) -> Self {
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
    pub(crate) fn watch(&mut self, plan: &Plan) {
        let now = usage(&plan.common.pids).map_or(0, |usage| usage.rss_bytes);
        self.rss_peak_bytes = self.rss_peak_bytes.max(now);
    }
}
