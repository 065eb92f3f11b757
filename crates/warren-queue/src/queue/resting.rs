//! Messages that came back and rest before they are delivered again (`x-delayed-retry-type`), in their places. How long,
//! this leader alone remembers: at the next one they are ready at once.

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{Position, PositionRange, Retried, UnixMillis};

use super::{GiveBack, Queue};

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// `None`: it came back in this turn; its rest begins when the turn ends.
    until: Option<UnixMillis>,
    ms: u64,
    /// Size of the body.
    size: u32,
}

/// Those of a queue.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    messages: BTreeMap<Position, Rest>,
    /// Those whose end is known, in its order.
    due: BTreeSet<(UnixMillis, Position)>,
    /// Those whose end is not.
    fresh: Vec<Position>,
}

impl Resting {
    pub(crate) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(crate) fn positions(&self) -> impl Iterator<Item = Position> {
        self.messages.keys().copied()
    }

    /// Forgets all of them.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Position> + use<> {
        let all = std::mem::take(self);
        all.messages.into_keys()
    }

    pub(super) fn add(&mut self, position: Position, ms: u64, size: u32) {
        self.messages.insert(position, Rest { until: None, ms, size });
        self.fresh.push(position);
    }

    /// When the first of them has rested.
    pub(super) fn next_wake(&self) -> Option<UnixMillis> {
        self.due.first().map(|(until, _)| *until)
    }

    /// A home says that it holds these.
    pub(super) fn take_range(&mut self, range: PositionRange) -> Vec<PositionRange> {
        if self.messages.is_empty() || range.count() == 0 {
            return Vec::new();
        }
        let found: Vec<Position> =
            self.messages.range(range.first..=range.last).map(|(position, _)| *position).collect();
        found.iter().for_each(|position| self.forget(*position));
        PositionRange::collect(found)
    }

    fn forget(&mut self, position: Position) {
        if let Some(Rest { until: Some(until), .. }) = self.messages.remove(&position) {
            self.due.remove(&(until, position));
        }
    }

    fn begin(&mut self, now: UnixMillis) {
        for position in std::mem::take(&mut self.fresh) {
            let Some(rest) = self.messages.get_mut(&position).filter(|rest| rest.until.is_none()) else {
                continue;
            };
            let until = UnixMillis(now.0.saturating_add(rest.ms));
            rest.until = Some(until);
            self.due.insert((until, position));
        }
    }

    fn pop_rested(&mut self, now: UnixMillis) -> Option<(Position, u32)> {
        let (_, position) = self.due.first().copied().filter(|(until, _)| *until <= now)?;
        let size = self.messages.get(&position).map_or(0, |rest| rest.size);
        self.forget(position);
        Some((position, size))
    }
}

impl Queue {
    /// How long a message that comes back is to rest. What no client has seen goes back at once.
    pub(super) fn rest_ms(&self, position: Position, how: GiveBack) -> Option<u64> {
        let retry = self.settings.delayed_retry?;
        let rests = match retry.which {
            Retried::All => true,
            Retried::Failed => how.failed,
            Retried::Returned => !how.failed,
        };
        let failures = self.counts.get(&position).copied().unwrap_or_default().max(1);
        let ms = retry.min_ms.saturating_mul(failures.into()).min(retry.max_ms);
        (how.seen && rests).then_some(ms)
    }

    /// Lets those begin to rest that came back in this turn, and those go back that have rested.
    pub(crate) fn wake_rested(&mut self, now: UnixMillis) {
        if self.resting.messages.is_empty() {
            return;
        }
        self.resting.begin(now);
        while let Some((position, size)) = self.resting.pop_rested(now) {
            let lane = self.lane_at(position);
            lane.head_sleeps_until = None;
            lane.returned.insert(position);
            self.ready_bytes = self.ready_bytes.saturating_add(u64::from(size));
        }
    }
}
