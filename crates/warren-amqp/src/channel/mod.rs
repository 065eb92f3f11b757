//! Spine 4: the machine of one open channel: methods become requests, replies become methods. Knows no other channel,
//! no handshake and no socket; opening and closing is `connection`'s.

mod ack;
mod confirm;
mod consume;
mod deliver;
mod flow;
mod ledger;
mod publish;
mod topology;
mod tx;

use std::collections::{BTreeMap, VecDeque};

use amq_protocol::protocol::{AMQPClass, access, basic, channel, confirm as confirm_class, queue};
use bytes::{BufMut, BytesMut};
use warren_types::table::ShortString;
use warren_types::{AckMode, ChannelNumber, DeliveryRef, ReplyCode, SubscriptionId};

pub(crate) use ack::Settle;
use confirm::Confirms;
pub use consume::CancelledConsumer;
use consume::Consumer;
pub(crate) use deliver::Delivery;
use deliver::Waiting;
pub use deliver::{Delivered, HandedOver};
pub(crate) use ledger::AckScope;
use ledger::Ledger;
use tx::Transaction;

use crate::action::Action;
use crate::connection::{ChannelInfo, ConnectionConfig};
use crate::content::Incoming;
use crate::error::{Fault, MethodId};
use crate::frame::{self, PublishMethod};
use crate::request::{Reply, Request};

/// What a channel writes to and looks up while it handles something.
pub(crate) struct Context<'a> {
    pub(crate) out: &'a mut BytesMut,
    pub(crate) handed_over: &'a mut Vec<HandedOver>,
    pub(crate) config: &'a ConnectionConfig,
    pub(crate) frame_max: u32,
    /// Bytes that all channels of the connection hold back.
    pub(crate) held_bytes: &'a mut u64,
    /// The shell's clock, as it last told.
    pub(crate) now_ms: u64,
}

impl Context<'_> {
    /// The channel held back `before` and holds back `after` now.
    fn hold_back(&mut self, before: u64, after: u64, id: MethodId) -> Result<(), Fault> {
        *self.held_bytes = self.held_bytes.saturating_sub(before).saturating_add(after);
        let limit = self.config.max_held_bytes;
        if after > before && *self.held_bytes > limit {
            let text = format!("unfinished messages and transactions are larger than {limit} bytes");
            return Err(Fault::new(ReplyCode::ResourceError, text, id));
        }
        Ok(())
    }
}

#[derive(Debug)]
enum Mode {
    Plain,
    Confirm(Confirms),
    Transactional(Transaction),
}

/// The reply that a channel waits for.
#[derive(Debug)]
enum Awaited {
    Done(AMQPClass),
    QueueDeclared,
    Purged,
    Deleted,
    Consumed { ack_mode: AckMode },
    Cancelled { tag: ShortString, subscription: SubscriptionId },
    Got { ack_mode: AckMode },
    Recovered,
    Committed,
}

#[derive(Debug)]
struct Pending {
    id: MethodId,
    no_wait: bool,
    awaited: Awaited,
}

/// An open channel.
#[derive(Debug)]
pub(crate) struct Channel {
    number: ChannelNumber,
    opening: u32,
    pub(crate) incoming: Incoming<PublishMethod>,
    mode: Mode,
    ledger: Ledger,
    consumers: BTreeMap<SubscriptionId, Consumer>,
    tags: BTreeMap<String, SubscriptionId>,
    /// Deliveries that the channel-wide prefetch holds back.
    waiting: VecDeque<Waiting>,
    /// For consumers that start from now on; 0 is no limit.
    prefetch: u16,
    /// For all consumers together; 0 is no limit.
    channel_prefetch: u16,
    last_queue: Option<String>,
    pending: Option<Pending>,
}

/// What a closed channel leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    pub(crate) returned: Vec<DeliveryRef>,
    pub(crate) waiting: Vec<DeliveryRef>,
    pub(crate) subscriptions: Vec<SubscriptionId>,
}

/// A method that exists but that a client has no business to send, or that we do not offer: 503.
pub(crate) fn unimplemented_method(id: MethodId) -> Fault {
    Fault::new(ReplyCode::CommandInvalid, "unimplemented method", id)
}

impl Channel {
    pub(crate) fn new(number: ChannelNumber, opening: u32) -> Self {
        Self {
            number,
            opening,
            incoming: Incoming::Idle,
            mode: Mode::Plain,
            ledger: Ledger::default(),
            consumers: BTreeMap::new(),
            tags: BTreeMap::new(),
            waiting: VecDeque::new(),
            prefetch: 0,
            channel_prefetch: 0,
            last_queue: None,
            pending: None,
        }
    }

    pub(crate) fn opening(&self) -> u32 {
        self.opening
    }

    /// Takes any method but publishes, settlements, qos and those that open and close channels.
    pub(crate) fn on_method(
        &mut self,
        method: AMQPClass,
        context: &mut Context<'_>,
    ) -> Result<Option<Action>, Fault> {
        let id = MethodId::new(method.get_amqp_class_id(), method.get_amqp_method_id());
        match method {
            AMQPClass::Exchange(method) => self.on_exchange(method, id).map(Some),
            AMQPClass::Queue(method) => self.on_queue(method, id).map(Some),
            AMQPClass::Basic(method) => self.on_basic(method, id, context),
            AMQPClass::Tx(method) => self.on_tx(&method, id, context),
            AMQPClass::Confirm(confirm_class::AMQPMethod::Select(select)) => {
                self.on_confirm_select(select.nowait, id, context)?;
                Ok(None)
            }
            AMQPClass::Channel(channel::AMQPMethod::Flow(flow)) => {
                self.on_flow(flow.active, id, context)?;
                Ok(None)
            }
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                // Clients of older versions want a ticket; RabbitMQ's is always 1.
                let [c1, c0] = self.number.0.to_be_bytes();
                context.out.put_slice(&[1, c1, c0, 0, 0, 0, 6, 0, 30, 0, 11, 0, 1, 0xCE]);
                Ok(None)
            }
            AMQPClass::Connection(_)
            | AMQPClass::Confirm(confirm_class::AMQPMethod::SelectOk(_))
            | AMQPClass::Access(access::AMQPMethod::RequestOk(_))
            | AMQPClass::Channel(
                channel::AMQPMethod::Open(_)
                | channel::AMQPMethod::OpenOk(_)
                | channel::AMQPMethod::FlowOk(_)
                | channel::AMQPMethod::Close(_)
                | channel::AMQPMethod::CloseOk(_),
            ) => Err(unimplemented_method(id)),
        }
    }

    fn on_basic(
        &mut self,
        method: basic::AMQPMethod,
        id: MethodId,
        context: &mut Context<'_>,
    ) -> Result<Option<Action>, Fault> {
        use basic::AMQPMethod as M;
        match method {
            M::Consume(consume) => self.on_consume(consume, id, context).map(Some),
            M::Cancel(cancel) => Ok(self.on_cancel(&cancel.consumer_tag, cancel.nowait, id, context)),
            M::CancelOk(ok) => Ok(self.on_cancel(&ok.consumer_tag, true, id, context)),
            M::Get(get) => self.on_get(&get, id).map(Some),
            M::Recover(recover) => self.on_recover(id, recover.requeue, true).map(Some),
            M::RecoverAsync(recover) => self.on_recover(id, recover.requeue, false).map(Some),
            // The first five are decoded by hand and never come this way.
            M::Qos(_)
            | M::Publish(_)
            | M::Ack(_)
            | M::Reject(_)
            | M::Nack(_)
            | M::QosOk(_)
            | M::ConsumeOk(_)
            | M::Return(_)
            | M::Deliver(_)
            | M::GetOk(_)
            | M::GetEmpty(_)
            | M::RecoverOk(_) => Err(unimplemented_method(id)),
        }
    }

    fn on_confirm_select(
        &mut self,
        no_wait: bool,
        id: MethodId,
        context: &mut Context<'_>,
    ) -> Result<(), Fault> {
        match self.mode {
            Mode::Transactional(_) => {
                let text = "cannot switch from tx to confirm mode";
                return Err(Fault::new(ReplyCode::PreconditionFailed, text, id));
            }
            Mode::Plain => self.mode = Mode::Confirm(Confirms::default()),
            // Again: the numbers go on.
            Mode::Confirm(_) => {}
        }
        if !no_wait {
            let ok = confirm_class::AMQPMethod::SelectOk(confirm_class::SelectOk {});
            self.answer(AMQPClass::Confirm(ok), context);
        }
        Ok(())
    }

    fn answer(&self, method: AMQPClass, context: &mut Context<'_>) {
        frame::method(self.number, method, context.out);
    }

    /// Remembers which reply is awaited and makes the action that asks for it.
    fn ask(&mut self, id: MethodId, no_wait: bool, awaited: Awaited, request: Request) -> Action {
        debug_assert!(self.pending.is_none(), "a channel asks one thing at a time");
        self.pending = Some(Pending { id, no_wait, awaited });
        Action::Request { channel: self.number, opening: self.opening, request }
    }

    /// The method that a reply is awaited for.
    pub(crate) fn pending_id(&self) -> MethodId {
        self.pending.as_ref().map_or(MethodId::NONE, |pending| pending.id)
    }

    /// Takes the reply to what was asked. `no_wait` keeps only the answer from the client, not what it does.
    pub(crate) fn on_reply(&mut self, reply: Reply, context: &mut Context<'_>) -> Result<(), Fault> {
        let Some(Pending { id, no_wait, awaited }) = self.pending.take() else {
            return Err(Fault::mismatched_reply(MethodId::NONE));
        };
        let ok = match (awaited, reply) {
            (Awaited::Done(ok), Reply::Done) => ok,
            (Awaited::QueueDeclared, Reply::QueueDeclared { name, messages, consumers }) => {
                let shown = ShortString::try_new(name.as_str()).map_err(|_| Fault::mismatched_reply(id))?;
                self.last_queue = Some(name);
                AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk {
                    queue: shown,
                    message_count: saturated(messages),
                    consumer_count: saturated(consumers),
                }))
            }
            (Awaited::Purged, Reply::Purged(count)) => {
                AMQPClass::Queue(queue::AMQPMethod::PurgeOk(queue::PurgeOk {
                    message_count: saturated(count),
                }))
            }
            (Awaited::Deleted, Reply::Deleted(count)) => {
                AMQPClass::Queue(queue::AMQPMethod::DeleteOk(queue::DeleteOk {
                    message_count: saturated(count),
                }))
            }
            (Awaited::Consumed { ack_mode }, Reply::Consumed { tag, subscription }) => {
                return if self.consumed(&tag, subscription, ack_mode, no_wait, context) {
                    Ok(())
                } else {
                    Err(Fault::mismatched_reply(id))
                };
            }
            (Awaited::Cancelled { tag, subscription }, Reply::Done) => {
                // The shell has ended it, and has what waited for it.
                let ended = self.end_consumer(subscription);
                debug_assert!(ended.is_none_or(|ended| ended.waiting.is_empty()), "deliveries are lost");
                self.cancelled(tag, no_wait, context);
                // Room that its waiting deliveries did not take.
                self.deliver_waiting(context);
                return Ok(());
            }
            (Awaited::Got { ack_mode }, Reply::Got(got)) => {
                self.got(got, ack_mode, context);
                return Ok(());
            }
            (Awaited::Recovered, Reply::Done) => {
                self.recovered(no_wait, context);
                return Ok(());
            }
            (Awaited::Committed, Reply::Done) => {
                self.committed(context);
                return Ok(());
            }
            (
                Awaited::Done(_)
                | Awaited::QueueDeclared
                | Awaited::Purged
                | Awaited::Deleted
                | Awaited::Consumed { .. }
                | Awaited::Cancelled { .. }
                | Awaited::Got { .. }
                | Awaited::Recovered
                | Awaited::Committed,
                _,
            ) => return Err(Fault::mismatched_reply(id)),
        };
        if !no_wait {
            self.answer(ok, context);
        }
        Ok(())
    }

    /// Publishes are done: writes `basic.ack`, or `basic.nack` with RabbitMQ's requeue bit.
    pub(crate) fn confirm(&mut self, numbers: &[u64], accepted: bool, out: &mut BytesMut) {
        let Mode::Confirm(confirms) = &mut self.mode else { return };
        let channel = self.number;
        confirms.done(numbers, |number, multiple| {
            if accepted {
                frame::ack(channel, number, multiple, out);
            } else {
                frame::nack(channel, number, multiple, true, out);
            }
        });
    }

    /// Bytes of messages that are not complete or not committed.
    pub(crate) fn held_bytes(&self) -> u64 {
        let transaction = match &self.mode {
            Mode::Transactional(transaction) => transaction.held_bytes(),
            Mode::Plain | Mode::Confirm(_) => 0,
        };
        transaction + self.incoming.held_bytes()
    }

    /// Takes the channel apart.
    pub(crate) fn close(mut self) -> Remains {
        let mut subscriptions: Vec<SubscriptionId> = self.consumers.keys().copied().collect();
        // A cancel that was asked for and not answered: whoever asked may be gone.
        if let Some(Pending { awaited: Awaited::Cancelled { subscription, .. }, .. }) = self.pending
            && !subscriptions.contains(&subscription)
        {
            subscriptions.push(subscription);
        }
        Remains {
            returned: self.ledger.drain(),
            waiting: self.waiting.drain(..).map(|delivery| delivery.source).collect(),
            subscriptions,
        }
    }

    /// For listings.
    pub(crate) fn info(&self) -> ChannelInfo {
        let unconfirmed = match &self.mode {
            Mode::Confirm(confirms) => Some(confirms.outstanding()),
            Mode::Plain | Mode::Transactional(_) => None,
        };
        ChannelInfo {
            number: self.number,
            opening: self.opening,
            consumers: self.consumers.len(),
            unacknowledged: self.ledger.outstanding(),
            waiting: self.waiting.len(),
            unconfirmed,
            transactional: matches!(self.mode, Mode::Transactional(_)),
            prefetch: self.prefetch,
            channel_prefetch: self.channel_prefetch,
        }
    }
}

fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
