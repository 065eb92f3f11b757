//! Spine 15: frames into the write buffer. What every message passes is written by hand, the rest by `amq-protocol`.
//! Knows no state: the caller says channel, tag and frame size.
//! Before: `channel/deliver.rs`. After: the shell's write.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::AMQPClass;
use bytes::{BufMut, BytesMut};
use warren_types::{ChannelNumber, DeliveryTag, Message, ReplyCode, ShortStr};

use super::limits::{FRAME_END, FRAME_OVERHEAD, KIND_BODY, KIND_HEADER, KIND_HEARTBEAT, KIND_METHOD};
use crate::properties;

const BASIC: u16 = 60;

/// How content is cut into frames, and what is added to its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// The message.
    pub message: &'a Message,
    /// Largest frame, its eight bytes of overhead included.
    pub frame_max: u32,
    /// What its headers tell of earlier deliveries.
    pub counts: DeliveryCounts,
}

/// How often a message came back. What is 0 is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// At all: the header `x-acquired-count`.
    pub acquired: u32,
    /// As failed: the header `x-delivery-count`.
    pub failed: u32,
}

/// Appends any method as `amq-protocol` has it. Its short strings are at most 255 bytes by their type.
pub fn method(channel: ChannelNumber, method: AMQPClass, out: &mut BytesMut) {
    let frame = AMQPFrame::Method(channel.0, method);
    match gen_frame(&frame)(WriteContext::from(Vec::with_capacity(64))) {
        Ok(context) => out.extend_from_slice(&context.write),
        // Writing to memory does not fail.
        Err(error) => debug_assert!(false, "a method cannot be written: {error}"),
    }
}

/// Appends a heartbeat.
pub fn heartbeat(out: &mut BytesMut) {
    out.extend_from_slice(&[KIND_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Appends `basic.ack`.
pub fn ack(channel: ChannelNumber, tag: u64, multiple: bool, out: &mut BytesMut) {
    settle(channel, 80, tag, u8::from(multiple), out);
}

/// Appends `basic.nack`.
pub fn nack(channel: ChannelNumber, tag: u64, multiple: bool, requeue: bool, out: &mut BytesMut) {
    settle(channel, 120, tag, u8::from(multiple) | u8::from(requeue) << 1, out);
}

/// Appends `basic.reject`.
pub fn reject(channel: ChannelNumber, tag: u64, requeue: bool, out: &mut BytesMut) {
    settle(channel, 90, tag, u8::from(requeue), out);
}

fn settle(channel: ChannelNumber, method: u16, tag: u64, bits: u8, out: &mut BytesMut) {
    let [c1, c0] = channel.0.to_be_bytes();
    let [m1, m0] = method.to_be_bytes();
    let [t7, t6, t5, t4, t3, t2, t1, t0] = tag.to_be_bytes();
    out.extend_from_slice(&[
        KIND_METHOD,
        c1,
        c0,
        0,
        0,
        0,
        13,
        0,
        60,
        m1,
        m0,
        t7,
        t6,
        t5,
        t4,
        t3,
        t2,
        t1,
        t0,
        bits,
        FRAME_END,
    ]);
}

/// Appends `basic.publish` and its content.
pub fn publish(
    channel: ChannelNumber,
    mandatory: bool,
    message: &Message,
    frame_max: u32,
    out: &mut BytesMut,
) {
    let size = 2 + names_size(message) + 1;
    method_head(channel, 40, size, out);
    out.put_u16(0);
    names(message, out);
    out.put_slice(&[u8::from(mandatory), FRAME_END]);
    content(channel, Content { message, frame_max, counts: DeliveryCounts::default() }, out);
}

/// Appends `basic.deliver` and its content.
pub fn deliver(
    channel: ChannelNumber,
    consumer_tag: &ShortStr,
    tag: DeliveryTag,
    redelivered: bool,
    delivery: Content<'_>,
    out: &mut BytesMut,
) {
    let message = delivery.message;
    let size = 1 + consumer_tag.len() + 9 + names_size(message);
    out.reserve(size + message.properties.len() + message.body.len() + 64);
    method_head(channel, 60, size, out);
    short_string(consumer_tag.bytes(), out);
    out.put_u64(tag.0);
    out.put_u8(u8::from(redelivered));
    names(message, out);
    out.put_u8(FRAME_END);
    content(channel, delivery, out);
}

/// Appends `basic.get-ok` and its content.
pub fn get_ok(
    channel: ChannelNumber,
    tag: DeliveryTag,
    redelivered: bool,
    remaining: u32,
    delivery: Content<'_>,
    out: &mut BytesMut,
) {
    let message = delivery.message;
    method_head(channel, 71, 9 + names_size(message) + 4, out);
    out.put_u64(tag.0);
    out.put_u8(u8::from(redelivered));
    names(message, out);
    out.put_u32(remaining);
    out.put_u8(FRAME_END);
    content(channel, delivery, out);
}

/// Appends `basic.return` and its content. The text is the code's bare name, as RabbitMQ sends it.
pub fn returned(
    channel: ChannelNumber,
    code: ReplyCode,
    message: &Message,
    frame_max: u32,
    out: &mut BytesMut,
) {
    let text = code.name();
    method_head(channel, 50, 2 + 1 + text.len() + names_size(message), out);
    out.put_u16(code.code());
    short_string(text.as_bytes(), out);
    names(message, out);
    out.put_u8(FRAME_END);
    content(channel, Content { message, frame_max, counts: DeliveryCounts::default() }, out);
}

/// Appends a content header and the body in as many frames as it takes; none for an empty body.
pub fn content(channel: ChannelNumber, content: Content<'_>, out: &mut BytesMut) {
    let Content { message, frame_max, counts } = content;
    let counted;
    let mut properties: &[u8] = &message.properties;
    if counts != DeliveryCounts::default() {
        counted = properties::with_counts(properties, counts);
        properties = &counted;
    }
    if properties.len() < 2 {
        // A message that was made without any: no flags.
        properties = &[0, 0];
    }
    head(KIND_HEADER, channel, 12 + properties.len(), out);
    out.put_u16(BASIC);
    out.put_u16(0);
    out.put_u64(message.body.len() as u64);
    out.put_slice(properties);
    out.put_u8(FRAME_END);
    body_frames(channel, &message.body, frame_max, out);
}

/// Appends a body in as many frames as it takes; none for an empty one.
pub fn body_frames(channel: ChannelNumber, body: &[u8], frame_max: u32, out: &mut BytesMut) {
    let payload_max = frame_max.saturating_sub(FRAME_OVERHEAD).max(1) as usize;
    for piece in body.chunks(payload_max) {
        head(KIND_BODY, channel, piece.len(), out);
        out.put_slice(piece);
        out.put_u8(FRAME_END);
    }
}

fn head(kind: u8, channel: ChannelNumber, size: usize, out: &mut BytesMut) {
    let [c1, c0] = channel.0.to_be_bytes();
    let [s3, s2, s1, s0] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    out.put_slice(&[kind, c1, c0, s3, s2, s1, s0]);
}

/// The head of a basic method's frame; `arguments` is the size of what follows up to the end octet.
fn method_head(channel: ChannelNumber, method: u16, arguments: usize, out: &mut BytesMut) {
    head(KIND_METHOD, channel, 4 + arguments, out);
    out.put_u16(BASIC);
    out.put_u16(method);
}

fn names_size(message: &Message) -> usize {
    2 + message.exchange.len() + message.routing_key.len()
}

fn names(message: &Message, out: &mut BytesMut) {
    short_string(message.exchange.bytes(), out);
    short_string(message.routing_key.bytes(), out);
}

/// Short strings are at most 255 bytes by their type; reply texts are constants.
fn short_string(bytes: &[u8], out: &mut BytesMut) {
    out.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.put_slice(bytes.get(..255).unwrap_or(bytes));
}
