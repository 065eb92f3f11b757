//! Messages whose time has not come. Each waits in the lane of its *bucket*: those that are due within the same nine
//! minutes. What a leader remembers of a bucket is how many it holds; only when a bucket's time comes near are its
//! messages read once for their exact times, and then those times alone are in memory, 16 bytes each. So a million
//! timers far away cost nothing, and a new leader reads none of them before their bucket's time.
//!
//! A message that is due is recorded anew in its queue and settled in its bucket, in one record: never in both, never
//! in neither. From there on it is a message like any other: its place is behind what was there, its time to live begins.

use std::collections::{BTreeMap, BTreeSet};

use warren_proto::shard::{QueueState, StoredMessage};
use warren_types::{Message, Position, UnixMillis};

use super::{before, stamp};
use crate::lane::LaneId;

/// A bucket's width, in bits of milliseconds: nine minutes. With 15 bits of bucket the numbers come round in 198 days,
/// of which 50 are ahead (the longest delay there is) and the rest behind.
const WIDTH_BITS: u32 = 19;
/// How many buckets ahead of now one can be.
const AHEAD_MAX: u64 = (1 << (32 - WIDTH_BITS)) + 1;
/// A bucket is read so long before its first message can be due.
const READ_AHEAD_MS: u64 = 15_000;
/// An empty bucket is forgotten so long after its end.
const FORGET_AFTER_MS: u64 = 60_000;
/// Most messages of one queue on their way out of their buckets.
const MOVING_MAX: usize = 1024;
/// Most due messages read at once.
const READ_MAX: usize = 512;
const READ_BYTES: u64 = 4 << 20;
/// Most messages read at once for their times.
const SCAN_MAX: u32 = 4096;

/// When the message is due that was recorded then.
fn due_at(recorded: UnixMillis, message: &Message) -> UnixMillis {
    // It is in a bucket: so it has a delay, which its home has marked as taken with a minus.
    let delay = stamp::integer_header(&message.properties, "x-delay").map_or(0, i64::unsigned_abs);
    UnixMillis(recorded.0.saturating_add(delay))
}

#[derive(Debug)]
enum Times {
    /// Nobody has looked.
    Unknown,
    /// Those of the messages up to here are known.
    Reading(Position),
    Known,
}

#[derive(Debug)]
struct Bucket {
    next: Position,
    live: u64,
    times: Times,
    /// Let in, and not applied yet.
    admitted: u64,
    loading: bool,
}

/// What is to be read of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DelayedRead {
    pub(crate) after: Position,
    pub(crate) max_messages: u32,
    pub(crate) max_bytes: u64,
}

/// A queue's messages whose time has not come.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    buckets: BTreeMap<LaneId, Bucket>,
    /// The times that are known, in order.
    due: BTreeSet<(UnixMillis, Position)>,
    live: u64,
    /// Due, and on their way into the queue.
    moving: usize,
    /// When a bucket is to be read next; `None` is now.
    look_at: Option<UnixMillis>,
}

impl Delayed {
    /// The lane for a message that is due then.
    pub(crate) fn lane(due: UnixMillis) -> LaneId {
        LaneId::bucket(due.0 >> WIDTH_BITS)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.live
    }

    /// The lanes of all buckets.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.buckets.keys().copied()
    }

    /// Takes a bucket as the replica has it.
    pub(crate) fn open(&mut self, lane: LaneId, state: &QueueState) {
        let next = lane.position(state.next_position.max(Position(1)));
        self.live += state.live;
        let times = if state.live == 0 { Times::Known } else { Times::Unknown };
        self.buckets.insert(lane, Bucket { next, live: state.live, times, admitted: 0, loading: false });
    }

    /// A message was let in, or is not on its way any more.
    pub(crate) fn admit(&mut self, lane: LaneId, more: bool) {
        let bucket = self.bucket(lane);
        bucket.admitted =
            if more { bucket.admitted.saturating_add(1) } else { bucket.admitted.saturating_sub(1) };
    }

    /// The log has given a message this place.
    pub(crate) fn committed(&mut self, position: Position, message: &Message, recorded: UnixMillis) {
        let lane = LaneId::at(position);
        let bucket = self.bucket(lane);
        bucket.next = position.next();
        bucket.live += 1;
        let reads_at = start_ms(lane, recorded).saturating_sub(READ_AHEAD_MS);
        if matches!(bucket.times, Times::Known) && reads_at > recorded.0 {
            bucket.times = Times::Unknown;
            self.look_at = self.look_at.map(|at| at.min(UnixMillis(reads_at)));
        } else if matches!(bucket.times, Times::Known) {
            self.due.insert((due_at(recorded, message), position));
        }
        self.live += 1;
    }

    /// What is to be read now: first the times of a bucket that comes near, then messages that are due.
    pub(crate) fn read_wanted(&mut self, now: UnixMillis) -> Option<DelayedRead> {
        if self.look_at.is_none_or(|at| at <= now)
            && let Some(read) = self.times_wanted(now)
        {
            return Some(read);
        }
        let room = MOVING_MAX.saturating_sub(self.moving).min(READ_MAX);
        let mut due: Vec<Position> =
            self.due.iter().take_while(|(at, _)| *at <= now).take(room).map(|(_, at)| *at).collect();
        let lane = LaneId::at(*due.first()?);
        due.retain(|position| LaneId::at(*position) == lane);
        due.sort_unstable();
        let bucket = self.buckets.get_mut(&lane).filter(|bucket| !bucket.loading)?;
        bucket.loading = true;
        // As many as lie close together: what is read between them is thrown away.
        let first = *due.first()?;
        let span = |count: usize, last: &Position| (last.0 - first.0 + 1, count as u64);
        let spans = due.iter().enumerate().map(|(index, last)| span(index + 1, last));
        let (span, _) = spans.take_while(|(span, count)| *span <= 2 * count + 8).last()?;
        let max_messages = u32::try_from(span).unwrap_or(u32::MAX);
        Some(DelayedRead { after: before(first), max_messages, max_bytes: READ_BYTES })
    }

    fn times_wanted(&mut self, now: UnixMillis) -> Option<DelayedRead> {
        let (mut next, mut reading) = (UnixMillis(u64::MAX), false);
        for (lane, bucket) in &mut self.buckets {
            let reads_at = UnixMillis(start_ms(*lane, now).saturating_sub(READ_AHEAD_MS));
            let after = match bucket.times {
                Times::Unknown if reads_at <= now => lane.start(),
                Times::Reading(up_to) => up_to,
                Times::Unknown => {
                    next = next.min(reads_at);
                    continue;
                }
                Times::Known => continue,
            };
            reading = true;
            if !bucket.loading {
                (bucket.loading, bucket.times) = (true, Times::Reading(after));
                return Some(DelayedRead { after, max_messages: SCAN_MAX, max_bytes: READ_BYTES });
            }
        }
        self.look_at = (!reading).then_some(next);
        None
    }

    /// Takes what was read of a bucket; returns the messages that are due, in their order.
    pub(crate) fn loaded(
        &mut self,
        lane: LaneId,
        messages: Vec<StoredMessage>,
        end: bool,
        now: UnixMillis,
    ) -> Vec<(Position, Message)> {
        let Some(bucket) = self.buckets.get_mut(&lane) else { return Vec::new() };
        bucket.loading = false;
        if let Times::Reading(up_to) = bucket.times {
            let seen = messages.last().map_or(up_to, |last| lane.position(last.position));
            // What was applied since it was read is above it, and read next.
            let all = seen.next() >= bucket.next || (end && messages.is_empty());
            bucket.times = if all { Times::Known } else { Times::Reading(seen) };
            let times = messages
                .iter()
                .map(|stored| (due_at(stored.time, &stored.message), lane.position(stored.position)));
            self.due.extend(times);
            return Vec::new();
        }
        let mut due = Vec::new();
        for stored in messages {
            let key = (due_at(stored.time, &stored.message), lane.position(stored.position));
            if key.0 <= now && self.due.remove(&key) {
                due.push((key, stored.message));
            }
        }
        due.sort_unstable_by_key(|(key, _)| *key);
        self.moving += due.len();
        due.into_iter().map(|((_, position), message)| (position, message)).collect()
    }

    /// So many messages have left the bucket, as the log has it.
    pub(crate) fn moved(&mut self, lane: LaneId, count: u64) {
        self.moving = self.moving.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        self.live = self.live.saturating_sub(count);
        let bucket = self.bucket(lane);
        bucket.live = bucket.live.saturating_sub(count);
    }

    /// When there is something to do by itself.
    pub(crate) fn next_wake(&self, now: UnixMillis) -> Option<UnixMillis> {
        let due = self.due.first().map(|(at, _)| *at).filter(|at| *at > now);
        let look = self.look_at.filter(|at| *at > now && *at < UnixMillis(u64::MAX));
        due.into_iter().chain(look).min()
    }

    /// Buckets whose time has passed and that nothing is in: forgotten here, and to be dropped from the log.
    pub(crate) fn take_past(&mut self, now: UnixMillis) -> Vec<LaneId> {
        let past = |lane: LaneId, bucket: &Bucket| {
            let end = start_ms(lane, now).saturating_add(1 << WIDTH_BITS).saturating_add(FORGET_AFTER_MS);
            bucket.live == 0 && bucket.admitted == 0 && !bucket.loading && end <= now.0
        };
        let gone: Vec<LaneId> = self
            .buckets
            .iter()
            .filter(|(lane, bucket)| past(**lane, bucket))
            .map(|(lane, _)| *lane)
            .collect();
        for lane in &gone {
            self.buckets.remove(lane);
        }
        gone
    }

    fn bucket(&mut self, lane: LaneId) -> &mut Bucket {
        self.buckets.entry(lane).or_insert_with(|| Bucket {
            next: lane.start().next(),
            live: 0,
            times: Times::Known,
            admitted: 0,
            loading: false,
        })
    }
}

/// When the bucket begins, next to now.
fn start_ms(lane: LaneId, now: UnixMillis) -> u64 {
    let current = now.0 >> WIDTH_BITS;
    let ahead = lane.bucket_number().wrapping_sub(current) & LaneId::BUCKETS_MASK;
    let bucket = if ahead <= AHEAD_MAX {
        current.saturating_add(ahead)
    } else {
        current.saturating_add(ahead).saturating_sub(LaneId::BUCKETS_MASK + 1)
    };
    bucket << WIDTH_BITS
}
