//! How much of the network and of the disks replicas that move or are rebuilt may take from those that serve.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Bytes a second for all snapshots that a node sends.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_per_s: u64,
    /// When everything that was granted is paid.
    paid_at: Mutex<Option<Instant>>,
}

impl Budget {
    /// 0 is no limit.
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, paid_at: Mutex::new(None) }
    }

    /// Waits until so many bytes may be sent: what was granted before has to be paid first. Senders take turns. One that goes away
    /// while it waits has paid for nothing.
    pub(crate) async fn spend(&self, bytes: usize) {
        let start = self.grant(bytes, Instant::now());
        tokio::time::sleep_until(start).await;
    }

    fn grant(&self, bytes: usize, now: Instant) -> Instant {
        if self.bytes_per_s == 0 {
            return now;
        }
        let nanos = (bytes as u128).saturating_mul(1_000_000_000) / u128::from(self.bytes_per_s);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut paid_at = self.paid_at.lock();
        let start = paid_at.map_or(now, |paid| paid.max(now));
        *paid_at = Some(start.checked_add(cost).unwrap_or(start));
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_no_more_is_sent_than_the_budget_allows() {
        let (budget, now) = (Budget::new(1000), Instant::now());
        assert_eq!(budget.grant(500, now), now);
        assert_eq!(budget.grant(1000, now), now + Duration::from_millis(500));
        assert_eq!(budget.grant(1, now), now + Duration::from_millis(1500));
        // What was not used is not saved up.
        let later = now + Duration::from_secs(10);
        assert_eq!(budget.grant(1000, later), later);
        assert_eq!(budget.grant(1, later), later + Duration::from_secs(1));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let (budget, now) = (Budget::new(0), Instant::now());
        assert_eq!((budget.grant(usize::MAX, now), budget.grant(1, now)), (now, now));
    }
}
