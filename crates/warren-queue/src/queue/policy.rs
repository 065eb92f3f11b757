//! What leaves a queue by its settings: messages whose time has come, and those over a length limit. The effect is at
//! once; `shard` has it recorded. Limits are about the head, and so is time where it comes in the order of the messages; the rest
//! is in `expiring`.

use std::sync::Arc;

use warren_types::{Message, Overflow, Position, QueueSettings, UnixMillis};

use super::deliver::Head;
use super::{Cache, Queue, Ready, body_of, size_of, stamp};
use crate::DeathReason;

/// The end of time: a message without a time to live.
pub(crate) const NEVER: UnixMillis = UnixMillis(u64::MAX);

impl Queue {
    /// Takes what the catalogue asks of the queue now.
    pub(crate) fn configure(&mut self, settings: Arc<QueueSettings>) {
        self.known = true;
        if settings.stream.is_some() {
            self.stream.get_or_insert_default();
        }
        self.may_expire |= settings.message_ttl_ms.is_some();
        self.settings = settings;
    }

    /// When a message that is here since then is to go.
    pub(crate) fn expires(&self, since: UnixMillis, message: &Message) -> UnixMillis {
        let own = stamp::expiration_ms(&message.properties);
        match (self.settings.message_ttl_ms, own) {
            (None, None) => NEVER,
            (Some(ttl), None) | (None, Some(ttl)) => UnixMillis(since.0.saturating_add(ttl)),
            (Some(ttl), Some(own)) => UnixMillis(since.0.saturating_add(ttl.min(own))),
        }
    }

    /// A message with this body would be one too many. What is admitted and not yet applied counts.
    pub(crate) fn refuses(&self, message: &Message) -> bool {
        match self.settings.overflow {
            Overflow::DropHead => return false,
            Overflow::RejectPublish | Overflow::RejectPublishDeadLetter => {}
        }
        let kept = if self.settings.keeps_dead_letters { self.dying.len() as u64 } else { 0 };
        let there = self.ready().saturating_add(self.resting.len()).saturating_add(kept);
        let messages = there.saturating_add(self.admitted).saturating_add(1);
        let bytes = self.ready_body().saturating_add(self.admitted_bytes).saturating_add(body_of(message));
        self.settings.max_length.is_some_and(|max| messages > max)
            || self.settings.max_length_bytes.is_some_and(|max| bytes > max)
    }

    /// Removes what has expired; stops while too many dead letters are out.
    pub(crate) fn expire(&mut self, now: UnixMillis, cache: &mut Cache) {
        while self.may_die()
            && let Some(ready) = self.pop_expired(now)
        {
            self.depart(ready, DeathReason::Expired, cache);
        }
        self.expire_behind(now, cache);
    }

    /// The first of a lane, whichever that is: those of lower priority do not wait for those above them.
    fn pop_expired(&mut self, now: UnixMillis) -> Option<Ready> {
        let id = self.lanes().find(|lane| lane.head_has_expired(now))?.id;
        self.lane_mut(id).pop()
    }

    /// Whether the message that goes next is known to have expired.
    pub(crate) fn head_has_expired(&self, now: UnixMillis) -> bool {
        self.head_lane().head_has_expired(now)
    }

    /// Drops from the head what is over the limits, as far as it is loaded. What a consumer is about to get once its
    /// mark is committed is not counted against it.
    pub(crate) fn enforce_limits(&mut self, cache: &mut Cache) {
        if self.waits_for_mark {
            return;
        }
        while self.is_over()
            && self.may_die()
            && let Some(ready) = self.pop_head()
        {
            self.depart(ready, DeathReason::MaxLength, cache);
        }
    }

    /// Over a limit that drops the head.
    pub(crate) fn is_over(&self) -> bool {
        if self.settings.overflow != Overflow::DropHead {
            return false;
        }
        let ready = self.ready();
        ready > 0
            && (self.settings.max_length.is_some_and(|max| ready + self.resting.len() > max)
                || self.settings.max_length_bytes.is_some_and(|max| self.ready_body() > max))
    }

    /// The head must be looked at and is not in memory: it may have expired, or is over a limit.
    pub(crate) fn wants_head(&self, now: UnixMillis) -> bool {
        let lane = self.head_lane();
        if !self.may_die() || !matches!(lane.head(), Head::NotLoaded) {
            return false;
        }
        self.is_over() || (self.may_expire && lane.head_sleeps_until.is_none_or(|until| until <= now))
    }

    /// When the queue is to be looked at again by itself.
    pub(crate) fn next_timer(&self, now: UnixMillis) -> Option<UnixMillis> {
        let delayed = self.delayed.as_ref().and_then(|delayed| delayed.next_wake(now));
        self.next_expiry().into_iter().chain(delayed).chain(self.resting.next_wake()).min()
    }

    /// When something is to be looked at because its time has come.
    fn next_expiry(&self) -> Option<UnixMillis> {
        if !self.may_die() {
            return None;
        }
        let heads = self.lanes().filter_map(|lane| lane.peek().map(|ready| ready.expires));
        let head = self.head_lane();
        let asleep = head.head_sleeps_until.filter(|_| head.peek().is_none());
        let behind = self.expiring.as_ref().and_then(|expiring| expiring.next());
        heads.chain(asleep).chain(behind).filter(|next| *next != NEVER).min()
    }

    /// Another message may die now. Where they are kept, those that nobody takes must not hold up the queue.
    pub(crate) fn may_die(&self) -> bool {
        self.room_to_die() > 0
    }

    /// How many.
    pub(crate) fn room_to_die(&self) -> usize {
        self.dying.room(self.settings.keeps_dead_letters)
    }

    /// Messages that die go to an exchange.
    pub(crate) fn dead_letters(&self) -> bool {
        self.settings.dead_letter_exchange.is_some()
    }

    /// A message in nobody's hands leaves for good. It is counted no more from here on.
    pub(crate) fn depart(&mut self, ready: Ready, reason: DeathReason, cache: &mut Cache) {
        cache.remove(size_of(&ready.message));
        self.forget_time(&ready);
        self.live = self.live.saturating_sub(1);
        self.ready_bytes = self.ready_bytes.saturating_sub(body_of(&ready.message));
        self.counts.remove(&ready.position);
        self.acquired.remove(&ready.position);
        if self.dead_letters() && self.dying.is_full() {
            self.dying.add_unread(ready.position, reason);
        } else if self.dead_letters() {
            self.dying.add(ready.position, reason, ready.message);
        } else {
            self.gone.push((reason, ready.position));
        }
    }

    /// A message that was delivered, and is counted no more, leaves for good.
    pub(crate) fn depart_unread(&mut self, position: Position, reason: DeathReason) {
        self.counts.remove(&position);
        self.acquired.remove(&position);
        if self.dead_letters() {
            self.dying.add_unread(position, reason);
        } else {
            self.gone.push((reason, position));
        }
    }

    /// Body bytes of what is ready.
    fn ready_body(&self) -> u64 {
        if self.ready() == 0 { 0 } else { self.ready_bytes }
    }

    fn pop_head(&mut self) -> Option<Ready> {
        let (id, _) = self.head();
        self.lane_mut(id).pop()
    }
}
