//! Spine 13 to 14: ready messages to whoever has room. Before: `enqueue`, `settle`. After: the session's frames.

use warren_proto::session::Delivery;
use warren_types::{Position, UnixMillis};

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
            if expired && self.dying.is_full() {
                return;
            }
            let ready = match self.head() {
                Head::AwaitsMark if expired => self.window.pop_front(),
                Head::InWindow => self.window.pop_front(),
                Head::InBack => self.back.pop_first().map(|(_, ready)| ready),
                Head::AwaitsMark => {
                    self.waits_for_mark = true;
                    self.starved();
                    return;
                }
                Head::NotLoaded => return,
                Head::Empty => {
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
            self.hand_out(ready, handed);
        }
    }

    pub(super) fn head(&self) -> Head {
        let returned = self.returned.first();
        let back = self.back.first_key_value().map(|(position, _)| *position);
        let window = self.window.front().map(|ready| ready.position);
        // Everything that came back is lower than the window: it was delivered before.
        match (returned, back, window) {
            (Some(returned), Some(back), _) if back < returned => Head::InBack,
            (Some(_), _, _) => Head::NotLoaded,
            (None, Some(_), _) => Head::InBack,
            (None, None, Some(window)) if window > self.mark => Head::AwaitsMark,
            (None, None, Some(_)) => Head::InWindow,
            (None, None, None) if self.loaded_to < self.tail() => Head::NotLoaded,
            (None, None, None) => Head::Empty,
        }
    }

    fn hand_out(&mut self, ready: Ready, handed: &mut Handed) {
        let position = ready.position;
        let (size, body) = (size_of(&ready.message), body_of(&ready.message));
        let holder = |session, subscription| Holder {
            session,
            subscription,
            size: u32::try_from(body).unwrap_or(u32::MAX),
            redelivered: ready.redelivered,
        };
        self.ready_bytes = self.ready_bytes.saturating_sub(body);
        self.delivered_to = self.delivered_to.max(position);
        self.head_sleeps_until = None;
        if ready.delivery_count > 0 {
            self.counts.insert(position, ready.delivery_count);
        }
        if let Some(get) = self.gets.pop_front() {
            self.unacked.insert(position, holder(get.session, None));
            let remaining = self.ready();
            handed.gets.push((get, Some(delivery(ready)), remaining));
            return;
        }
        let mut first_for_it = false;
        let redelivered = ready.redelivered;
        let served = self.consumers.serve(|_, consumer| {
            first_for_it = consumer.outbox.is_empty();
            consumer.outbox.push(delivery(ready));
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
        self.unacked.insert(
            position,
            Holder {
                session,
                subscription: Some(subscription),
                size: u32::try_from(body).unwrap_or(u32::MAX),
                redelivered,
            },
        );
    }

    /// Takes the mark as committed.
    pub(crate) fn reserved(&mut self, up_to: Position) {
        self.mark = self.mark.max(up_to);
        self.mark_proposed = self.mark_proposed.max(up_to);
    }
}

fn delivery(ready: Ready) -> Delivery {
    Delivery {
        position: ready.position,
        redelivered: ready.redelivered,
        delivery_count: ready.delivery_count,
        message: ready.message,
    }
}
