//! A queue's begin after another leader, and what a home claims when it attaches.

use std::sync::Arc;

use warren_proto::shard::QueueState;
use warren_types::{Position, PositionRange, SessionId, SubscriptionId, UnixMillis};

use super::{Cache, Consumers, GiveBack, Holder, Queue, Transit, before, size_of};
use crate::held::Held;
use crate::positions::PositionSet;

impl Queue {
    /// The queue as the replica has it. What an earlier leader may have delivered is withheld until it is claimed
    /// or released.
    pub(crate) fn open(state: &QueueState, transit: Transit, marks: bool, now: UnixMillis) -> Self {
        let withheld: PositionSet = state.maybe_delivered.iter().copied().collect();
        // Everything live at or below the mark is in `maybe_delivered`, so it is accounted for.
        let mark = state.mark.min(before(state.next_position)).max(withheld.last().unwrap_or_default());
        Self {
            id: state.queue,
            next: state.next_position.max(Position(1)),
            predicted: state.next_position.max(Position(1)),
            live: state.live.max(withheld.count()),
            ready_bytes: state.live_bytes,
            mark: if marks { state.mark } else { Position(u64::MAX) },
            mark_proposed: if marks { state.mark } else { Position(u64::MAX) },
            ahead: 0,
            starved_at: Position(0),
            delivered_to: mark,
            seen_to: Position(0),
            loaded_to: mark,
            window: std::collections::VecDeque::new(),
            back: std::collections::BTreeMap::new(),
            returned: PositionSet::new(),
            unseen: PositionSet::new(),
            withheld,
            unacked: Held::default(),
            counts: std::collections::BTreeMap::new(),
            consumers: Consumers::new(transit),
            gets: std::collections::VecDeque::new(),
            loading: None,
            used: state.used,
            deleting: None,
            refuse_until: UnixMillis(0),
            touched: false,
            waits_for_mark: false,
            settings: Arc::default(),
            admitted: 0,
            admitted_bytes: 0,
            // Nobody knows what is in the store until its head has been looked at.
            may_expire: state.live > 0,
            examined_to: before(state.next_position),
            head_sleeps_until: None,
            timer: None,
            gone: Vec::new(),
            dying: super::dying::Dying::default(),
            last_used: now,
        }
    }

    /// The session says that it holds these deliveries. Granted for those that wait for a claim, or that went back
    /// and are not delivered again; all others are somebody else's or gone, and ignored.
    pub(crate) fn claim(
        &mut self,
        session: SessionId,
        subscription: Option<SubscriptionId>,
        ranges: &[PositionRange],
        cache: &mut Cache,
    ) {
        for range in ranges {
            for found in self.withheld.take_range(*range) {
                self.hold(session, subscription, found);
            }
            for found in self.returned.take_range(*range) {
                self.unseen.take_range(found);
                self.hold(session, subscription, found);
            }
            if !self.back.is_empty() && range.count() > 0 {
                let found: Vec<Position> =
                    self.back.range(range.first..=range.last).map(|(position, _)| *position).collect();
                for position in found {
                    if let Some(ready) = self.back.remove(&position) {
                        cache.remove(size_of(&ready.message));
                        self.hold(session, subscription, PositionRange::one(position));
                    }
                }
            }
        }
    }

    /// The session came back and does not hold what of its deliveries is outside `held`: they were lost on the way,
    /// so no client has seen them. What it does hold is noted under the consumer it names.
    pub(crate) fn reconcile(&mut self, session: SessionId, held: &[(Option<SubscriptionId>, PositionSet)]) {
        let mut unacked = std::mem::take(&mut self.unacked);
        let mut kept = Vec::new();
        unacked.take_all(
            |_, holder| holder.session == session,
            |position, holder| match held.iter().find(|(_, positions)| positions.contains(position)) {
                Some((subscription, _)) => {
                    kept.push((position, Holder { subscription: *subscription, ..holder }));
                }
                None => self.put_back(position, holder, GiveBack { failed: false, seen: false }),
            },
        );
        for (position, holder) in kept {
            unacked.insert(position, holder);
        }
        self.unacked = unacked;
    }

    /// Counts anew what each of the session's consumers holds.
    pub(crate) fn recount(&mut self, session: SessionId) {
        let mut counts: std::collections::BTreeMap<super::ConsumerKey, u32> =
            self.consumers.iter().filter(|((of, _), _)| *of == session).map(|(key, _)| (*key, 0)).collect();
        if counts.is_empty() {
            return;
        }
        for (_, holder) in self.unacked.iter() {
            if let Some(count) = holder.consumer().and_then(|key| counts.get_mut(&key)) {
                *count = count.saturating_add(1);
            }
        }
        for (key, count) in counts {
            self.consumers.update(key, |consumer| consumer.unacked = count);
        }
    }

    /// Nobody can claim any more: what is withheld goes back to its place.
    pub(crate) fn release_withheld(&mut self) {
        self.head_sleeps_until = None;
        for range in std::mem::take(&mut self.withheld).ranges() {
            self.returned.insert_range(range);
        }
    }

    fn hold(&mut self, session: SessionId, subscription: Option<SubscriptionId>, range: PositionRange) {
        for position in range.iter() {
            // The client has it already, so when it comes back it is `redelivered`, whatever it was before.
            self.unacked.insert(position, Holder { session, subscription, size: 0, redelivered: true });
        }
    }
}
