//! The client's end of the codec, for load generators and tests: methods out, frames in. Knows no state but the
//! content that is under way on each channel; what to send when is the caller's.

pub mod calls;

use std::collections::BTreeMap;

use amq_protocol::protocol::AMQPClass;
use bytes::BytesMut;
use warren_types::{ChannelNumber, Message, ShortStr};

use crate::content::{Complete, Incoming};
pub use crate::frame::PROTOCOL_HEADER;
use crate::frame::{self, Frame, Method, ServerContent, ServerContentKind, decode_method, next_frame};

pub use crate::frame::{
    ack as encode_ack, heartbeat as encode_heartbeat, method as encode_method, nack as encode_nack,
    publish as encode_publish, reject as encode_reject,
};

/// Something that a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame {
    /// `basic.deliver`.
    Deliver {
        /// The channel.
        channel: ChannelNumber,
        /// The consumer.
        consumer_tag: ShortStr,
        /// The delivery tag.
        tag: u64,
        /// It was handed out before.
        redelivered: bool,
        /// The message.
        message: Message,
    },
    /// `basic.return`.
    Return {
        /// The channel.
        channel: ChannelNumber,
        /// Why, as a number.
        code: u16,
        /// Why, as text.
        text: ShortStr,
        /// The message.
        message: Message,
    },
    /// `basic.get-ok`.
    GetOk {
        /// The channel.
        channel: ChannelNumber,
        /// The delivery tag.
        tag: u64,
        /// It was handed out before.
        redelivered: bool,
        /// Messages still ready.
        remaining: u32,
        /// The message.
        message: Message,
    },
    /// `basic.ack`: a confirm.
    Ack {
        /// The channel.
        channel: ChannelNumber,
        /// The publish's number.
        tag: u64,
        /// Everything up to it.
        multiple: bool,
    },
    /// `basic.nack`: a publish that failed.
    Nack {
        /// The channel.
        channel: ChannelNumber,
        /// The publish's number.
        tag: u64,
        /// Everything up to it.
        multiple: bool,
    },
    /// A heartbeat.
    Heartbeat,
    /// The protocol header: the server speaks another version.
    ProtocolHeader([u8; 8]),
    /// Any other method.
    Method(ChannelNumber, AMQPClass),
}

/// Bytes from a server that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent {0}")]
pub struct ClientError(String);

/// Turns what a server sends into frames; content is put together.
#[derive(Debug, Default)]
pub struct Decoder {
    incoming: BTreeMap<u16, Incoming<ServerContent>>,
    frame_max: Option<u32>,
}

impl Decoder {
    /// A decoder that takes frames of any size until [`Self::set_frame_max`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses larger frames from now on.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = Some(frame_max);
    }

    /// Takes frames off the front of `input` until one is complete that says something; `None` when more is needed.
    ///
    /// # Errors
    /// [`ClientError`] when the bytes are not what a server may send.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<ServerFrame>, ClientError> {
        if input.starts_with(b"AMQP")
            && let Some(header) = input.first_chunk::<8>().copied()
        {
            input.clear();
            return Ok(Some(ServerFrame::ProtocolHeader(header)));
        }
        loop {
            let frame_max = self.frame_max.unwrap_or(u32::MAX);
            let frame =
                next_frame(input, frame_max).map_err(|error| ClientError(error.error().to_string()))?;
            let (channel, complete) = match frame {
                None => return Ok(None),
                Some(Frame::Heartbeat) => return Ok(Some(ServerFrame::Heartbeat)),
                Some(Frame::Method(channel, payload)) => match frame::decode_server_content(&payload) {
                    None => return decode(channel, &payload).map(Some),
                    Some(Err(error)) => return Err(ClientError(error.to_string())),
                    Some(Ok(method)) => {
                        self.incoming.entry(channel.0).or_default().begin(method);
                        continue;
                    }
                },
                Some(Frame::Header(channel, payload)) => {
                    (channel, self.incoming.entry(channel.0).or_default().on_header(&payload, u64::MAX))
                }
                Some(Frame::Body(channel, payload)) => {
                    (channel, self.incoming.entry(channel.0).or_default().on_body(payload))
                }
            };
            match complete {
                Ok(None) => {}
                Ok(Some(complete)) => return Ok(Some(whole(channel, complete))),
                Err(error) => return Err(ClientError(error.to_string())),
            }
        }
    }
}

fn decode(channel: ChannelNumber, payload: &bytes::Bytes) -> Result<ServerFrame, ClientError> {
    match decode_method(payload) {
        Ok(Method::Ack { tag, multiple }) => Ok(ServerFrame::Ack { channel, tag, multiple }),
        Ok(Method::Nack { tag, multiple, requeue: _ }) => Ok(ServerFrame::Nack { channel, tag, multiple }),
        Ok(Method::Other(method)) => Ok(ServerFrame::Method(channel, method)),
        Ok(Method::Publish(_) | Method::Reject { .. } | Method::Qos { .. }) => {
            Err(ClientError("a method of clients".to_owned()))
        }
        Err(error) => Err(ClientError(error.to_string())),
    }
}

fn whole(channel: ChannelNumber, complete: Complete<ServerContent>) -> ServerFrame {
    let Complete { method: ServerContent { kind, exchange, routing_key }, properties, body } = complete;
    let message = Message { exchange, routing_key, properties, body };
    match kind {
        ServerContentKind::Deliver { consumer_tag, tag, redelivered } => {
            ServerFrame::Deliver { channel, consumer_tag, tag, redelivered, message }
        }
        ServerContentKind::Return { code, text } => ServerFrame::Return { channel, code, text, message },
        ServerContentKind::GetOk { tag, redelivered, remaining } => {
            ServerFrame::GetOk { channel, tag, redelivered, remaining, message }
        }
    }
}
