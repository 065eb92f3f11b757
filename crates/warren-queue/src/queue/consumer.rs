//! The consumers of one queue and whose turn it is.
//!
//! Spine 14, the choice: round robin among those of the highest priority that have room. A consumer without room
//! does not hold up those below it. Where the queue has a single active consumer, it is the only one with a turn; who
//! follows it is in `single`. Knows no message.

mod single;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use warren_proto::session::{Delivery, Subscribe};
use warren_types::{AckMode, SessionId, SubscriptionId};

pub(crate) use single::Arrival;
use single::Single;

/// A consumer's name on a host.
pub(crate) type ConsumerKey = (SessionId, SubscriptionId);

/// How much may be on its way to one consumer's socket; nothing where `messages` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transit {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    /// Most unacknowledged; 0 is no limit.
    pub(crate) prefetch: u32,
    pub(crate) exclusive: bool,
    pub(crate) priority: i32,
    /// Its home settles as it delivers.
    pub(crate) automatic: bool,
    /// What it holds.
    pub(crate) unacked: u32,
    /// Sent and not yet credited.
    pub(crate) transit_messages: u32,
    pub(crate) transit_bytes: u64,
    /// Its session is lost and may come back.
    pub(crate) suspended: bool,
    /// Deliveries chosen in this flush, on their way into one frame.
    pub(crate) outbox: Vec<Delivery>,
    listed: bool,
}

impl Consumer {
    /// How many more messages it may get now, as far as counts tell.
    pub(crate) fn room(&self, transit: Transit) -> u32 {
        if self.suspended {
            return 0;
        }
        let prefetch = if self.prefetch == 0 { u32::MAX } else { self.prefetch.saturating_sub(self.unacked) };
        // At least one message is always let through: else a body larger than the window would never pass.
        let messages = if self.transit_messages == 0 {
            transit.messages
        } else if self.transit_bytes >= transit.bytes {
            0
        } else {
            transit.messages.saturating_sub(self.transit_messages)
        };
        prefetch.min(messages)
    }
}

/// The consumers of one queue.
#[derive(Debug)]
pub(crate) struct Consumers {
    transit: Transit,
    all: BTreeMap<ConsumerKey, Consumer>,
    /// Those with room, by priority, the next one in front. May hold some that have lost their room since.
    turns: BTreeMap<Reverse<i32>, VecDeque<ConsumerKey>>,
    single: Option<Single>,
    /// Bytes on their way to all of them.
    in_transit: u64,
}

impl Consumers {
    pub(crate) fn new(transit: Transit) -> Self {
        Self { transit, all: BTreeMap::new(), turns: BTreeMap::new(), single: None, in_transit: 0 }
    }

    /// Bytes on their way to all of them.
    pub(crate) fn in_transit(&self) -> u64 {
        self.in_transit
    }

    /// From now on so much may be on its way to each.
    pub(crate) fn set_transit(&mut self, transit: Transit) {
        let before = std::mem::replace(&mut self.transit, transit);
        // Who has less room now loses its turn when it comes to it.
        if transit.messages > before.messages || transit.bytes > before.bytes {
            let keys: Vec<ConsumerKey> = self.all.keys().copied().collect();
            keys.into_iter().for_each(|key| self.refresh(key));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ConsumerKey, &Consumer)> {
        self.all.iter()
    }

    pub(crate) fn contains(&self, key: ConsumerKey) -> bool {
        self.all.contains_key(&key)
    }

    /// Whether a consumer with this wish would break somebody's exclusiveness.
    pub(crate) fn refuses(&self, key: ConsumerKey, exclusive: bool) -> bool {
        self.all.iter().any(|(other, consumer)| *other != key && (exclusive || consumer.exclusive))
    }

    /// Adds a consumer, or updates it where its session came back.
    pub(crate) fn add(&mut self, session: SessionId, subscribe: &Subscribe, arrival: Arrival) {
        let key = (session, subscribe.subscription);
        self.unlist(key);
        let old = self.all.get(&key);
        let consumer = Consumer {
            prefetch: subscribe.prefetch,
            exclusive: subscribe.exclusive,
            priority: subscribe.priority,
            automatic: subscribe.ack_mode == AckMode::Automatic,
            unacked: old.map_or(0, |old| old.unacked),
            transit_messages: 0,
            transit_bytes: 0,
            suspended: false,
            outbox: Vec::new(),
            listed: false,
        };
        self.in_transit -= self.all.get(&key).map_or(0, |old| old.transit_bytes);
        self.all.insert(key, consumer);
        if subscribe.single_active {
            self.line_up(key, subscribe.active, arrival);
        }
        self.refresh(key);
    }

    /// Removes a consumer; false if it is not here.
    pub(crate) fn remove(&mut self, key: ConsumerKey) -> bool {
        self.unlist(key);
        let removed = self.all.remove(&key);
        self.leave_line(key);
        self.in_transit -= removed.as_ref().map_or(0, |consumer| consumer.transit_bytes);
        removed.is_some()
    }

    /// Stops deliveries until the session comes back.
    pub(crate) fn suspend(&mut self, key: ConsumerKey) {
        self.unlist(key);
        if let Some(consumer) = self.all.get_mut(&key) {
            consumer.suspended = true;
        }
    }

    /// Changes a consumer and gives it its turn if it has room now.
    pub(crate) fn update(&mut self, key: ConsumerKey, change: impl FnOnce(&mut Consumer)) -> bool {
        let Some(consumer) = self.all.get_mut(&key) else { return false };
        let before = consumer.transit_bytes;
        change(consumer);
        self.in_transit = self.in_transit - before + consumer.transit_bytes;
        self.hand_over();
        self.refresh(key);
        true
    }

    /// Whether a message would find a taker.
    pub(crate) fn has_room(&mut self) -> bool {
        self.drop_full();
        !self.turns.is_empty()
    }

    /// About how many messages would find takers, up to `most`.
    pub(crate) fn room(&self, most: u64) -> u64 {
        let mut room = 0_u64;
        for key in self.turns.values().flatten() {
            if room >= most {
                break;
            }
            let consumer = self.all.get(key);
            room += consumer.map_or(0, |consumer| u64::from(consumer.room(self.transit)));
        }
        room.min(most)
    }

    /// Takes the consumer whose turn it is; afterwards it is the last of its priority, if it still has room.
    /// `give` gets it and says how many bytes it was given.
    pub(crate) fn serve(
        &mut self,
        give: impl FnOnce(ConsumerKey, &mut Consumer) -> u64,
    ) -> Option<ConsumerKey> {
        self.drop_full();
        let mut turn = self.turns.first_entry()?;
        let key = turn.get_mut().pop_front()?;
        if turn.get().is_empty() {
            turn.remove();
        }
        let consumer = self.all.get_mut(&key)?;
        consumer.listed = false;
        let bytes = give(key, consumer);
        consumer.unacked = consumer.unacked.saturating_add(1);
        consumer.transit_messages = consumer.transit_messages.saturating_add(1);
        consumer.transit_bytes = consumer.transit_bytes.saturating_add(bytes);
        self.in_transit = self.in_transit.saturating_add(bytes);
        self.refresh(key);
        Some(key)
    }

    /// How many more messages the consumer may get now.
    pub(crate) fn room_of(&self, key: ConsumerKey) -> u32 {
        self.all.get(&key).map_or(0, |consumer| consumer.room(self.transit))
    }

    /// Gives a message to this consumer, whoever's turn it is; false if it has no room.
    pub(crate) fn give(&mut self, key: ConsumerKey, delivery: Delivery) -> bool {
        let Some(consumer) = self.all.get_mut(&key) else { return false };
        if consumer.room(self.transit) == 0 {
            return false;
        }
        consumer.unacked = consumer.unacked.saturating_add(1);
        consumer.transit_messages = consumer.transit_messages.saturating_add(1);
        let bytes = delivery.message.size() as u64;
        consumer.transit_bytes = consumer.transit_bytes.saturating_add(bytes);
        self.in_transit = self.in_transit.saturating_add(bytes);
        consumer.outbox.push(delivery);
        true
    }

    /// Whether its home settles as it delivers.
    pub(crate) fn is_automatic(&self, key: ConsumerKey) -> bool {
        self.all.get(&key).is_some_and(|consumer| consumer.automatic)
    }

    /// What was chosen for the consumer in this flush.
    pub(crate) fn take_outbox(&mut self, key: ConsumerKey) -> Vec<Delivery> {
        self.all.get_mut(&key).map_or_else(Vec::new, |consumer| std::mem::take(&mut consumer.outbox))
    }

    /// Removes all of them.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = ConsumerKey> + use<> {
        self.turns.clear();
        self.single = None;
        self.in_transit = 0;
        std::mem::take(&mut self.all).into_keys()
    }

    fn refresh(&mut self, key: ConsumerKey) {
        if self.single.as_ref().is_some_and(|single| !single.may_get(key)) {
            return;
        }
        if let Some(consumer) = self.all.get_mut(&key)
            && !consumer.listed
            && consumer.room(self.transit) > 0
        {
            consumer.listed = true;
            self.turns.entry(Reverse(consumer.priority)).or_default().push_back(key);
        }
    }

    fn unlist(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.all.get_mut(&key) else { return };
        if !std::mem::take(&mut consumer.listed) {
            return;
        }
        if let Some(turn) = self.turns.get_mut(&Reverse(consumer.priority)) {
            turn.retain(|other| *other != key);
            if turn.is_empty() {
                self.turns.remove(&Reverse(consumer.priority));
            }
        }
    }

    /// Takes those from the front that have lost their room: a prefetch was lowered.
    fn drop_full(&mut self) {
        while let Some(mut turn) = self.turns.first_entry() {
            let Some(key) = turn.get().front().copied() else {
                turn.remove();
                continue;
            };
            match self.all.get_mut(&key) {
                Some(consumer) if consumer.room(self.transit) > 0 => return,
                Some(consumer) => consumer.listed = false,
                None => {}
            }
            turn.get_mut().pop_front();
            if turn.get().is_empty() {
                turn.remove();
            }
        }
    }
}
