//! Spine 3: what each frame means for the connection: its own methods, a channel's, content, or a mistake. Knows no
//! queue and no handshake detail.
//! Before: `connection::next`. After: `channel`.

use amq_protocol::protocol::{AMQPClass, channel, connection};
use bytes::{Bytes, BytesMut};
use warren_types::{ChannelNumber, ReplyCode};

use super::handshake::SILENT_CLOSE_MS;
use super::{Connection, Held, Phase, Settling, Slot};
use crate::action::{Action, Ending, Settlement};
use crate::channel::{AckScope, Channel, Context, Settle};
use crate::content::ContentError;
use crate::error::{Fault, MethodId};
use crate::frame::{
    self, Frame, FrameError, KIND_BODY, KIND_HEADER, KIND_METHOD, Method, decode_method, describe_octets,
    method_id,
};
use crate::request::{Request, UpdateSecret};

const OPEN: MethodId = MethodId::new(20, 10);
const CLOSE: MethodId = MethodId::new(20, 40);
const CLOSE_OK: MethodId = MethodId::new(20, 41);
const ACK: MethodId = MethodId::new(60, 80);
const REJECT: MethodId = MethodId::new(60, 90);
const NACK: MethodId = MethodId::new(60, 120);

fn channel_of(channels: &mut [Slot], number: ChannelNumber) -> Option<&mut Channel> {
    match channels.get_mut(usize::from(number.0)) {
        Some(Slot::Open(channel)) => Some(channel),
        Some(Slot::Free | Slot::ClosingByClient | Slot::AwaitingCloseOk { .. }) | None => None,
    }
}

impl Connection {
    /// Whether the client hears of its mistakes: once it is known and limits are agreed.
    fn is_told(&self) -> bool {
        match self.phase {
            Phase::AwaitingOpen | Phase::Opening | Phase::Running => true,
            Phase::AwaitingHeader
            | Phase::Starting
            | Phase::Authenticating { .. }
            | Phase::Tuning
            | Phase::ClosingByClient
            | Phase::AwaitingCloseOk
            | Phase::Ended => false,
        }
    }

    /// A frame on a channel before there are any.
    fn on_early_frame(&mut self, kind: u8, payload: &[u8], out: &mut BytesMut) {
        let error = FrameError::Unexpected { kind, octets: describe_octets(payload) };
        self.on_frame_error(&error, out);
    }

    pub(super) fn on_frame_error(&mut self, error: &FrameError, out: &mut BytesMut) {
        if self.is_told() {
            let fault = Fault { error: error.error(), id: MethodId::NONE };
            // Without frames no close-ok can be seen: the client gets some time to read why.
            let ending = if error.loses_framing() {
                Ending::Silent { delay_ms: SILENT_CLOSE_MS }
            } else {
                Ending::ByServer
            };
            self.fail_connection_as(fault, ending, out);
        } else if self.phase != Phase::AwaitingCloseOk {
            self.end_silently();
        }
        if error.loses_framing() {
            self.phase = Phase::Ended;
        }
    }

    pub(super) fn on_frame(&mut self, frame: Frame, out: &mut BytesMut) -> Option<Action> {
        if self.phase == Phase::AwaitingCloseOk {
            self.discard(&frame, out);
            return None;
        }
        match frame {
            Frame::Heartbeat => None,
            Frame::Method(ChannelNumber(0), payload) => self.on_connection_method(&payload, out),
            Frame::Method(number, payload) => self.on_channel_method(number, &payload, out),
            Frame::Header(_, payload) if self.phase != Phase::Running => {
                self.on_early_frame(KIND_HEADER, &payload, out);
                None
            }
            Frame::Body(_, payload) if self.phase != Phase::Running => {
                self.on_early_frame(KIND_BODY, &payload, out);
                None
            }
            Frame::Header(number, payload) => {
                self.content_came = true;
                self.on_content(number, out, |channel, context| channel.on_header(&payload, context))
            }
            Frame::Body(number, payload) => {
                self.content_came = true;
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
    fn decode(&mut self, number: ChannelNumber, payload: &Bytes, out: &mut BytesMut) -> Option<Method> {
        match decode_method(payload) {
            Ok(method) => Some(method),
            Err(error) if self.is_told() => {
                // RabbitMQ blames no method of a channel for a name that is no text.
                let id = if number.0 != 0 && error.is_not_utf8() { MethodId::NONE } else { error.id() };
                self.fail_connection(Fault { error: error.error(), id }, out);
                None
            }
            Err(_) => {
                self.end_silently();
                None
            }
        }
    }

    fn on_connection_method(&mut self, payload: &Bytes, out: &mut BytesMut) -> Option<Action> {
        use connection::AMQPMethod as M;
        let id = method_id(payload).unwrap_or(MethodId::NONE);
        match (self.phase, self.decode(ChannelNumber(0), payload, out)?) {
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
            (Phase::Tuning | Phase::Running, Method::Other(AMQPClass::Connection(M::Close(_)))) => {
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
            (phase @ (Phase::AwaitingOpen | Phase::Opening | Phase::Running), _) => {
                let state = match (phase == Phase::Running, self.blocked) {
                    (false, _) => "opening",
                    (true, true) => "blocked",
                    (true, false) => "running",
                };
                let text = format!("unexpected method in connection state {state}");
                self.fail_connection(Fault::new(ReplyCode::ChannelError, text, id), out);
                None
            }
            (
                Phase::AwaitingHeader
                | Phase::Starting
                | Phase::Authenticating { .. }
                | Phase::Tuning
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
            self.on_early_frame(KIND_METHOD, payload, out);
            return None;
        }
        let Some(Slot::Open(channel)) = self.channels.get_mut(usize::from(number.0)) else {
            self.on_method_without_channel(number, payload, out);
            return None;
        };
        if let Err(cause) = channel.incoming.check_method() {
            self.fail_in_turn(number, Fault { error: cause.error(), id: cause.id() }, out);
            return None;
        }
        let outcome = match self.decode(number, payload, out)? {
            Method::Publish(publish) => {
                channel_of(&mut self.channels, number)?.on_publish(publish).map(|()| None)
            }
            Method::Ack { tag, multiple } => {
                let scope = AckScope::from_wire(tag, multiple);
                self.on_settle(number, Settle { id: ACK, scope, outcome: Settlement::Ack }, out);
                return None;
            }
            Method::Nack { tag, multiple, requeue } => {
                let scope = AckScope::from_wire(tag, multiple);
                let outcome =
                    if requeue { Settlement::Requeue { failed: false } } else { Settlement::Reject };
                self.on_settle(number, Settle { id: NACK, scope, outcome }, out);
                return None;
            }
            Method::Reject { tag, requeue } => {
                let scope = AckScope::from_wire(tag, false);
                let outcome = if requeue { Settlement::Requeue { failed: true } } else { Settlement::Reject };
                self.on_settle(number, Settle { id: REJECT, scope, outcome }, out);
                return None;
            }
            Method::Qos { size, count, global } => {
                let (channels, mut context) = self.split(out);
                channel_of(channels, number)?.on_qos(size, count, global, &mut context)
            }
            Method::Other(AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                Err(Fault::new(ReplyCode::ChannelError, "second 'channel.open' seen", OPEN))
            }
            Method::Other(AMQPClass::Channel(channel::AMQPMethod::Close(_))) => {
                self.on_channel_close(number);
                return None;
            }
            Method::Other(method) => {
                let (channels, mut context) = self.split(out);
                channel_of(channels, number)?.on_method(method, &mut context)
            }
        };
        self.act_or_fail(number, outcome, out)
    }

    fn act_or_fail(
        &mut self,
        number: ChannelNumber,
        outcome: Result<Option<Action>, Fault>,
        out: &mut BytesMut,
    ) -> Option<Action> {
        outcome.unwrap_or_else(|fault| {
            self.fail_in_turn(number, fault, out);
            None
        })
    }

    /// Settles on a channel, together with what the frames just before settled in the same way.
    fn on_settle(&mut self, number: ChannelNumber, settle: Settle, out: &mut BytesMut) {
        let outcome = settle.outcome;
        let mut settling = match self.settling.take() {
            Some(settling) if settling.channel == number && settling.outcome == outcome => settling,
            other => {
                self.settling = other;
                self.flush_settling();
                Settling { channel: number, outcome, deliveries: Vec::new() }
            }
        };
        let (channels, mut context) = self.split(out);
        let Some(channel) = channel_of(channels, number) else { return };
        let settled = channel.on_settle(settle, &mut settling.deliveries, &mut context);
        self.settling = Some(settling);
        if let Err(fault) = settled {
            self.fail_in_turn(number, fault, out);
        }
    }

    /// Closes what the fault closes, unless a publish before it does so first: that is known once it is routed.
    fn fail_in_turn(&mut self, number: ChannelNumber, fault: Fault, out: &mut BytesMut) {
        match self.channels.get(usize::from(number.0)) {
            Some(Slot::Open(channel)) if self.published => {
                self.held = Some(Held::Fault { number, opening: channel.opening(), fault });
            }
            Some(_) | None => self.fail(number, fault, out),
        }
    }

    fn on_content(
        &mut self,
        number: ChannelNumber,
        out: &mut BytesMut,
        act: impl FnOnce(&mut Channel, &mut Context<'_>) -> Result<Option<Action>, Fault>,
    ) -> Option<Action> {
        let (channels, mut context) = self.split(out);
        let outcome = match channels.get_mut(usize::from(number.0)) {
            Some(Slot::Open(channel)) => act(channel, &mut context),
            // In flight when the server closed the channel.
            Some(Slot::AwaitingCloseOk { .. }) => return None,
            Some(Slot::Free | Slot::ClosingByClient) | None => {
                let cause = ContentError::NoMethod;
                self.fail_connection(Fault { error: cause.error(), id: cause.id() }, out);
                return None;
            }
        };
        self.act_or_fail(number, outcome, out)
    }

    /// A method on a channel that is not open: only opening it makes sense, or ending a close.
    fn on_method_without_channel(&mut self, number: ChannelNumber, payload: &Bytes, out: &mut BytesMut) {
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
            if id != Some(OPEN) {
                return;
            }
            if !*client_closed {
                let text = "second 'channel.open' seen";
                self.fail_connection(Fault::new(ReplyCode::ChannelError, text, OPEN), out);
                return;
            }
            self.free(number);
        }
        match self.decode(number, payload, out) {
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
        if let Some(quota) = self.quota
            && quota.elsewhere.saturating_add(self.occupied as u64) >= quota.limit
        {
            let text = format!(
                "number of channels opened for user '{}' has reached the maximum allowed user limit of ({})",
                self.user, quota.limit
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
}
