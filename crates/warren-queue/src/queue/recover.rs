//! A queue's begin after another leader, and what a home claims when it attaches.

use std::sync::Arc;

use warren_proto::shard::QueueState;
use warren_types::{Position, PositionRange, QueueId, SessionId, SubscriptionId, UnixMillis};

use super::policy::NEVER;
use super::{Cache, Consumers, GiveBack, Holder, Lane, Queue, Transit, before, size_of};
use crate::held::Held;
use crate::lane::LaneId;
use crate::positions::PositionSet;

impl Queue {
    /// A queue that has held nothing. `marks` is false where deliveries need no committed mark.
    pub(crate) fn new(id: QueueId, transit: Transit, marks: bool, now: UnixMillis) -> Self {
        Self {
            id,
            plain: Lane::empty(LaneId::PLAIN, marks),
            others: std::collections::BTreeMap::new(),
            marks,
            live: 0,
            ready_bytes: 0,
            withheld: PositionSet::new(),
            seen_to: Position(0),
            unacked: Held::default(),
            resting: super::Resting::default(),
            counts: std::collections::BTreeMap::new(),
            acquired: std::collections::BTreeMap::new(),
            consumers: Consumers::new(transit),
            gets: std::collections::VecDeque::new(),
            used: false,
            deleting: None,
            refuse_until: UnixMillis(0),
            touched: false,
            counted_in_transit: 0,
            waits_for_mark: false,
            settings: Arc::default(),
            known: false,
            configured_at: 0,
            admitted: 0,
            admitted_bytes: 0,
            may_expire: false,
            timer: None,
            gone: Vec::new(),
            dying: super::dying::Dying::default(),
            expiring: None,
            mourners: Vec::new(),
            delayed: None,
            window: None,
            stream: None,
            last_used: now,
            meter: super::meter::Meter::default(),
        }
    }

    /// Takes one lane as the replica has it. What an earlier leader may have delivered is withheld until it is claimed
    /// or released.
    pub(crate) fn open(&mut self, id: LaneId, state: &QueueState) {
        if id.is_bucket() {
            self.delayed.get_or_insert_default().open(id, state);
            return;
        }
        if id == LaneId::KEYS {
            self.window.get_or_insert_default().open(state);
            return;
        }
        let withheld: PositionSet = state.maybe_delivered.iter().map(|range| id.range(*range)).collect();
        let next = id.position(state.next_position.max(Position(1)));
        let mark = id.position(state.mark);
        // Everything live at or below the mark is in `maybe_delivered`, so it is accounted for.
        let accounted = mark.min(before(next)).max(withheld.last().unwrap_or_default());
        self.live += state.live.max(withheld.count());
        self.ready_bytes += state.live_bytes;
        for range in withheld.ranges() {
            self.withheld.insert_range(range);
        }
        self.used |= state.used;
        // Nobody knows what is in the store until its head has been looked at.
        self.may_expire |= state.live > 0;
        let mark = if self.marks { mark } else { Position(u64::MAX) };
        *self.lane_mut(id) = Lane::new(id, next, mark, accounted);
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
            let mut found = self.resting.take_range(*range);
            for lane in self.lanes_mut() {
                found.extend(lane.take_returned(*range));
                if lane.back.is_empty() || range.count() == 0 {
                    continue;
                }
                let back: Vec<Position> =
                    lane.back.range(range.first..=range.last).map(|(position, _)| *position).collect();
                for position in back {
                    if let Some(ready) = lane.back.remove(&position) {
                        cache.remove(size_of(&ready.message));
                        found.push(PositionRange::one(position));
                    }
                }
            }
            for found in found {
                self.hold(session, subscription, found);
            }
        }
    }

    /// The session came back and does not hold what of its deliveries is outside `held`: they were lost on the way,
    /// so no client has seen them. What it does hold is noted under the consumer it names.
    pub(crate) fn reconcile(&mut self, session: SessionId, held: &[(Option<SubscriptionId>, PositionSet)]) {
        let mut unacked = std::mem::take(&mut self.unacked);
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        unacked.take_all(
            |_, holder| holder.session == session,
            |position, holder| match held.iter().find(|(_, positions)| positions.contains(position)) {
                Some((subscription, _)) => {
                    kept.push((position, Holder { subscription: *subscription, ..holder }));
                }
                None => {
                    self.put_back(position, holder, GiveBack { failed: false, seen: false });
                    lost.push(position);
                }
            },
        );
        for (position, holder) in kept {
            unacked.insert(position, holder);
        }
        self.unacked = unacked;
        lost.sort_unstable();
        self.flag_overtaken(&lost);
    }

    /// Counts anew what each of the session's consumers holds.
    pub(crate) fn recount(&mut self, session: SessionId) {
        if self.stream.is_some() {
            return;
        }
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
        for range in std::mem::take(&mut self.withheld).ranges() {
            let lane = self.lane_at(range.first);
            lane.head_sleeps_until = None;
            lane.returned.insert_range(range);
        }
    }

    fn hold(&mut self, session: SessionId, subscription: Option<SubscriptionId>, range: PositionRange) {
        for position in range.iter() {
            // The client has it already, so when it comes back it is `redelivered`, whatever it was before.
            self.unacked.insert(
                position,
                Holder {
                    session,
                    subscription,
                    size: 0,
                    expires: NEVER,
                    redelivered: true,
                    automatic: false,
                },
            );
        }
    }
}
