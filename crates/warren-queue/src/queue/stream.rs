//! A stream: messages that nobody takes away. Each reader has a place of its own and is sent what comes after it; an
//! acknowledgement is only room for more. What is too old or too much leaves from the head.
//!
//! A reader's deliveries carry its *slot*, the low bits of its number, in the bits where other queues have a lane: so the
//! same message is another delivery for each reader of a home. Where a reader is, its home knows, and says it to the
//! next leader.

use std::collections::{BTreeMap, VecDeque};

use warren_proto::session::{Delivery, StreamFilter, StreamOffset};
use warren_proto::shard::StoredMessage;
use warren_types::{AMQPValue, Message, Position, PositionRange, SessionId, SubscriptionId, UnixMillis};

use super::history::Browsing;
use super::{ConsumerKey, Queue, before, body_of, size_of, stamp};
use crate::DeathReason;
use crate::lane;
use crate::positions::PositionSet;

/// The last messages that are kept in memory while somebody reads.
const RECENT_MESSAGES: usize = 1024;
const RECENT_BYTES: u64 = 1 << 20;
/// The largest read.
pub(super) const READ_MESSAGES: u32 = 1024;
pub(super) const READ_BYTES: u64 = 1 << 20;
/// Messages of the head that are known at most.
const HEAD_MAX: usize = 65_536;
/// The header that filters look at.
const FILTER_VALUE: &str = "x-stream-filter-value";
/// Bits of a position that are the message's place.
const PLACE_BITS: u32 = 48;

/// Where a reader is.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// It gets this message next, or the first that is there behind it.
    At(Position),
    /// It begins with the first message that is not older than `since`, which is in `low..=high`.
    Seeking { low: u64, high: u64, since: UnixMillis },
}

#[derive(Debug)]
struct Reader {
    cursor: Cursor,
    /// It is sent only these.
    filter: Option<StreamFilter>,
    /// Places that it was sent and has not acknowledged.
    held: PositionSet,
}

impl Reader {
    fn wants(&self, message: &Message) -> bool {
        let Some(filter) = &self.filter else { return true };
        match stamp::header(&message.properties, FILTER_VALUE) {
            Some(AMQPValue::LongString(value)) => {
                filter.values.iter().any(|wanted| wanted == value.as_bytes())
            }
            Some(_) | None => filter.unfiltered,
        }
    }
}

/// What a read is for.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// A reader, and where the stream ended then.
    Next(ConsumerKey, Position),
    /// A reader that looks for its place, and the place looked at.
    Probe(ConsumerKey, u64),
    /// What is to leave next.
    Head,
    /// Somebody who looks at what is there.
    Browse,
}

/// What is to be read of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamRead {
    pub(crate) after: Position,
    pub(crate) max_messages: u32,
    pub(crate) max_bytes: u64,
}

/// What a queue has beside its messages where it is a stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    readers: BTreeMap<ConsumerKey, Reader>,
    /// What homes said they hold, before they named their readers.
    claimed: BTreeMap<ConsumerKey, PositionSet>,
    /// The last messages, without a gap up to the tail; while somebody reads.
    recent: VecDeque<(Position, Message)>,
    recent_bytes: u64,
    reading: Option<Reading>,
    /// Whose turn to read was last.
    last: Option<ConsumerKey>,
    /// The first messages: place, size and time.
    head: VecDeque<(Position, u64, UnixMillis)>,
    /// Everything below it is gone.
    first: Position,
    /// The head's age is to be looked at.
    look: bool,
    /// Who looks at it without reading on.
    pub(super) browsing: Browsing,
}

/// The position of a delivery to this reader.
fn delivered_as(subscription: SubscriptionId, place: Position) -> Position {
    Position(subscription.0 << PLACE_BITS | place.0)
}

impl Queue {
    /// A message was committed to the stream.
    pub(super) fn stream_committed(&mut self, position: Position, message: Message) {
        self.live += 1;
        self.ready_bytes = self.ready_bytes.saturating_add(body_of(&message));
        let lane = self.lane_at(position);
        lane.next = position.next();
        lane.predicted = lane.predicted.max(lane.next);
        let counts = self.max_messages().is_some();
        let first = self.live == 1;
        let Some(stream) = self.stream.as_deref_mut() else { return };
        if counts {
            stream.note(position, body_of(&message), first);
        }
        if stream.readers.is_empty() {
            stream.recent.clear();
            stream.recent_bytes = 0;
            return;
        }
        stream.recent_bytes += size_of(&message);
        stream.recent.push_back((position, message));
        while stream.recent.len() > RECENT_MESSAGES
            || (stream.recent_bytes > RECENT_BYTES && stream.recent.len() > 1)
        {
            let Some((_, message)) = stream.recent.pop_front() else { break };
            stream.recent_bytes = stream.recent_bytes.saturating_sub(size_of(&message));
        }
    }

    /// A consumer, added already, begins to read; returns the offset that it gets next, if that is known.
    pub(crate) fn read_from(
        &mut self,
        key: ConsumerKey,
        offset: StreamOffset,
        filter: Option<StreamFilter>,
    ) -> Option<u64> {
        let tail = self.plain.tail();
        let stream = self.stream.get_or_insert_default();
        let cursor = match offset {
            StreamOffset::First => Cursor::At(Position(1)),
            StreamOffset::Last => Cursor::At(tail.max(Position(1))),
            StreamOffset::Next => Cursor::At(tail.next()),
            StreamOffset::Offset(offset) => Cursor::At(Position(offset.saturating_add(1)).min(tail.next())),
            StreamOffset::Since(since) => Cursor::Seeking { low: 1, high: tail.next().0, since },
        };
        let held = stream.claimed.remove(&key).unwrap_or_default();
        let unacked = u32::try_from(held.count()).unwrap_or(u32::MAX);
        stream.readers.insert(key, Reader { cursor, filter, held });
        self.consumers.update(key, |consumer| consumer.unacked = unacked);
        match cursor {
            Cursor::At(place) => Some(before(place).0),
            Cursor::Seeking { .. } => None,
        }
    }

    /// A reader is gone.
    pub(crate) fn stop_reading(&mut self, key: ConsumerKey) {
        if let Some(stream) = self.stream.as_deref_mut() {
            stream.readers.remove(&key);
        }
    }

    /// What a home says that its readers hold, before it names them.
    pub(crate) fn claim_for_readers(
        &mut self,
        session: SessionId,
        claims: &[(Option<SubscriptionId>, PositionSet)],
    ) {
        let Some(stream) = self.stream.as_deref_mut() else { return };
        stream.claimed.retain(|(of, _), _| *of != session);
        for (subscription, positions) in claims {
            if let Some(subscription) = subscription {
                let places = positions.ranges().map(lane::stored_range).collect();
                stream.claimed.insert((session, *subscription), places);
            }
        }
    }

    /// A reader is done with deliveries: it has room for more.
    pub(crate) fn stream_settle(&mut self, session: SessionId, ranges: &[PositionRange], acked: bool) {
        let Some(stream) = self.stream.as_deref_mut() else { return };
        for range in ranges {
            let slot = |subscription: SubscriptionId| subscription.0 << PLACE_BITS >> PLACE_BITS;
            let wanted = range.first.0 >> PLACE_BITS;
            let of_slot = |(key, _): &(&ConsumerKey, &mut Reader)| key.0 == session && slot(key.1) == wanted;
            let Some((key, reader)) = stream.readers.iter_mut().find(of_slot) else { continue };
            let taken = reader.held.take_range(lane::stored_range(*range));
            let count: u64 = taken.iter().map(|range| range.count()).sum();
            let mut automatic = false;
            let freed = u32::try_from(count).unwrap_or(u32::MAX);
            self.consumers.update(*key, |consumer| {
                automatic = consumer.automatic;
                consumer.unacked = consumer.unacked.saturating_sub(freed);
            });
            self.meter.total.ack += if acked && !automatic { count } else { 0 };
        }
    }

    /// Sends readers what is in memory; what was sent is in their outboxes.
    pub(crate) fn serve_readers(&mut self) {
        let Some(stream) = self.stream.as_deref_mut() else { return };
        let Some(first) = stream.recent.front().map(|(position, _)| position.0) else { return };
        for (key, reader) in &mut stream.readers {
            while let Cursor::At(place) = reader.cursor
                && let Some(index) = place.0.checked_sub(first)
                && let Some((position, message)) =
                    usize::try_from(index).ok().and_then(|index| stream.recent.get(index))
            {
                if reader.wants(message) {
                    if !self.consumers.give(*key, delivery(key.1, *position, message)) {
                        break;
                    }
                    reader.held.insert(*position);
                }
                reader.cursor = Cursor::At(position.next());
            }
        }
    }

    /// What was chosen for the readers since the last call.
    pub(crate) fn take_outboxes(&mut self) -> Vec<(ConsumerKey, Vec<Delivery>)> {
        let Some(stream) = self.stream.as_deref() else { return Vec::new() };
        let consumers = &mut self.consumers;
        let outboxes = stream.readers.keys().map(|key| (*key, consumers.take_outbox(*key)));
        outboxes.filter(|(_, outbox)| !outbox.is_empty()).collect()
    }

    /// The read that it needs now: for a reader that looks for its place, for one whose messages are not in memory, or
    /// to see what is to leave.
    pub(crate) fn stream_read_wanted(&mut self) -> Option<StreamRead> {
        let (tail, live) = (self.plain.tail(), self.live);
        let over = self.keeps_too_much();
        let consumers = &self.consumers;
        let stream = self.stream.as_deref_mut()?;
        if stream.reading.is_some() {
            return None;
        }
        let recent = stream.recent.front().map_or(tail.next(), |(position, _)| *position);
        let wants = |(key, reader): (&ConsumerKey, &Reader)| match reader.cursor {
            Cursor::At(place) => place <= tail && place < recent && consumers.room_of(*key) > 0,
            Cursor::Seeking { .. } => true,
        };
        let later = stream.last.map(|last| (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
        let later = later.into_iter().flat_map(|later| stream.readers.range(later));
        let next = later.chain(&stream.readers).find(|one| wants(*one));
        let next = next.map(|(key, reader)| (*key, reader.cursor, reader.filter.is_some()));
        if let Some((key, cursor, filters)) = next {
            stream.last = Some(key);
            return Some(match cursor {
                Cursor::At(place) => {
                    stream.reading = Some(Reading::Next(key, tail));
                    // Of what is read a filter may leave little.
                    let room = consumers.room_of(key).min(READ_MESSAGES);
                    let max_messages = if filters { READ_MESSAGES } else { room };
                    // What has left may still be in the store: that it leaves is on its way to the log.
                    let after = before(place.max(stream.first));
                    StreamRead { after, max_messages, max_bytes: READ_BYTES }
                }
                Cursor::Seeking { low, high, .. } => {
                    let middle = low + high.saturating_sub(low) / 2;
                    stream.reading = Some(Reading::Probe(key, middle));
                    StreamRead { after: before(Position(middle)), max_messages: 1, max_bytes: 1 }
                }
            });
        }
        let after = before(stream.first.max(Position(1)));
        if !stream.head.is_empty() || live < 2 || !(over || stream.look) {
            let kept = self.settings.stream.as_ref().and_then(|stream| stream.max_messages);
            // More than is kept may be there still, until the log knows that it leaves.
            let beyond = kept.map_or(Position(0), |kept| Position(tail.0.saturating_sub(kept)));
            let read = stream.browsing.next(after.max(beyond), tail)?;
            stream.reading = Some(Reading::Browse);
            return Some(read);
        }
        stream.reading = Some(Reading::Head);
        Some(StreamRead { after, max_messages: READ_MESSAGES, max_bytes: READ_BYTES })
    }

    /// Takes what was read.
    pub(crate) fn stream_loaded(&mut self, messages: Vec<StoredMessage>, end: bool) {
        let Some(stream) = self.stream.as_deref_mut() else { return };
        match stream.reading.take() {
            Some(Reading::Next(key, tail)) => {
                let Some(reader) = stream.readers.get_mut(&key) else { return };
                let Cursor::At(place) = reader.cursor else { return };
                if end && messages.is_empty() {
                    reader.cursor = Cursor::At(place.max(tail.next()));
                }
                for stored in messages {
                    let Cursor::At(place) = reader.cursor else { return };
                    if stored.position < place {
                        continue;
                    }
                    if reader.wants(&stored.message) {
                        if !self.consumers.give(key, delivery(key.1, stored.position, &stored.message)) {
                            break;
                        }
                        reader.held.insert(stored.position);
                    }
                    reader.cursor = Cursor::At(stored.position.next());
                }
            }
            Some(Reading::Probe(key, middle)) => {
                let Some(reader) = stream.readers.get_mut(&key) else { return };
                let Cursor::Seeking { low, high, since } = reader.cursor else { return };
                let (low, high) = match messages.first() {
                    Some(found) if found.time < since => (found.position.next().0, high),
                    Some(_) | None => (low, middle),
                };
                reader.cursor = if low >= high {
                    Cursor::At(Position(low))
                } else {
                    Cursor::Seeking { low, high, since }
                };
            }
            Some(Reading::Head) => {
                let came = std::mem::take(&mut stream.head);
                stream.head = messages
                    .iter()
                    .map(|stored| (stored.position, body_of(&stored.message), stored.time))
                    .collect();
                stream.go_on_from(came);
            }
            Some(Reading::Browse) => stream.browsing.read(messages),
            None => {}
        }
    }

    /// Lets go of what is too much or too old, as far as the head is known; the last message stays always.
    pub(crate) fn retain(&mut self, now: UnixMillis) {
        let max_age = self.settings.stream.as_ref().and_then(|stream| stream.max_age_ms);
        while self.live > 1 {
            let over = self.keeps_too_much();
            let Some(stream) = self.stream.as_deref_mut() else { return };
            let Some((position, size, time)) = stream.head.front().copied() else { return };
            let old = max_age.is_some_and(|age| time.0.saturating_add(age) <= now.0);
            if !over && !old {
                stream.look = false;
                return;
            }
            stream.head.pop_front();
            stream.first = position.next();
            self.live -= 1;
            self.ready_bytes = self.ready_bytes.saturating_sub(size);
            let reason = if over { DeathReason::MaxLength } else { DeathReason::Expired };
            self.gone.push((reason, position));
        }
    }

    /// From time to time: how old is the head?
    pub(crate) fn look_at_head(&mut self) -> bool {
        let ages = self.settings.stream.as_ref().is_some_and(|stream| stream.max_age_ms.is_some());
        match self.stream.as_deref_mut() {
            Some(stream) if ages => {
                stream.look = true;
                true
            }
            Some(_) | None => false,
        }
    }

    fn max_messages(&self) -> Option<u64> {
        self.settings.stream.as_ref()?.max_messages
    }

    fn keeps_too_much(&self) -> bool {
        self.settings.max_length_bytes.is_some_and(|max| self.ready_bytes > max)
            || self.max_messages().is_some_and(|max| self.live > max)
    }
}

impl Stream {
    // What the head needs to know of a message that came, where that follows what it knows: a stream that keeps few
    // messages need not read them again to let them go.
    fn note(&mut self, position: Position, size: u64, first: bool) {
        let follows = match self.head.back() {
            Some((last, ..)) => last.next() == position,
            None => first || matches!(self.reading, Some(Reading::Head)),
        };
        if follows && self.head.len() < HEAD_MAX {
            self.head.push_back((position, size, UnixMillis(0)));
        }
    }

    // The head was read; what came meanwhile follows it, if nothing is missing between.
    fn go_on_from(&mut self, came: VecDeque<(Position, u64, UnixMillis)>) {
        let last = self.head.back().map(|(position, ..)| *position);
        let mut came = came.into_iter().skip_while(|(position, ..)| Some(*position) <= last).peekable();
        if last.is_none_or(|last| came.peek().is_some_and(|(position, ..)| *position == last.next())) {
            self.head.extend(came);
        }
    }
}

fn delivery(subscription: SubscriptionId, place: Position, message: &Message) -> Delivery {
    Delivery {
        position: delivered_as(subscription, place),
        redelivered: false,
        delivery_count: 0,
        acquired_count: 0,
        message: message.clone(),
    }
}
