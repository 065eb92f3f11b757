//! A client and a connection machine in one thread: bytes pass between them, actions are answered by the test.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use warren_amqp::client::{self, Decoder, ServerFrame, calls};
use warren_amqp::methods::{AMQPClass, channel, connection};
use warren_amqp::{Action, Connection, ConnectionConfig, Limits, Publish, Reply, Request};
use warren_types::{
    AckMode, AmqpError, ChannelNumber, DeliveryRef, FieldTable, Message, NodeId, Position, QueueHost,
    QueueId, ShortStr, SubscriptionId,
};

pub const C1: ChannelNumber = ChannelNumber(1);
pub const C2: ChannelNumber = ChannelNumber(2);

pub fn s(text: &str) -> ShortStr {
    ShortStr::try_from(text).unwrap()
}

pub fn message(body: &[u8]) -> Message {
    Message {
        exchange: s("x"),
        routing_key: s("k"),
        properties: Bytes::from_static(&[0, 0]),
        body: Bytes::copy_from_slice(body),
    }
}

/// The delivery at that position of queue 1.
pub fn source(position: u64, subscription: Option<u64>) -> DeliveryRef {
    DeliveryRef {
        host: QueueHost::Node(NodeId(1)),
        queue: QueueId(1),
        position: Position(position),
        subscription: subscription.map(SubscriptionId),
    }
}

pub fn positions(deliveries: &[DeliveryRef]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.position.0).collect()
}

pub struct World {
    pub connection: Connection,
    pub input: BytesMut,
    pub out: BytesMut,
    pub decoder: Decoder,
}

impl World {
    pub fn new(config: ConnectionConfig) -> Self {
        Self {
            connection: Connection::new(Arc::new(config)),
            input: BytesMut::new(),
            out: BytesMut::new(),
            decoder: Decoder::new(),
        }
    }

    /// A connection on which nothing was sent.
    pub fn fresh() -> Self {
        Self::new(ConnectionConfig::default())
    }

    /// A connection that is open, with every capability.
    pub fn open() -> Self {
        Self::open_with(ConnectionConfig::default(), calls::client_properties("test"))
    }

    pub fn open_with(config: ConnectionConfig, properties: FieldTable) -> Self {
        let (channel_max, frame_max) = (config.channel_max, config.frame_max);
        let mut world = Self::new(config);
        world.raw(client::PROTOCOL_HEADER);
        world.send(0, calls::login("guest", "guest", properties));
        let Some(Action::Authenticate { .. }) = world.next() else { panic!("no authentication") };
        world.connection.authenticated(Ok("guest".to_owned()), &mut world.out);
        world.send(0, calls::tune_ok(Limits { channel_max, frame_max, heartbeat_s: 60 }));
        world.send(0, calls::open(&s("/")));
        let Some(Action::OpenVhost { .. }) = world.next() else { panic!("no vhost") };
        world.connection.vhost_opened(Ok(()), &mut world.out);
        assert!(world.next().is_none());
        world.frames();
        world
    }

    /// An open connection with channel 1 open.
    pub fn with_channel() -> Self {
        let mut world = Self::open();
        world.open_channel(1);
        world
    }

    pub fn open_channel(&mut self, number: u16) {
        self.send(number, calls::open_channel());
        assert!(self.next().is_none());
        let frames = self.frames();
        assert_eq!(
            frames,
            [ServerFrame::Method(
                ChannelNumber(number),
                AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
            )]
        );
    }

    /// Channel 1 with a consumer of that number, its tag `c<number>`.
    pub fn consume(&mut self, subscription: u64, ack_mode: AckMode) {
        let tag = format!("c{subscription}");
        self.send(1, calls::consume(&s("q"), &s(&tag), ack_mode));
        let Request::Consume(consume) = self.request() else { panic!("no consume") };
        let reply = Reply::Consumed { tag: consume.tag, subscription: SubscriptionId(subscription) };
        self.connection.reply(C1, Ok(reply), &mut self.out);
        self.frames();
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    pub fn send(&mut self, number: u16, method: AMQPClass) {
        client::encode_method(ChannelNumber(number), method, &mut self.input);
    }

    pub fn publish(&mut self, number: u16, body: &[u8]) {
        client::encode_publish(ChannelNumber(number), false, &message(body), 131_072, &mut self.input);
    }

    pub fn ack(&mut self, tag: u64, multiple: bool) {
        client::encode_ack(C1, tag, multiple, &mut self.input);
    }

    /// As a shell that routes each publish at once.
    pub fn next(&mut self) -> Option<Action> {
        loop {
            match self.connection.next(&mut self.input, &mut self.out) {
                Some(Action::Route) => {}
                other => return other,
            }
        }
    }

    /// Everything until input runs dry or an answer is owed.
    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.next()).collect()
    }

    pub fn request(&mut self) -> Request {
        match self.next() {
            Some(Action::Request { request, .. }) => request,
            other => panic!("no request but {other:?}"),
        }
    }

    /// The bodies of so many publishes of a transaction that the shell is to check.
    pub fn checked(&mut self, count: usize) -> Vec<Bytes> {
        std::iter::repeat_with(|| match self.next() {
            Some(Action::CheckPublish(publish)) => publish.message.body,
            other => panic!("no publish to check but {other:?}"),
        })
        .take(count)
        .collect()
    }

    pub fn publishes(&mut self) -> Vec<Publish> {
        self.actions()
            .into_iter()
            .map(|action| match action {
                Action::Publish(publish) => publish,
                other => panic!("no publish but {other:?}"),
            })
            .collect()
    }

    pub fn reply(&mut self, reply: Result<Reply, AmqpError>) {
        self.connection.reply(C1, reply, &mut self.out);
    }

    pub fn deliver(&mut self, subscription: u64, position: u64) -> warren_amqp::Delivered {
        self.connection.deliver(
            C1,
            SubscriptionId(subscription),
            source(position, Some(subscription)),
            false,
            warren_amqp::frame::DeliveryCounts::default(),
            &message(position.to_string().as_bytes()),
            &mut self.out,
        )
    }

    /// What the server wrote since the last call, as the client sees it.
    pub fn frames(&mut self) -> Vec<ServerFrame> {
        let frames =
            std::iter::from_fn(|| self.decoder.next(&mut self.out).expect("the server writes frames"))
                .collect();
        assert!(self.out.is_empty(), "half a frame was written");
        frames
    }

    /// The deliveries among what was written: (tag, body).
    pub fn delivered(&mut self) -> Vec<(u64, String)> {
        self.frames()
            .into_iter()
            .filter_map(|frame| match frame {
                ServerFrame::Deliver { tag, message, .. } => {
                    Some((tag, String::from_utf8(message.body.to_vec()).unwrap()))
                }
                _ => None,
            })
            .collect()
    }

    /// The close among what was written: 0 for the connection or the channel's number, code, text, class, method.
    pub fn close(&mut self) -> Close {
        let frames = self.frames();
        frames
            .iter()
            .find_map(|frame| match frame {
                ServerFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Close(close))) => {
                    Some(Close {
                        channel: number.0,
                        code: close.reply_code,
                        text: close.reply_text.as_str().to_owned(),
                        blamed: (close.class_id, close.method_id),
                    })
                }
                ServerFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Close(close))) => {
                    Some(Close {
                        channel: 0,
                        code: close.reply_code,
                        text: close.reply_text.as_str().to_owned(),
                        blamed: (close.class_id, close.method_id),
                    })
                }
                _ => None,
            })
            .unwrap_or_else(|| panic!("no close among {frames:?}"))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Close {
    pub channel: u16,
    pub code: u16,
    pub text: String,
    pub blamed: (u16, u16),
}

pub fn close(channel: u16, code: u16, text: &str, blamed: (u16, u16)) -> Close {
    Close { channel, code, text: text.to_owned(), blamed }
}
