//! How often what happens in a queue, in all and lately. Only this leader's memory has it: it says nothing about messages
//! that another leader has seen.

use warren_proto::session::Tally;
use warren_types::UnixMillis;

/// How far `recent` looks back at least.
const SPAN_MS: u64 = 5_000;

/// The totals, and what they were a while ago.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) total: Tally,
    /// Of a queue in which something has happened: most have seen nothing.
    lately: Option<Box<Lately>>,
}

#[derive(Debug, Default)]
struct Lately {
    /// The totals at the last look, and when that was.
    last: (Tally, UnixMillis),
    /// The totals at two looks before that, `SPAN_MS` apart or more.
    marks: [(Tally, UnixMillis); 2],
}

impl Meter {
    /// To be called when something may have happened; costs a copy.
    pub(crate) fn look(&mut self, now: UnixMillis) {
        if self.lately.is_none() && self.total == Tally::default() {
            return;
        }
        let lately = self.lately.get_or_insert_default();
        let (before, at) = lately.last;
        if now.0.saturating_sub(at.0) >= SPAN_MS {
            // Whatever was before has been long ago.
            let begin = UnixMillis(now.0.saturating_sub(SPAN_MS));
            lately.marks = [(before, begin); 2];
        } else if at.0.saturating_sub(lately.marks[1].1.0) >= SPAN_MS {
            lately.marks = [lately.marks[1], lately.last];
        }
        lately.last = (self.total, now);
    }

    /// What has happened lately, and how many milliseconds that is.
    pub(crate) fn recent(&self, now: UnixMillis) -> (Tally, u64) {
        match &self.lately {
            Some(lately) if now.0.saturating_sub(lately.last.1.0) < 2 * SPAN_MS => {
                let (before, since) = lately.marks[0];
                (self.total.since(before), now.0.saturating_sub(since.0).max(SPAN_MS))
            }
            Some(_) | None => (Tally::default(), SPAN_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(meter: &Meter, now: u64) -> (u64, u64) {
        let (tally, ms) = meter.recent(UnixMillis(now));
        (tally.publish, ms)
    }

    fn publish(meter: &mut Meter, count: u64, now: u64) {
        meter.total.publish += count;
        meter.look(UnixMillis(now));
    }

    #[test]
    fn a_steady_flow_has_its_rate() {
        let mut meter = Meter::default();
        for second in 1_000..1_060 {
            publish(&mut meter, 10, second * 1_000);
            let (count, ms) = recent(&meter, second * 1_000);
            let rate = count * 1_000 / ms;
            if second >= 1_012 {
                assert!((9..=11).contains(&rate), "{count} in {ms} ms at {second}");
            }
        }
        assert_eq!(meter.total.publish, 600);
    }

    #[test]
    fn what_was_long_ago_is_not_recent() {
        let mut meter = Meter::default();
        publish(&mut meter, 1_000, 1_000_000);
        assert_eq!(recent(&meter, 1_000_000), (1_000, 5_000));
        assert_eq!(recent(&meter, 1_010_000), (0, 5_000));
        publish(&mut meter, 1, 9_000_000);
        assert_eq!(recent(&meter, 9_000_000), (1, 5_000));
    }
}
