//! When a producer may send. At a fixed rate each message has its place in time from the start, whether the broker keeps
//! up or not; it is measured from there. So a broker that stalls for a second shows that second in the latency of every
//! message that should have been sent meanwhile, not only in the one that happened to be on its way.

use crate::clock::SECOND_NS;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pacing {
    /// As soon as there is room.
    Free,
    /// Message `k` at `start_ns + k * interval_ns`.
    Fixed { start_ns: u64, interval_ns: f64 },
}

impl Pacing {
    /// The pace of producer `index` of `count`, when all together send `rate` messages a second from `start_ns` on. The
    /// producers take turns: their messages are spread evenly, not sent in bursts of `count`.
    pub(crate) fn fixed(rate: f64, index: usize, count: usize, start_ns: u64) -> Self {
        let between_any_ns = SECOND_NS as f64 / rate;
        let offset_ns = between_any_ns * index as f64;
        Self::Fixed { start_ns: start_ns + offset_ns as u64, interval_ns: between_any_ns * count as f64 }
    }

    /// When message `sequence` is due; none: whenever there is room.
    #[inline]
    pub(crate) fn due_ns(&self, sequence: u64) -> Option<u64> {
        match self {
            Self::Free => None,
            Self::Fixed { start_ns, interval_ns } => Some(start_ns + (sequence as f64 * interval_ns) as u64),
        }
    }

    /// The moment that message `sequence`, which could be sent `now_ns`, counts from; none: it is too early for it.
    #[inline]
    pub(crate) fn stamp_ns(&self, sequence: u64, now_ns: u64) -> Option<u64> {
        match self.due_ns(sequence) {
            None => Some(now_ns),
            Some(due_ns) => (due_ns <= now_ns).then_some(due_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_a_stall_held_up_count_from_when_they_were_due() {
        let pacing = Pacing::fixed(1_000.0, 0, 1, 5_000_000);
        // A stall of 10 ms: the ten messages due in it are stamped with their own times, the eleventh is not due yet.
        let now_ns = 5_000_000 + 9_500_000;
        let stamps: Vec<_> = (0..=10).map(|sequence| pacing.stamp_ns(sequence, now_ns)).collect();
        let expected: Vec<_> =
            (0..=10).map(|sequence| (sequence < 10).then_some(5_000_000 + sequence * 1_000_000)).collect();
        assert_eq!(stamps, expected);
    }

    #[test]
    fn producers_take_turns_at_the_whole_rate() {
        let mut due: Vec<_> = (0..4)
            .flat_map(|index| {
                let pacing = Pacing::fixed(100.0, index, 4, 0);
                (0..3).map(move |sequence| pacing.due_ns(sequence).unwrap())
            })
            .collect();
        due.sort_unstable();
        let expected: Vec<_> = (0..12).map(|turn| turn * 10_000_000).collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn without_a_rate_a_message_counts_from_when_it_is_sent() {
        assert_eq!(Pacing::Free.stamp_ns(7, 42), Some(42));
    }
}
