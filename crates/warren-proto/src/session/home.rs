//! Encoding of what a home tells a leader.

use bytes::Bytes;
use prost::Message as _;
use warren_types::{
    AckMode, NodeId, Position, QueueId, RequestId, SessionId, SessionPublish, SubscriptionId, UnixMillis,
};

use super::wire::{MAX_ITEMS, bounded, check_length, malformed, message_from, ranges_from, ranges_to, short};
use super::{Ask, Attach, Held, HomeFrame, StreamFilter, StreamOffset, Subscribe};
use crate::DecodeError;
use crate::generated::session as wire;

const WHAT: &str = "session HomeFrame";

/// Most queues of one host that one message goes to, and so most of one encoded publish.
const MAX_QUEUES: usize = 1 << 16;

impl HomeFrame {
    /// The frame as bytes (`proto/session.proto`). Each body is copied once.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        use wire::home_frame::Frame;
        let frame = match self {
            Self::Attach(attach) => Frame::Attach(attach_to(attach)),
            Self::Publish { first_seq, messages } => Frame::Publish(wire::PublishBatch {
                first_seq: *first_seq,
                messages: messages.iter().map(publish_to).collect(),
            }),
            Self::Subscribe(subscribe) => Frame::Subscribe(subscribe_to(subscribe)),
            Self::Unsubscribe { subscription } => {
                Frame::Unsubscribe(wire::Unsubscribe { subscription: subscription.0 })
            }
            Self::Settle { seq, queue, ranges, rejected } => Frame::Settle(wire::Settle {
                seq: *seq,
                queue: queue.0,
                rejected: *rejected,
                ranges: ranges_to(ranges),
            }),
            Self::Return { seq, queue, ranges, failed, delivered } => Frame::Return(wire::Return {
                seq: *seq,
                queue: queue.0,
                failed: *failed,
                delivered: *delivered,
                ranges: ranges_to(ranges),
            }),
            Self::Credit { subscription, messages, bytes } => Frame::Credit(wire::Credit {
                subscription: subscription.0,
                messages: *messages,
                bytes: *bytes,
            }),
            Self::SetPrefetch { subscription, prefetch } => {
                Frame::SetPrefetch(wire::SetPrefetch { subscription: subscription.0, prefetch: *prefetch })
            }
            Self::Learned { up_to_seq } => Frame::Learned(wire::Learned { up_to_seq: *up_to_seq }),
            Self::Request { request, ask } => {
                Frame::Request(wire::Request { request: request.0, ask: Some(ask_to(ask)) })
            }
        };
        wire::HomeFrame { frame: Some(frame) }.encode_to_vec().into()
    }

    /// Reads a frame; bodies and names are slices of `bytes`, nothing is copied.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a frame, hold a kind of frame that this version does not know, or
    /// break a bound. The stream they came on must end: what was lost cannot be told.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        use wire::home_frame::Frame;
        check_length(WHAT, bytes.len())?;
        let frame = wire::HomeFrame::decode(bytes).map_err(|error| malformed(WHAT, &error))?;
        Ok(match frame.frame.ok_or(DecodeError::Unknown { what: WHAT })? {
            Frame::Attach(attach) => Self::Attach(attach_from(attach)?),
            Frame::Publish(batch) => publish_batch_from(batch)?,
            Frame::Subscribe(subscribe) => Self::Subscribe(subscribe_from(&subscribe)),
            Frame::Unsubscribe(frame) => {
                Self::Unsubscribe { subscription: SubscriptionId(frame.subscription) }
            }
            Frame::Settle(settle) => Self::Settle {
                seq: settle.seq,
                queue: QueueId(settle.queue),
                ranges: ranges_from(WHAT, &settle.ranges)?,
                rejected: settle.rejected,
            },
            Frame::Return(back) => Self::Return {
                seq: back.seq,
                queue: QueueId(back.queue),
                ranges: ranges_from(WHAT, &back.ranges)?,
                failed: back.failed,
                delivered: back.delivered,
            },
            Frame::Credit(credit) => Self::Credit {
                subscription: SubscriptionId(credit.subscription),
                messages: credit.messages,
                bytes: credit.bytes,
            },
            Frame::SetPrefetch(set) => {
                Self::SetPrefetch { subscription: SubscriptionId(set.subscription), prefetch: set.prefetch }
            }
            Frame::Learned(learned) => Self::Learned { up_to_seq: learned.up_to_seq },
            Frame::Request(request) => Self::Request {
                request: RequestId(request.request),
                ask: ask_from(request.ask.ok_or(DecodeError::Unknown { what: "session Request" })?),
            },
        })
    }
}

fn attach_to(attach: &Attach) -> wire::Attach {
    wire::Attach {
        session: attach.session.0,
        epoch: attach.epoch,
        node: attach.node.0,
        incarnation: attach.incarnation,
        subscriptions: attach.subscriptions.iter().map(subscribe_to).collect(),
        held: attach
            .held
            .iter()
            .map(|held| wire::Held {
                queue: held.queue.0,
                subscription: held.subscription.map(|subscription| subscription.0),
                ranges: ranges_to(&held.ranges),
            })
            .collect(),
    }
}

fn attach_from(attach: wire::Attach) -> Result<Attach, DecodeError> {
    bounded(WHAT, "attach.subscriptions", attach.subscriptions.len(), MAX_ITEMS)?;
    bounded(WHAT, "attach.held", attach.held.len(), MAX_ITEMS)?;
    let held = attach
        .held
        .iter()
        .map(|held| {
            Ok(Held {
                queue: QueueId(held.queue),
                subscription: held.subscription.map(SubscriptionId),
                ranges: ranges_from(WHAT, &held.ranges)?,
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(Attach {
        session: SessionId(attach.session),
        epoch: attach.epoch,
        node: NodeId(attach.node),
        incarnation: attach.incarnation,
        subscriptions: attach.subscriptions.iter().map(subscribe_from).collect(),
        held,
    })
}

fn publish_to(publish: &SessionPublish) -> wire::Publish {
    wire::Publish {
        queues: publish.queues.iter().map(|queue| queue.0).collect(),
        exchange: publish.message.exchange.bytes().clone(),
        routing_key: publish.message.routing_key.bytes().clone(),
        properties: publish.message.properties.clone(),
        body: publish.message.body.clone(),
        delay_ms: publish.delay_ms,
    }
}

fn publish_batch_from(batch: wire::PublishBatch) -> Result<HomeFrame, DecodeError> {
    bounded(WHAT, "publish.messages", batch.messages.len(), MAX_ITEMS)?;
    // Sequences count from 1 and never wrap: the last one of the batch must still be a number.
    if batch.first_seq == 0 || batch.first_seq.checked_add(batch.messages.len() as u64).is_none() {
        return Err(DecodeError::Field { what: WHAT, field: "publish.first_seq" });
    }
    let messages = batch
        .messages
        .into_iter()
        .map(|publish| {
            bounded(WHAT, "publish.queues", publish.queues.len(), MAX_QUEUES)?;
            if publish.queues.is_empty() {
                return Err(DecodeError::Field { what: WHAT, field: "publish.queues" });
            }
            Ok(SessionPublish {
                queues: publish.queues.into_iter().map(QueueId).collect(),
                message: message_from(
                    short(WHAT, "publish.exchange", publish.exchange)?,
                    short(WHAT, "publish.routing_key", publish.routing_key)?,
                    publish.properties,
                    publish.body,
                ),
                delay_ms: publish.delay_ms,
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(HomeFrame::Publish { first_seq: batch.first_seq, messages })
}

fn subscribe_to(subscribe: &Subscribe) -> wire::Subscribe {
    wire::Subscribe {
        subscription: subscribe.subscription.0,
        queue: subscribe.queue.0,
        prefetch: subscribe.prefetch,
        exclusive: subscribe.exclusive,
        priority: subscribe.priority,
        automatic: subscribe.ack_mode == AckMode::Automatic,
        single_active: subscribe.single_active,
        active: subscribe.active.is_some(),
        active_since: subscribe.active.unwrap_or_default(),
        offset: subscribe.offset.map(offset_to),
        filter: subscribe.filter.as_ref().map(|filter| wire::StreamFilter {
            values: filter.values.iter().map(|value| value.clone().into()).collect(),
            unfiltered: filter.unfiltered,
        }),
    }
}

fn offset_to(offset: StreamOffset) -> wire::StreamOffset {
    use wire::stream_offset::At;
    let at = match offset {
        StreamOffset::First => At::First(true),
        StreamOffset::Last => At::Last(true),
        StreamOffset::Next => At::Next(true),
        StreamOffset::Offset(offset) => At::Offset(offset),
        StreamOffset::Since(since) => At::SinceMs(since.0),
    };
    wire::StreamOffset { at: Some(at) }
}

fn offset_from(offset: &wire::StreamOffset) -> StreamOffset {
    use wire::stream_offset::At;
    match offset.at {
        Some(At::First(_)) => StreamOffset::First,
        Some(At::Last(_)) => StreamOffset::Last,
        Some(At::Offset(offset)) => StreamOffset::Offset(offset),
        Some(At::SinceMs(since)) => StreamOffset::Since(UnixMillis(since)),
        Some(At::Next(_)) | None => StreamOffset::Next,
    }
}

fn subscribe_from(subscribe: &wire::Subscribe) -> Subscribe {
    Subscribe {
        subscription: SubscriptionId(subscribe.subscription),
        queue: QueueId(subscribe.queue),
        prefetch: subscribe.prefetch,
        exclusive: subscribe.exclusive,
        priority: subscribe.priority,
        ack_mode: ack_mode(subscribe.automatic),
        single_active: subscribe.single_active,
        active: subscribe.active.then_some(subscribe.active_since),
        offset: subscribe.offset.as_ref().map(offset_from),
        filter: subscribe.filter.as_ref().map(|filter| StreamFilter {
            values: filter.values.iter().map(|value| value.to_vec()).collect(),
            unfiltered: filter.unfiltered,
        }),
    }
}

fn ack_mode(automatic: bool) -> AckMode {
    if automatic { AckMode::Automatic } else { AckMode::Manual }
}

fn ask_to(ask: &Ask) -> wire::request::Ask {
    match ask {
        Ask::Get { queue, ack_mode } => {
            wire::request::Ask::Get(wire::Get { queue: queue.0, automatic: *ack_mode == AckMode::Automatic })
        }
        Ask::Info { queue, uses, after_deaths } => wire::request::Ask::Info(wire::QueueInfo {
            queue: queue.0,
            uses: *uses,
            after_deaths: *after_deaths,
        }),
        Ask::Purge { queue } => wire::request::Ask::Purge(wire::PurgeQueue { queue: queue.0 }),
        Ask::CheckDelete { queue, if_unused, if_empty } => {
            wire::request::Ask::CheckDelete(wire::CheckDelete {
                queue: queue.0,
                if_unused: *if_unused,
                if_empty: *if_empty,
            })
        }
        Ask::List => wire::request::Ask::List(wire::ListQueues {}),
        Ask::Browse { queue, after, max_messages } => wire::request::Ask::Browse(wire::Browse {
            queue: queue.0,
            after: after.0,
            max_messages: *max_messages,
        }),
    }
}

fn ask_from(ask: wire::request::Ask) -> Ask {
    match ask {
        wire::request::Ask::Get(get) => {
            Ask::Get { queue: QueueId(get.queue), ack_mode: ack_mode(get.automatic) }
        }
        wire::request::Ask::Info(info) => {
            Ask::Info { queue: QueueId(info.queue), uses: info.uses, after_deaths: info.after_deaths }
        }
        wire::request::Ask::Purge(purge) => Ask::Purge { queue: QueueId(purge.queue) },
        wire::request::Ask::CheckDelete(check) => Ask::CheckDelete {
            queue: QueueId(check.queue),
            if_unused: check.if_unused,
            if_empty: check.if_empty,
        },
        wire::request::Ask::List(wire::ListQueues {}) => Ask::List,
        wire::request::Ask::Browse(browse) => Ask::Browse {
            queue: QueueId(browse.queue),
            after: Position(browse.after),
            max_messages: browse.max_messages,
        },
    }
}
