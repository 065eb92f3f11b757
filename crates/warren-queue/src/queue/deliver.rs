//! Spine 13 to 14: ready messages to whoever has room. Before: `enqueue`, `settle`. After: the session's frames.

use warren_proto::session::Delivery;
use warren_types::UnixMillis;

use super::{Cache, ConsumerKey, Get, Holder, Queue, Ready, body_of, size_of};
use crate::DeathReason;

/// What a round of deliveries handed out.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// Consumers whose outbox is to be sent, each once.
    pub(crate) consumers: Vec<ConsumerKey>,
    /// Gets that are answered: the message if there was one, and how many ready ones are left.
    pub(crate) gets: Vec<(Get, Option<Delivery>, u64)>,
}

/// The first ready message.
pub(super) enum Head {
    /// Loaded and allowed to go.
    InWindow,
    InBack,
    /// The mark must be committed first.
    AwaitsMark,
    /// It must be read first.
    NotLoaded,
    /// Nothing is ready.
    Empty,
}

impl Queue {
    /// Hands out, in order, as much as can go now. Nothing goes while positions are withheld: what they stand for
    /// comes first.
    pub(crate) fn deliver(&mut self, now: UnixMillis, cache: &mut Cache, handed: &mut Handed) {
        self.waits_for_mark = false;
        if !self.withheld.is_empty() {
            return;
        }
        while !self.gets.is_empty() || self.consumers.has_room() {
            let expired = self.head_has_expired(now);
            if expired && !self.may_die() {
                return;
            }
            let (id, head) = self.head();
            let ready = match head {
                Head::AwaitsMark if !expired => {
                    self.waits_for_mark = true;
                    if !self.consumers.is_empty() {
                        self.lane_mut(id).starved();
                    }
                    return;
                }
                Head::InWindow | Head::InBack | Head::AwaitsMark => self.lane_mut(id).pop(),
                Head::NotLoaded => return,
                Head::Empty => {
                    self.meter.total.get_empty += self.gets.len() as u64;
                    handed.gets.extend(self.gets.drain(..).map(|get| (get, None, 0)));
                    return;
                }
            };
            let Some(ready) = ready else { return };
            if expired {
                self.depart(ready, DeathReason::Expired, cache);
                continue;
            }
            cache.remove(size_of(&ready.message));
            self.forget_time(&ready);
            self.hand_out(ready, handed);
        }
    }

    fn hand_out(&mut self, ready: Ready, handed: &mut Handed) {
        let position = ready.position;
        let (size, body) = (size_of(&ready.message), body_of(&ready.message));
        let (redelivered, expires) = (ready.redelivered, ready.expires);
        let holder = |session, subscription, automatic| Holder {
            session,
            subscription,
            size: u32::try_from(body).unwrap_or(u32::MAX),
            expires,
            redelivered,
            automatic,
        };
        self.meter.total.redeliver += u64::from(redelivered);
        self.ready_bytes = self.ready_bytes.saturating_sub(body);
        let lane = self.lane_at(position);
        lane.delivered_to = lane.delivered_to.max(position);
        lane.head_sleeps_until = None;
        if ready.delivery_count > 0 {
            self.counts.insert(position, ready.delivery_count);
        }
        // An earlier leader's count is not known but by what failed, and by the flag.
        let acquired_count = match (self.settings.strict_levels, ready.redelivered) {
            (true, true) => {
                let here = self.acquired.get(&position).copied().unwrap_or_default();
                here.max(ready.delivery_count).max(1)
            }
            (true, false) | (false, _) => 0,
        };
        if let Some(get) = self.gets.pop_front() {
            self.unacked.insert(position, holder(get.session, None, get.automatic));
            let total = &mut self.meter.total;
            *(if get.automatic { &mut total.get_no_ack } else { &mut total.get }) += 1;
            let remaining = self.ready();
            handed.gets.push((get, Some(delivery(ready, acquired_count)), remaining));
            return;
        }
        let mut first_for_it = false;
        let mut automatic = false;
        let served = self.consumers.serve(|_, consumer| {
            first_for_it = consumer.outbox.is_empty();
            automatic = consumer.automatic;
            consumer.outbox.push(delivery(ready, acquired_count));
            size
        });
        let Some(key) = served else {
            debug_assert!(false, "there was room a moment ago");
            return;
        };
        if first_for_it {
            handed.consumers.push(key);
        }
        let (session, subscription) = key;
        let total = &mut self.meter.total;
        *(if automatic { &mut total.deliver_no_ack } else { &mut total.deliver }) += 1;
        self.unacked.insert(position, holder(session, Some(subscription), automatic));
    }
}

fn delivery(ready: Ready, acquired_count: u32) -> Delivery {
    Delivery {
        position: ready.position,
        redelivered: ready.redelivered,
        delivery_count: ready.delivery_count,
        acquired_count,
        message: ready.message,
    }
}
