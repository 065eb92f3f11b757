//! Encoding of what a leader tells a home.

use bytes::Bytes;
use prost::Message as _;
use warren_types::{Position, QueueId, RequestId, SessionId, SubscriptionId};

use super::wire::{MAX_ITEMS, bounded, check_length, malformed, message_from, short};
use super::{Answer, Counts, DeleteOutcome, Delivery, LeaderFrame, SubscribeOutcome, Tally};
use crate::DecodeError;
use crate::generated::session as wire;

const WHAT: &str = "session LeaderFrame";

impl LeaderFrame {
    /// The frame as bytes (`proto/session.proto`). Each body is copied once.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        use wire::leader_frame::Frame;
        let mut pace = None;
        let frame = match self {
            Self::Attached { epoch, last_seq } => {
                Frame::Attached(wire::Attached { epoch: *epoch, last_seq: *last_seq })
            }
            Self::Confirmed { up_to_seq, rejected } => {
                Frame::Confirmed(wire::Confirmed { up_to_seq: *up_to_seq, rejected: rejected.clone() })
            }
            Self::Settled { up_to_seq } => Frame::Settled(wire::Settled { up_to_seq: *up_to_seq }),
            Self::Deliver { subscription, queue, deliveries, active_since } => {
                Frame::Deliver(wire::Deliver {
                    subscription: subscription.0,
                    queue: queue.0,
                    deliveries: deliveries.iter().map(delivery_to).collect(),
                    active_since: *active_since,
                })
            }
            Self::Subscribed { subscription, outcome, next_offset } => {
                Frame::Subscribed(wire::SubscribeReply {
                    subscription: subscription.0,
                    outcome: subscribe_outcome_to(*outcome).into(),
                    next_offset: *next_offset,
                })
            }
            Self::Cancelled { subscription } => {
                Frame::Cancelled(wire::Cancelled { subscription: subscription.0 })
            }
            Self::Reply { request, answer } => {
                Frame::Reply(wire::Reply { request: request.0, answer: Some(answer_to(answer)) })
            }
            Self::Pace { queue, pause_ms } => {
                pace = Some(wire::Pace { queue: queue.0, pause_ms: *pause_ms });
                Frame::Settled(wire::Settled { up_to_seq: 0 })
            }
            Self::NotLeader => Frame::NotLeader(wire::NotLeader {}),
        };
        wire::LeaderFrame { frame: Some(frame), pace }.encode_to_vec().into()
    }

    /// Reads a frame; bodies and names are slices of `bytes`, nothing is copied.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a frame, hold a kind of frame that this version does not know, or
    /// break a bound. The stream they came on must end: what was lost cannot be told.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        use wire::leader_frame::Frame;
        check_length(WHAT, bytes.len())?;
        let frame = wire::LeaderFrame::decode(bytes).map_err(|error| malformed(WHAT, &error))?;
        if let Some(pace) = frame.pace {
            return Ok(Self::Pace { queue: QueueId(pace.queue), pause_ms: pace.pause_ms });
        }
        Ok(match frame.frame.ok_or(DecodeError::Unknown { what: WHAT })? {
            Frame::Attached(attached) => {
                Self::Attached { epoch: attached.epoch, last_seq: attached.last_seq }
            }
            Frame::Confirmed(confirmed) => {
                bounded(WHAT, "confirmed.rejected", confirmed.rejected.len(), MAX_ITEMS)?;
                if !confirmed.rejected.is_sorted() {
                    return Err(DecodeError::Field { what: WHAT, field: "confirmed.rejected" });
                }
                Self::Confirmed { up_to_seq: confirmed.up_to_seq, rejected: confirmed.rejected }
            }
            Frame::Settled(settled) => Self::Settled { up_to_seq: settled.up_to_seq },
            Frame::Deliver(deliver) => {
                bounded(WHAT, "deliver.deliveries", deliver.deliveries.len(), MAX_ITEMS)?;
                Self::Deliver {
                    subscription: SubscriptionId(deliver.subscription),
                    queue: QueueId(deliver.queue),
                    deliveries: deliver
                        .deliveries
                        .into_iter()
                        .map(delivery_from)
                        .collect::<Result<_, DecodeError>>()?,
                    active_since: deliver.active_since,
                }
            }
            Frame::Subscribed(reply) => Self::Subscribed {
                subscription: SubscriptionId(reply.subscription),
                outcome: subscribe_outcome_from(reply.outcome)?,
                next_offset: reply.next_offset,
            },
            Frame::Cancelled(cancelled) => {
                Self::Cancelled { subscription: SubscriptionId(cancelled.subscription) }
            }
            Frame::Reply(reply) => Self::Reply {
                request: RequestId(reply.request),
                answer: answer_from(reply.answer.ok_or(DecodeError::Unknown { what: "session Reply" })?)?,
            },
            Frame::NotLeader(wire::NotLeader {}) => Self::NotLeader,
        })
    }
}

fn delivery_to(delivery: &Delivery) -> wire::Delivery {
    wire::Delivery {
        position: delivery.position.0,
        redelivered: delivery.redelivered,
        delivery_count: delivery.delivery_count,
        acquired_count: delivery.acquired_count,
        exchange: delivery.message.exchange.bytes().clone(),
        routing_key: delivery.message.routing_key.bytes().clone(),
        properties: delivery.message.properties.clone(),
        body: delivery.message.body.clone(),
    }
}

fn delivery_from(delivery: wire::Delivery) -> Result<Delivery, DecodeError> {
    if delivery.position == 0 {
        return Err(DecodeError::Field { what: WHAT, field: "delivery.position" });
    }
    Ok(Delivery {
        position: Position(delivery.position),
        redelivered: delivery.redelivered,
        delivery_count: delivery.delivery_count,
        acquired_count: delivery.acquired_count,
        message: message_from(
            short(WHAT, "delivery.exchange", delivery.exchange)?,
            short(WHAT, "delivery.routing_key", delivery.routing_key)?,
            delivery.properties,
            delivery.body,
        ),
    })
}

fn subscribe_outcome_to(outcome: SubscribeOutcome) -> wire::SubscribeOutcome {
    match outcome {
        SubscribeOutcome::Subscribed => wire::SubscribeOutcome::Subscribed,
        SubscribeOutcome::ExclusiveUse => wire::SubscribeOutcome::ExclusiveUse,
        SubscribeOutcome::NoQueue => wire::SubscribeOutcome::NoQueue,
    }
}

fn subscribe_outcome_from(outcome: i32) -> Result<SubscribeOutcome, DecodeError> {
    match wire::SubscribeOutcome::try_from(outcome) {
        Ok(wire::SubscribeOutcome::Subscribed) => Ok(SubscribeOutcome::Subscribed),
        Ok(wire::SubscribeOutcome::ExclusiveUse) => Ok(SubscribeOutcome::ExclusiveUse),
        Ok(wire::SubscribeOutcome::NoQueue) => Ok(SubscribeOutcome::NoQueue),
        Err(_) => Err(DecodeError::Field { what: WHAT, field: "subscribed.outcome" }),
    }
}

fn answer_to(answer: &Answer) -> wire::reply::Answer {
    match answer {
        Answer::Got { delivery, remaining } => wire::reply::Answer::Get(wire::GetReply {
            delivery: delivery.as_ref().map(delivery_to),
            remaining: *remaining,
        }),
        Answer::Info(counts) => wire::reply::Answer::Info(counts_to(counts)),
        Answer::Purged(count) => wire::reply::Answer::Purged(*count),
        Answer::CheckDelete(outcome) => wire::reply::Answer::CheckDelete(delete_outcome_to(*outcome)),
        Answer::List(queues) => {
            wire::reply::Answer::List(wire::ListReply { queues: queues.iter().map(counts_to).collect() })
        }
        Answer::Browsed { deliveries, last } => wire::reply::Answer::Browse(wire::BrowseReply {
            deliveries: deliveries.iter().map(delivery_to).collect(),
            last: last.0,
        }),
        Answer::NoQueue => wire::reply::Answer::NoQueue(true),
    }
}

fn answer_from(answer: wire::reply::Answer) -> Result<Answer, DecodeError> {
    Ok(match answer {
        wire::reply::Answer::Get(get) => {
            Answer::Got { delivery: get.delivery.map(delivery_from).transpose()?, remaining: get.remaining }
        }
        wire::reply::Answer::Info(counts) => Answer::Info(counts_from(&counts)),
        wire::reply::Answer::Purged(count) => Answer::Purged(count),
        wire::reply::Answer::CheckDelete(reply) => Answer::CheckDelete(delete_outcome_from(reply)?),
        wire::reply::Answer::List(list) => {
            bounded(WHAT, "list.queues", list.queues.len(), MAX_ITEMS)?;
            Answer::List(list.queues.iter().map(counts_from).collect())
        }
        wire::reply::Answer::Browse(reply) => {
            bounded(WHAT, "browse.deliveries", reply.deliveries.len(), MAX_ITEMS)?;
            let deliveries = reply.deliveries.into_iter().map(delivery_from);
            Answer::Browsed {
                deliveries: deliveries.collect::<Result<_, DecodeError>>()?,
                last: Position(reply.last),
            }
        }
        wire::reply::Answer::NoQueue(_) => Answer::NoQueue,
    })
}

fn counts_to(counts: &Counts) -> wire::Counts {
    wire::Counts {
        queue: counts.queue.0,
        ready: counts.ready,
        unacked: counts.unacked,
        consumers: counts.consumers,
        ready_bytes: counts.ready_bytes,
        delayed: counts.delayed,
        active: counts.active.map(|(session, subscription)| wire::ActiveConsumer {
            session: session.0,
            subscription: subscription.0,
        }),
        total: counts.total.to_wire(),
        recent: counts.recent.to_wire(),
        recent_ms: counts.recent_ms,
    }
}

fn counts_from(counts: &wire::Counts) -> Counts {
    Counts {
        queue: QueueId(counts.queue),
        ready: counts.ready,
        unacked: counts.unacked,
        consumers: counts.consumers,
        ready_bytes: counts.ready_bytes,
        delayed: counts.delayed,
        active: counts.active.map(|active| (SessionId(active.session), SubscriptionId(active.subscription))),
        total: Tally::from_wire(counts.total),
        recent: Tally::from_wire(counts.recent),
        recent_ms: counts.recent_ms,
    }
}

fn delete_outcome_to(outcome: DeleteOutcome) -> wire::DeleteReply {
    let (outcome, messages) = match outcome {
        DeleteOutcome::May { messages } => (wire::DeleteOutcome::MayDelete, messages),
        DeleteOutcome::InUse => (wire::DeleteOutcome::InUse, 0),
        DeleteOutcome::NotEmpty => (wire::DeleteOutcome::NotEmpty, 0),
    };
    wire::DeleteReply { outcome: outcome.into(), messages }
}

fn delete_outcome_from(reply: wire::DeleteReply) -> Result<DeleteOutcome, DecodeError> {
    match wire::DeleteOutcome::try_from(reply.outcome) {
        Ok(wire::DeleteOutcome::MayDelete) => Ok(DeleteOutcome::May { messages: reply.messages }),
        Ok(wire::DeleteOutcome::InUse) => Ok(DeleteOutcome::InUse),
        Ok(wire::DeleteOutcome::NotEmpty) => Ok(DeleteOutcome::NotEmpty),
        Err(_) => Err(DecodeError::Field { what: WHAT, field: "check_delete.outcome" }),
    }
}
