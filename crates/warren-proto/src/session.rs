//! The frames between a home node and the leader that hosts a queue (spine 7 and 12 to 14). In process they pass as
//! these values; between nodes as the bytes that `encode` gives.

mod home;
mod leader;
#[cfg(test)]
mod tests;
mod wire;

use warren_types::{
    AckMode, Message, NodeId, Position, PositionRange, QueueId, RequestId, SessionId, SessionPublish,
    SubscriptionId, UnixMillis,
};

use crate::counters::counters;
use crate::generated::session::Tally as WireTally;

/// What a home node tells a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeFrame {
    /// Always the first frame of a stream.
    Attach(Attach),
    /// Messages with consecutive sequences from `first_seq`.
    Publish {
        /// The first message's sequence.
        first_seq: u64,
        /// The messages.
        messages: Vec<SessionPublish>,
    },
    /// A consumer starts. Answered by [`LeaderFrame::Subscribed`].
    Subscribe(Subscribe),
    /// A consumer ends: nothing more is delivered to it. What it holds stays with the session until settled or
    /// returned.
    Unsubscribe {
        /// The consumer.
        subscription: SubscriptionId,
    },
    /// Deliveries that the client acknowledged or rejected for good. Repeated to a new leader until recorded.
    Settle {
        /// Counts the session's settles and returns.
        seq: u64,
        /// The queue.
        queue: QueueId,
        /// Which.
        ranges: Vec<PositionRange>,
        /// True for reject or nack without requeue.
        rejected: bool,
    },
    /// Deliveries that go back to their place.
    Return {
        /// Counts the session's settles and returns.
        seq: u64,
        /// The queue.
        queue: QueueId,
        /// Which.
        ranges: Vec<PositionRange>,
        /// Counts as a failed delivery (reject, or the channel died holding it).
        failed: bool,
        /// The client has seen them: `redelivered` next time.
        delivered: bool,
    },
    /// The home wrote deliveries to the consumer's socket: room for more.
    Credit {
        /// The consumer.
        subscription: SubscriptionId,
        /// How many deliveries were written.
        messages: u32,
        /// Their size.
        bytes: u64,
    },
    /// A consumer's prefetch changes.
    SetPrefetch {
        /// The consumer.
        subscription: SubscriptionId,
        /// The new limit; 0 is none.
        prefetch: u32,
    },
    /// The home has taken a [`LeaderFrame::Confirmed`] that refused something: the leader need not keep it.
    Learned {
        /// What was refused up to here is known.
        up_to_seq: u64,
    },
    /// A question; answered by [`LeaderFrame::Reply`], after everything published before it has been applied.
    Request {
        /// Its number.
        request: RequestId,
        /// The question.
        ask: Ask,
    },
}

/// Begins, or begins again with another leader, a home's session with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The home's session.
    pub session: SessionId,
    /// Counts this home's attachments to the host; an older one that is still around is dropped.
    pub epoch: u64,
    /// The home node.
    pub node: NodeId,
    /// Which start of the home node this is (milliseconds since 1970 at its start).
    pub incarnation: u64,
    /// The consumers it has.
    pub subscriptions: Vec<Subscribe>,
    /// The deliveries it holds: not to be delivered again.
    pub held: Vec<Held>,
}

/// Deliveries of one queue that a home holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The queue.
    pub queue: QueueId,
    /// The consumer they went to; `None` for `basic.get`.
    pub subscription: Option<SubscriptionId>,
    /// Which.
    pub ranges: Vec<PositionRange>,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Its number at its home.
    pub subscription: SubscriptionId,
    /// The queue.
    pub queue: QueueId,
    /// Most unacknowledged deliveries; 0 is no limit.
    pub prefetch: u32,
    /// Refuse other consumers.
    pub exclusive: bool,
    /// `x-priority`.
    pub priority: i32,
    /// For listings only: with automatic acknowledgement the home settles as it delivers.
    pub ack_mode: AckMode,
    /// `x-single-active-consumer` of its queue: only one consumer at a time gets messages.
    pub single_active: bool,
    /// To a new leader: it is the one that gets them, as far as its home can tell, and since when
    /// ([`LeaderFrame::Deliver::active_since`]). Of several the latest is right: the others were given up while their homes
    /// were out of reach.
    pub active: Option<u64>,
    /// It reads a stream, from there.
    pub offset: Option<StreamOffset>,
    /// Of a stream it gets only these.
    pub filter: Option<StreamFilter>,
}

/// Which messages of a stream a reader gets: those with one of these values in the header `x-stream-filter-value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFilter {
    /// The values.
    pub values: Vec<Vec<u8>>,
    /// And those without such a header.
    pub unfiltered: bool,
}

/// Where a reader of a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOffset {
    /// With the first message that is there.
    First,
    /// With the last one.
    Last,
    /// With the next one that is published.
    Next,
    /// With the message of that number, from 0; with the next one where there is none yet.
    Offset(u64),
    /// With the first one that is not older.
    Since(UnixMillis),
}

/// A question to a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `basic.get`.
    Get {
        /// The queue.
        queue: QueueId,
        /// With automatic acknowledgement the home settles it at once.
        ack_mode: AckMode,
    },
    /// The counts of a queue.
    Info {
        /// The queue.
        queue: QueueId,
        /// It is declared (again), which is a use: the time of `x-expires` begins anew.
        uses: bool,
        /// Only once the copies of all its dead messages are where they go.
        after_deaths: bool,
    },
    /// `queue.purge`.
    Purge {
        /// The queue.
        queue: QueueId,
    },
    /// May the queue be deleted? For some seconds after a yes, a queue asked with `if_unused` refuses consumers.
    CheckDelete {
        /// The queue.
        queue: QueueId,
        /// Only when it has no consumers.
        if_unused: bool,
        /// Only when it has no messages.
        if_empty: bool,
    },
    /// The counts of all queues of this host that have messages or consumers, or are known to the leader.
    List,
    /// Messages of an exchange's history, which stay there.
    Browse {
        /// The queue that keeps it.
        queue: QueueId,
        /// Those behind this one.
        after: Position,
        /// Most of them.
        max_messages: u32,
    },
}

/// What a leader tells a home node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderFrame {
    /// The attachment stands.
    Attached {
        /// The attachment's epoch.
        epoch: u64,
        /// Everything at or below it has been applied: confirmed, not to be sent again. 0 for a new session.
        last_seq: u64,
    },
    /// Everything at or below `up_to_seq` is safe, but for `rejected`.
    Confirmed {
        /// The mark.
        up_to_seq: u64,
        /// Refused by policy: nack. Ascending.
        rejected: Vec<u64>,
    },
    /// Settles and returns at or below it are recorded: need not be repeated.
    Settled {
        /// The mark.
        up_to_seq: u64,
    },
    /// Who publishes to the queue waits so long after each read.
    Pace {
        /// The queue.
        queue: QueueId,
        /// Milliseconds; 0 ends the wait.
        pause_ms: u32,
    },
    /// Messages for a consumer.
    Deliver {
        /// The consumer.
        subscription: SubscriptionId,
        /// The queue.
        queue: QueueId,
        /// The messages, in order.
        deliveries: Vec<Delivery>,
        /// To a single active consumer: a number that is greater for each that became active later; else 0.
        active_since: u64,
    },
    /// A consumer's fate.
    Subscribed {
        /// The consumer.
        subscription: SubscriptionId,
        /// What became of it.
        outcome: SubscribeOutcome,
        /// Of a stream: the offset that it gets next, where that is known.
        next_offset: Option<u64>,
    },
    /// The queue is gone and the consumer with it (`basic.cancel`).
    Cancelled {
        /// The consumer.
        subscription: SubscriptionId,
    },
    /// An answer.
    Reply {
        /// The question.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// This node does not lead the host (any more): look for the leader and attach there.
    NotLeader,
}

/// One message on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the queue.
    pub position: Position,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How often it came back as failed.
    pub delivery_count: u32,
    /// How often it came back at all, as far as its leader knows; 0 where nobody is told.
    pub acquired_count: u32,
    /// The message.
    pub message: Message,
}

/// What became of a [`Subscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeOutcome {
    /// It will get messages.
    Subscribed,
    /// 403: another consumer is exclusive, or this one would be.
    ExclusiveUse,
    /// 404: the queue is gone.
    NoQueue,
}

/// An answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Get`: the message, if there was one, and how many are left.
    Got {
        /// The message.
        delivery: Option<Delivery>,
        /// Ready messages left.
        remaining: u64,
    },
    /// To `Info`.
    Info(Counts),
    /// To `Purge`: how many messages went.
    Purged(u64),
    /// To `CheckDelete`.
    CheckDelete(DeleteOutcome),
    /// To `List`.
    List(Vec<Counts>),
    /// To `Browse`: as many as fit, none where there are no more.
    Browsed {
        /// The messages, in order.
        deliveries: Vec<Delivery>,
        /// The newest message there was when it was asked.
        last: Position,
    },
    /// The queue is gone.
    NoQueue,
}

/// Whether a queue may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It may; it holds this many ready messages.
    May {
        /// Ready messages.
        messages: u64,
    },
    /// It has consumers.
    InUse,
    /// It has messages.
    NotEmpty,
}

/// A queue's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// The queue.
    pub queue: QueueId,
    /// Messages ready for delivery.
    pub ready: u64,
    /// Delivered and not settled.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u32,
    /// Body bytes of the ready messages, as far as the leader knows them.
    pub ready_bytes: u64,
    /// Messages whose time has not come: neither ready nor unacked.
    pub delayed: u64,
    /// The single active consumer, where there is one: its home's session, and its number there.
    pub active: Option<(SessionId, SubscriptionId)>,
    /// What has happened in it since this leader leads it.
    pub total: Tally,
    /// Of that, what happened in the last `recent_ms`.
    pub recent: Tally,
    /// How long `recent` looks back.
    pub recent_ms: u64,
}

counters! {
    /// How often each thing has happened in a queue.
    Tally as WireTally {
        /// Messages that came.
        publish,
        /// Deliveries to consumers that acknowledge.
        deliver,
        /// Deliveries to others.
        deliver_no_ack,
        /// Messages taken by `basic.get`, to be acknowledged.
        get,
        /// Messages taken by `basic.get`, not to be acknowledged.
        get_no_ack,
        /// A `basic.get` that found nothing.
        get_empty,
        /// Of the deliveries and gets, those flagged `redelivered`.
        redeliver,
        /// Acknowledgements by clients.
        ack,
    }
}
