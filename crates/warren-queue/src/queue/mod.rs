//! One queue at its leader: what is ready, what is held, who consumes.
//!
//! Spine 13: committed messages come into order here (`enqueue`), and leave to consumers (`deliver`) until they are
//! settled (`settle`). `recover` is its begin after another leader, `cache` what is read back. Knows no session but
//! by name and proposes nothing: `shard` does.
//!
//! A queue is one [`Lane`] of messages, or one for each priority that has been there. Every live position is in exactly
//! one of these places, the last four of which each lane has for itself:
//!
//! | place | is | above `delivered_to`? |
//! | --- | --- | --- |
//! | `unacked` | delivered, held by a session | no |
//! | `withheld` | an earlier leader may have delivered it; nobody has claimed it yet | no |
//! | `resting` | came back; its time to be delivered again has not come | no |
//! | `returned` | came back; its body must be read first | no |
//! | `back` | came back; loaded | no |
//! | `window` | never delivered; loaded | yes, up to `loaded_to` |
//! | (the store) | never delivered; not loaded | above `loaded_to` |
//!
//! Messages that are not in the queue yet are in `delayed`.
//! What `policy` and `settle` have taken out for its dead-letter exchange is in `dying`, and counts as gone.

mod cache;
mod consumer;
mod delayed;
mod deliver;
mod dying;
mod enqueue;
mod expiring;
mod history;
mod lane;
mod meter;
mod policy;
mod priority;
mod recover;
mod resting;
mod settle;
mod stamp;
mod stream;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use warren_proto::session::Counts;
use warren_types::{
    Message, Position, QueueId, QueueSettings, RequestId, SessionId, SubscriptionId, UnixMillis,
};

pub(crate) use cache::{Cache, LoadRequest};
pub(crate) use consumer::{Arrival, Consumer, ConsumerKey, Consumers, Transit};
pub(crate) use delayed::Delayed;
pub(crate) use deliver::Handed;
pub(crate) use history::Browse;
pub(crate) use lane::Lane;
pub(crate) use resting::Resting;
pub(crate) use settle::GiveBack;
pub(crate) use stream::Stream;
pub(crate) use window::{Window, key};

use crate::DeathReason;
use crate::held::Held;
use crate::lane::LaneId;
use crate::positions::PositionSet;

/// A delivery's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) session: SessionId,
    /// `None`: it came by `basic.get`.
    pub(crate) subscription: Option<SubscriptionId>,
    /// Size of the body; 0 where it is not known.
    pub(crate) size: u32,
    /// When it expires, should it come back; the end of time where that is not known.
    pub(crate) expires: UnixMillis,
    /// It was `redelivered` when it went out.
    pub(crate) redelivered: bool,
    /// The home settles it as it hands it over: no client acknowledges it.
    pub(crate) automatic: bool,
}

impl Holder {
    fn consumer(&self) -> Option<ConsumerKey> {
        self.subscription.map(|subscription| (self.session, subscription))
    }
}

/// A message ready for delivery, loaded.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) position: Position,
    pub(crate) redelivered: bool,
    pub(crate) delivery_count: u32,
    /// From then on it is not delivered.
    pub(crate) expires: UnixMillis,
    pub(crate) message: Message,
}

/// A `basic.get` that waits for its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Get {
    pub(crate) session: SessionId,
    pub(crate) request: RequestId,
    /// What it takes is not acknowledged.
    pub(crate) automatic: bool,
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    /// Its messages; where it has priorities, those of the middle.
    pub(crate) plain: Lane,
    /// Messages of other priorities that have been here.
    pub(crate) others: BTreeMap<LaneId, Lane>,
    /// Its deliveries need a committed mark.
    pub(crate) marks: bool,
    /// Messages in it, without those whose settling is under way.
    pub(crate) live: u64,
    /// Their body bytes without the delivered ones, as far as known.
    pub(crate) ready_bytes: u64,
    /// The highest position that a client of this leadership has certainly seen.
    pub(crate) seen_to: Position,
    pub(crate) withheld: PositionSet,
    pub(crate) unacked: Held<Holder>,
    /// What came back and is not to be delivered yet.
    pub(crate) resting: Resting,
    /// Delivery counts above 0 of what is delivered or came back.
    pub(crate) counts: BTreeMap<Position, u32>,
    /// How often that came back to this leader, failed or not; where consumers are told.
    pub(crate) acquired: BTreeMap<Position, u32>,
    pub(crate) consumers: Consumers,
    pub(crate) gets: VecDeque<Get>,
    /// It has had a consumer, and the log knows or will know.
    pub(crate) used: bool,
    /// Its deletion was asked for: it takes no consumers.
    pub(crate) deleting: Option<UnixMillis>,
    /// It takes no consumers until then.
    pub(crate) refuse_until: UnixMillis,
    /// It is on the host's list of queues to look at in this flush.
    pub(crate) touched: bool,
    /// Bytes on their way to its consumers, as the host has counted.
    pub(crate) counted_in_transit: u64,
    /// Its first message waits for the mark.
    pub(crate) waits_for_mark: bool,
    /// What the catalogue asks of it, as of the last look there.
    pub(crate) settings: Arc<QueueSettings>,
    /// The catalogue had it at that look: the settings are its own.
    pub(crate) known: bool,
    /// The catalogue's revision at which its settings were last looked at.
    pub(crate) configured_at: u64,
    /// Messages let in whose record is not applied yet, and their body bytes.
    pub(crate) admitted: u64,
    pub(crate) admitted_bytes: u64,
    /// Some of its messages may have a time to live.
    pub(crate) may_expire: bool,
    /// When the host looks at it again by itself.
    pub(crate) timer: Option<UnixMillis>,
    /// What has left it, to be recorded.
    pub(crate) gone: Vec<(DeathReason, Position)>,
    pub(crate) dying: dying::Dying,
    /// What expires before something ahead of it, where there ever was any.
    pub(crate) expiring: Option<Box<expiring::Expiring>>,
    /// Who is to be answered when no message is dying. No more than there are homes' connections: each asks one thing at
    /// a time.
    pub(crate) mourners: Vec<(SessionId, RequestId)>,
    /// Messages whose time has not come, where there ever were any.
    pub(crate) delayed: Option<Box<Delayed>>,
    /// The keys of messages that were here, where there ever were any.
    pub(crate) window: Option<Box<Window>>,
    /// It is a stream, and this is what that needs.
    pub(crate) stream: Option<Box<Stream>>,
    /// When it last had a consumer or a `basic.get`.
    pub(crate) last_used: UnixMillis,
    pub(crate) meter: meter::Meter,
}

impl Queue {
    /// Ready messages: not delivered, not withheld, not resting.
    pub(crate) fn ready(&self) -> u64 {
        let held = self.unacked.len() as u64;
        self.live
            .saturating_sub(held)
            .saturating_sub(self.withheld.count())
            .saturating_sub(self.resting.len())
    }

    /// Somebody would take a message now.
    pub(crate) fn has_demand(&mut self) -> bool {
        self.withheld.is_empty() && (!self.gets.is_empty() || self.consumers.has_room())
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            queue: self.id,
            ready: self.ready(),
            // What is withheld was delivered as far as anybody can tell.
            unacked: self.live.saturating_sub(self.ready()).saturating_sub(self.resting.len()),
            consumers: u32::try_from(self.consumers.len()).unwrap_or(u32::MAX),
            ready_bytes: if self.ready() == 0 { 0 } else { self.ready_bytes },
            delayed: self.delayed.as_ref().map_or(0, |delayed| delayed.len()) + self.resting.len(),
            active: self.consumers.active(),
            total: self.meter.total,
            ..Counts::default()
        }
    }

    /// The same with what has happened lately.
    pub(crate) fn counts_at(&self, now: UnixMillis) -> Counts {
        let (recent, recent_ms) = self.meter.recent(now);
        Counts { recent, recent_ms, ..self.counts() }
    }
}

/// The place before this one.
pub(crate) fn before(position: Position) -> Position {
    Position(position.0.saturating_sub(1))
}

/// A message's body bytes, as length limits count them.
pub(crate) fn body_of(message: &Message) -> u64 {
    message.body.len() as u64
}

/// A message's size as the cache counts it.
pub(crate) fn size_of(message: &Message) -> u64 {
    message.size() as u64
}
