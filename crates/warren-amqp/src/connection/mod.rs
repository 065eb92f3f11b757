//! Spine 3: the machine of one connection: each frame to its channel, channels opened and closed, actions in order.
//! Knows no socket, clock, user or queue.
//! Before: `frame/decode.rs`. After: `channel`.

mod answer;
mod close;
mod handshake;
mod heartbeat;
mod tune;

use std::collections::VecDeque;
use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, channel, connection};
use bytes::{Bytes, BytesMut};
use warren_types::{ChannelNumber, DeliveryRef, FieldTable, ReplyCode};

pub use handshake::server_properties;
pub use heartbeat::{Beat, Heartbeat};
pub use tune::Limits;

use crate::action::{Action, Ending, Mechanism, Settlement};
use crate::channel::{AckScope, Channel, Context, HandedOver, Settle};
use crate::error::{Fault, MethodId};
use crate::frame::{
    self, Frame, FrameError, INITIAL_FRAME_MAX, Method, decode_method, method_id, next_frame,
};
use crate::request::{Request, UpdateSecret};

/// Most deliveries that one [`Action::Settle`] gathers from several frames.
const SETTLE_MAX: usize = 1024;

/// What a server offers and allows.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionConfig {
    /// Told to clients first; see [`server_properties`].
    pub server_properties: FieldTable,
    /// Most channels of a connection; 0 is no limit. Default 2047.
    pub channel_max: u16,
    /// Largest frame in bytes, its overhead included; 0 is no limit. Default 131072.
    pub frame_max: u32,
    /// Heartbeat interval proposed to clients, in seconds. Default 60.
    pub heartbeat_s: u16,
    /// Largest message body in bytes. Default 16 MiB.
    pub max_message_size: u64,
    /// Most consumers of a channel. Default none.
    pub consumers_per_channel: Option<u32>,
    /// Most bytes that a channel's transaction may hold back. Default 128 MiB.
    pub max_transaction_bytes: u64,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            server_properties: server_properties("Warren", env!("CARGO_PKG_VERSION"), "warren"),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            max_message_size: 16 * 1024 * 1024,
            consumers_per_channel: None,
            max_transaction_bytes: 128 * 1024 * 1024,
        }
    }
}

/// Where a connection is in its life, as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Until the client is known.
    Starting,
    /// Until limits are agreed.
    Tuning,
    /// Until a virtual host is open.
    Opening,
    /// In use.
    Running,
    /// In use, and not read from: an alarm.
    Blocked,
    /// One side has said that it closes.
    Closing,
    /// Over.
    Closed,
}

/// A channel as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its number.
    pub number: ChannelNumber,
    /// Which opening of it.
    pub opening: u32,
    /// Its consumers.
    pub consumers: usize,
    /// Deliveries that the client holds.
    pub unacknowledged: usize,
    /// Deliveries that the channel-wide prefetch holds back.
    pub waiting: usize,
    /// Publishes not yet confirmed; `None` when not in confirm mode.
    pub unconfirmed: Option<u64>,
    /// In transactional mode.
    pub transactional: bool,
    /// Prefetch of consumers that start from now on; 0 is no limit.
    pub prefetch: u16,
    /// Prefetch of all consumers together; 0 is no limit.
    pub channel_prefetch: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitingHeader,
    Starting,
    Authenticating {
        mechanism: Mechanism,
    },
    Tuning,
    AwaitingOpen,
    Opening,
    Running,
    /// The client said close; the shell cleans up.
    ClosingByClient,
    /// The server said close.
    AwaitingCloseOk,
    /// Whatever is read is discarded.
    Ended,
}

#[derive(Debug)]
enum Slot {
    Free,
    Open(Box<Channel>),
    /// The client said close; `close-ok` is written when the shell is done.
    ClosingByClient,
    /// The server said close: everything is ignored until `close-ok`.
    AwaitingCloseOk {
        /// The client said close at the same time, and may take our `close-ok` for the end of it.
        client_closed: bool,
    },
}

#[derive(Debug)]
enum Item {
    Action(Action),
    ChannelCloseOk(ChannelNumber),
}

/// Settlements that may still grow by the next frame.
#[derive(Debug)]
struct Settling {
    channel: ChannelNumber,
    outcome: Settlement,
    deliveries: Vec<DeliveryRef>,
}

/// The server's end of one connection, without its socket.
///
/// The shell reads into a buffer and calls [`Self::next`] until it gives `None`, carries out each [`Action`], and
/// writes what was appended to `out`. After any other call that may close a channel or the connection it calls `next`
/// again, also without new input.
#[derive(Debug)]
pub struct Connection {
    config: Arc<ConnectionConfig>,
    phase: Phase,
    limits: Limits,
    heartbeat: Heartbeat,
    user: String,
    vhost: String,
    client_properties: FieldTable,
    blocked: bool,
    /// By channel number; as long as the highest number used so far.
    channels: Vec<Slot>,
    /// Slots that are not free.
    occupied: usize,
    openings: u32,
    items: VecDeque<Item>,
    settling: Option<Settling>,
    /// The channel whose request is not answered.
    awaiting: Option<ChannelNumber>,
    /// The channel and opening that asked last.
    last_asked: (ChannelNumber, u32),
    handed_over: Vec<HandedOver>,
}

impl Connection {
    /// A connection that waits for the protocol header.
    #[must_use]
    pub fn new(config: Arc<ConnectionConfig>) -> Self {
        Self {
            config,
            phase: Phase::AwaitingHeader,
            limits: Limits { channel_max: 0, frame_max: INITIAL_FRAME_MAX, heartbeat_s: 0 },
            heartbeat: Heartbeat::new(0),
            user: String::new(),
            vhost: String::new(),
            client_properties: FieldTable::default(),
            blocked: false,
            channels: Vec::new(),
            occupied: 0,
            openings: 0,
            items: VecDeque::new(),
            settling: None,
            awaiting: None,
            last_asked: (ChannelNumber(0), 0),
            handed_over: Vec::new(),
        }
    }

    /// Takes frames off the front of `input` until something must be done outside, or until no whole frame is left
    /// (`None`). What the protocol itself answers is appended to `out`. While an answer is owed by the shell nothing
    /// more is read.
    pub fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Option<Action> {
        loop {
            match self.items.pop_front() {
                Some(Item::Action(action)) => return Some(action),
                Some(Item::ChannelCloseOk(number)) => {
                    self.finish_channel_close(number, out);
                    continue;
                }
                None => {}
            }
            if let Some(settling) = &self.settling
                && (settling.deliveries.len() >= SETTLE_MAX
                    || !frame::next_is_settle(input, settling.channel))
            {
                self.flush_settling();
                continue;
            }
            match self.phase {
                Phase::AwaitingHeader => {
                    if !self.on_protocol_header(input, out) {
                        return None;
                    }
                    continue;
                }
                Phase::Authenticating { .. } | Phase::Opening | Phase::ClosingByClient => return None,
                Phase::Ended => {
                    input.clear();
                    return None;
                }
                Phase::Running if self.awaiting.is_some() => return None,
                Phase::Starting
                | Phase::Tuning
                | Phase::AwaitingOpen
                | Phase::Running
                | Phase::AwaitingCloseOk => {}
            }
            let action = match next_frame(input, self.limits.frame_max_or_all()) {
                Ok(None) => return None,
                Ok(Some(frame)) => self.on_frame(frame, out),
                Err(error) => {
                    self.on_frame_error(&error, out);
                    None
                }
            };
            if let Some(action) = action {
                if let Action::Request { channel, opening, .. } = &action {
                    self.awaiting = Some(*channel);
                    self.last_asked = (*channel, *opening);
                }
                // Nothing is queued while frames are read.
                debug_assert!(self.items.is_empty());
                return Some(action);
            }
        }
    }

    /// Queues an action behind the settlements that were read before it.
    fn push(&mut self, action: Action) {
        self.flush_settling();
        self.items.push_back(Item::Action(action));
    }

    fn flush_settling(&mut self) {
        if let Some(Settling { channel, outcome, deliveries }) = self.settling.take()
            && !deliveries.is_empty()
        {
            self.items.push_back(Item::Action(Action::Settle { channel, outcome, deliveries }));
        }
    }

    fn on_frame_error(&mut self, error: &FrameError, out: &mut BytesMut) {
        let told = self.phase == Phase::Running;
        if told {
            self.fail_connection(Fault { error: error.error(), id: MethodId::NONE }, out);
        } else if self.phase != Phase::AwaitingCloseOk {
            self.end_silently();
        }
        if error.loses_framing() {
            self.phase = Phase::Ended;
        }
    }

    fn on_frame(&mut self, frame: Frame, out: &mut BytesMut) -> Option<Action> {
        if self.phase == Phase::AwaitingCloseOk {
            self.discard(&frame, out);
            return None;
        }
        match frame {
            Frame::Heartbeat => None,
            Frame::Method(ChannelNumber(0), payload) => self.on_connection_method(&payload, out),
            Frame::Method(number, payload) => self.on_channel_method(number, &payload, out),
            Frame::Header(number, payload) => {
                self.on_content(number, out, |channel, context| channel.on_header(&payload, context))
            }
            Frame::Body(number, payload) => {
                self.on_content(number, out, |channel, context| channel.on_body(payload, context))
            }
        }
    }

    /// After the server's close only the client's matters.
    fn discard(&mut self, frame: &Frame, out: &mut BytesMut) {
        let Frame::Method(ChannelNumber(0), payload) = frame else { return };
        match method_id(payload) {
            Some(MethodId { class: 10, method: 50 }) => self.write_close_ok(out),
            Some(MethodId { class: 10, method: 51 }) => self.end(Ending::Done),
            Some(_) | None => {}
        }
    }

    /// Decodes a method; what is not one closes the connection, or ends it silently before the client is known.
    fn decode(&mut self, payload: &Bytes, out: &mut BytesMut) -> Option<Method> {
        match decode_method(payload) {
            Ok(method) => Some(method),
            Err(error) => {
                let fault = Fault { error: error.error(), id: error.id() };
                match self.phase {
                    Phase::Running => self.fail_connection(fault, out),
                    Phase::AwaitingHeader
                    | Phase::Starting
                    | Phase::Authenticating { .. }
                    | Phase::Tuning
                    | Phase::AwaitingOpen
                    | Phase::Opening
                    | Phase::ClosingByClient
                    | Phase::AwaitingCloseOk
                    | Phase::Ended => self.end_silently(),
                }
                None
            }
        }
    }

    fn on_connection_method(&mut self, payload: &Bytes, out: &mut BytesMut) -> Option<Action> {
        use connection::AMQPMethod as M;
        let id = method_id(payload).unwrap_or(MethodId::NONE);
        match (self.phase, self.decode(payload, out)?) {
            (Phase::Starting, Method::Other(AMQPClass::Connection(M::StartOk(start_ok)))) => {
                self.on_start_ok(start_ok)
            }
            (Phase::Tuning, Method::Other(AMQPClass::Connection(M::TuneOk(tune_ok)))) => {
                self.on_tune_ok(&tune_ok, out);
                None
            }
            (Phase::AwaitingOpen, Method::Other(AMQPClass::Connection(M::Open(open)))) => {
                Some(self.on_open(open))
            }
            (
                Phase::Tuning | Phase::AwaitingOpen | Phase::Running,
                Method::Other(AMQPClass::Connection(M::Close(_))),
            ) => {
                self.on_connection_close();
                None
            }
            (Phase::Running, Method::Other(AMQPClass::Connection(M::UpdateSecret(update)))) => {
                let request = Request::UpdateSecret(UpdateSecret {
                    secret: update.new_secret.as_bytes().to_vec(),
                    reason: update.reason.into(),
                });
                Some(Action::Request { channel: ChannelNumber(0), opening: 0, request })
            }
            (Phase::Running, _) => {
                let state = if self.blocked { "blocked" } else { "running" };
                let text = format!("unexpected method in connection state {state}");
                self.fail_connection(Fault::new(ReplyCode::ChannelError, text, id), out);
                None
            }
            (
                Phase::AwaitingHeader
                | Phase::Starting
                | Phase::Authenticating { .. }
                | Phase::Tuning
                | Phase::AwaitingOpen
                | Phase::Opening
                | Phase::ClosingByClient
                | Phase::AwaitingCloseOk
                | Phase::Ended,
                _,
            ) => {
                self.end_silently();
                None
            }
        }
    }

    fn on_channel_method(
        &mut self,
        number: ChannelNumber,
        payload: &Bytes,
        out: &mut BytesMut,
    ) -> Option<Action> {
        if self.phase != Phase::Running {
            self.end_silently();
            return None;
        }
        let frame_max = self.limits.frame_max_or_all();
        let Some(Slot::Open(channel)) = self.channels.get_mut(usize::from(number.0)) else {
            self.on_method_without_channel(number, payload, out);
            return None;
        };
        if let Err(cause) = channel.incoming.check_method() {
            self.fail(number, Fault { error: cause.error(), id: cause.id() }, out);
            return None;
        }
        let decoded = match decode_method(payload) {
            Ok(method) => method,
            Err(error) => {
                self.fail_connection(Fault { error: error.error(), id: error.id() }, out);
                return None;
            }
        };
        let mut context =
            Context { out, handed_over: &mut self.handed_over, config: &self.config, frame_max };
        let outcome = match decoded {
            Method::Publish(publish) => channel.on_publish(publish).map(|()| None),
            Method::Qos { size, count, global } => {
                channel.on_qos(size, count, global, &mut context).map(|()| None)
            }
            Method::Ack { tag, multiple } => {
                let scope = AckScope::from_wire(tag, multiple);
                self.on_settle(
                    number,
                    Settle { id: MethodId::new(60, 80), scope, outcome: Settlement::Ack },
                    out,
                );
                return None;
            }
            Method::Nack { tag, multiple, requeue } => {
                let scope = AckScope::from_wire(tag, multiple);
                let outcome =
                    if requeue { Settlement::Requeue { failed: false } } else { Settlement::Reject };
                self.on_settle(number, Settle { id: MethodId::new(60, 120), scope, outcome }, out);
                return None;
            }
            Method::Reject { tag, requeue } => {
                let scope = AckScope::from_wire(tag, false);
                let outcome = if requeue { Settlement::Requeue { failed: true } } else { Settlement::Reject };
                self.on_settle(number, Settle { id: MethodId::new(60, 90), scope, outcome }, out);
                return None;
            }
            Method::Other(AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                let text = "second 'channel.open' seen";
                Err(Fault::new(ReplyCode::ChannelError, text, MethodId::new(20, 10)))
            }
            Method::Other(AMQPClass::Channel(channel::AMQPMethod::Close(_))) => {
                self.on_channel_close(number);
                return None;
            }
            Method::Other(method) => channel.on_method(method, &mut context),
        };
        outcome.unwrap_or_else(|fault| {
            self.fail(number, fault, out);
            None
        })
    }

    /// Settles on a channel, together with what the frames just before settled in the same way.
    fn on_settle(&mut self, number: ChannelNumber, settle: Settle, out: &mut BytesMut) {
        if self
            .settling
            .as_ref()
            .is_some_and(|settling| settling.channel != number || settling.outcome != settle.outcome)
        {
            self.flush_settling();
        }
        let frame_max = self.limits.frame_max_or_all();
        let Some(Slot::Open(channel)) = self.channels.get_mut(usize::from(number.0)) else { return };
        let settling = self.settling.get_or_insert_with(|| Settling {
            channel: number,
            outcome: settle.outcome,
            deliveries: Vec::new(),
        });
        let mut context =
            Context { out, handed_over: &mut self.handed_over, config: &self.config, frame_max };
        if let Err(fault) = channel.on_settle(settle, &mut settling.deliveries, &mut context) {
            self.fail(number, fault, out);
        }
    }

    fn on_content(
        &mut self,
        number: ChannelNumber,
        out: &mut BytesMut,
        act: impl FnOnce(&mut Channel, &Context<'_>) -> Result<Option<Action>, Fault>,
    ) -> Option<Action> {
        if self.phase != Phase::Running {
            self.end_silently();
            return None;
        }
        let frame_max = self.limits.frame_max_or_all();
        let outcome = match self.channels.get_mut(usize::from(number.0)) {
            Some(Slot::Open(channel)) => {
                let context =
                    Context { out, handed_over: &mut self.handed_over, config: &self.config, frame_max };
                act(channel, &context)
            }
            // In flight when the server closed the channel.
            Some(Slot::AwaitingCloseOk { .. }) => return None,
            Some(Slot::Free | Slot::ClosingByClient) | None => {
                let cause = crate::content::ContentError::NoMethod;
                Err(Fault { error: cause.error(), id: cause.id() })
            }
        };
        match outcome {
            Ok(action) => action,
            Err(fault) => {
                self.fail(number, fault, out);
                None
            }
        }
    }

    /// A method on a channel that is not open: only opening it makes sense, or ending a close.
    fn on_method_without_channel(&mut self, number: ChannelNumber, payload: &Bytes, out: &mut BytesMut) {
        const OPEN: MethodId = MethodId::new(20, 10);
        const CLOSE: MethodId = MethodId::new(20, 40);
        const CLOSE_OK: MethodId = MethodId::new(20, 41);
        let id = method_id(payload);
        let slot = self.channels.get_mut(usize::from(number.0));
        if let Some(Slot::AwaitingCloseOk { client_closed }) = slot {
            if id == Some(CLOSE_OK) {
                self.free(number);
                return;
            }
            if id == Some(CLOSE) {
                *client_closed = true;
                let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                frame::method(number, AMQPClass::Channel(ok), out);
                return;
            }
            if !(id == Some(OPEN) && *client_closed) {
                return;
            }
            self.free(number);
        }
        match self.decode(payload, out) {
            None => {}
            Some(Method::Other(AMQPClass::Channel(channel::AMQPMethod::Open(_)))) => {
                self.open_channel(number, out);
            }
            Some(_) => {
                let id = id.unwrap_or(MethodId::NONE);
                let text = "expected 'channel.open'";
                self.fail_connection(Fault::new(ReplyCode::ChannelError, text, id), out);
            }
        }
    }

    fn open_channel(&mut self, number: ChannelNumber, out: &mut BytesMut) {
        let limit = usize::from(self.limits.channel_max);
        if limit != 0 && self.occupied >= limit {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({limit})",
                self.occupied
            );
            self.fail_connection(Fault::new(ReplyCode::NotAllowed, text, MethodId::NONE), out);
            return;
        }
        let index = usize::from(number.0);
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || Slot::Free);
        }
        self.openings = self.openings.wrapping_add(1);
        if let Some(slot) = self.channels.get_mut(index) {
            *slot = Slot::Open(Box::new(Channel::new(number, self.openings)));
            self.occupied += 1;
        }
        let ok = channel::AMQPMethod::OpenOk(channel::OpenOk {});
        frame::method(number, AMQPClass::Channel(ok), out);
    }

    /// Where the connection is in its life.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        match self.phase {
            Phase::AwaitingHeader | Phase::Starting | Phase::Authenticating { .. } => {
                ConnectionState::Starting
            }
            Phase::Tuning => ConnectionState::Tuning,
            Phase::AwaitingOpen | Phase::Opening => ConnectionState::Opening,
            Phase::Running if self.blocked => ConnectionState::Blocked,
            Phase::Running => ConnectionState::Running,
            Phase::ClosingByClient | Phase::AwaitingCloseOk => ConnectionState::Closing,
            Phase::Ended => ConnectionState::Closed,
        }
    }

    /// The user's name, once known; empty before.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The virtual host, once asked for; empty before.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// What the client said about itself.
    #[must_use]
    pub fn client_properties(&self) -> &FieldTable {
        &self.client_properties
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The open channels, by number.
    pub fn channels(&self) -> impl Iterator<Item = ChannelInfo> {
        self.channels.iter().filter_map(|slot| match slot {
            Slot::Open(channel) => Some(channel.info()),
            Slot::Free | Slot::ClosingByClient | Slot::AwaitingCloseOk { .. } => None,
        })
    }
}
