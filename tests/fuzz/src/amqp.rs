//! A whole client connection: frames, methods, tables and contents, from the protocol header on.
#![allow(clippy::panic, clippy::expect_used, reason = "a panic is how a failure is told")]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use warren_amqp::client::{self, calls};
use warren_amqp::{Action, Connection, ConnectionConfig, Ending, Limits, Reply, Request};
use warren_types::{AckMode, ChannelNumber, FieldTable, Message, ShortStr, SubscriptionId};

use crate::mutate::Chance;

/// More actions than octets would be work for nothing.
const ACTIONS_PER_OCTET: usize = 4;

fn short(text: &str) -> ShortStr {
    ShortStr::try_from(text).expect("a short name")
}

/// Conversations as a client leads them.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut opening = BytesMut::new();
    opening.extend_from_slice(client::PROTOCOL_HEADER);
    let zero = ChannelNumber(0);
    let limits = Limits { channel_max: 100, frame_max: 8192, heartbeat_s: 60 };
    client::encode_method(
        zero,
        calls::login("guest", "guest", calls::client_properties("fuzz")),
        &mut opening,
    );
    client::encode_method(zero, calls::tune_ok(limits), &mut opening);
    client::encode_method(zero, calls::open(&short("/")), &mut opening);
    let with = |methods: Vec<warren_amqp::methods::AMQPClass>, publishes: usize| {
        let mut out = opening.clone();
        let one = ChannelNumber(1);
        client::encode_method(one, calls::open_channel(), &mut out);
        for method in methods {
            client::encode_method(one, method, &mut out);
        }
        for number in 0..publishes {
            let message = Message {
                exchange: short(""),
                routing_key: short("q"),
                properties: Bytes::from_static(&[0x10, 0, 2]),
                body: Bytes::from(vec![0x61; number * 3000]),
            };
            client::encode_publish(one, false, &message, 8192, &mut out);
        }
        client::encode_method(one, calls::close_channel(), &mut out);
        client::encode_method(zero, calls::close(), &mut out);
        out.to_vec()
    };
    let (queue, exchange, tag) = (short("q"), short("x"), short("c"));
    vec![
        opening.to_vec(),
        with(
            vec![
                calls::declare_exchange(&exchange, &short("topic")),
                calls::declare_queue(&queue, FieldTable::default()),
                calls::bind_queue(&queue, &exchange, &short("a.*.#")),
                calls::delete_queue(&queue),
            ],
            0,
        ),
        with(vec![calls::select_confirms()], 4),
        with(vec![calls::select_transactions()], 2),
        with(
            vec![
                calls::qos(10),
                calls::channel_qos(10),
                calls::consume(&queue, &tag, AckMode::Manual),
                calls::get(&queue, AckMode::Automatic),
                calls::recover(),
                calls::cancel(&tag),
            ],
            1,
        ),
    ]
}

/// The conversation in one piece and in pieces by chance: no panic, bounded work, the same answers.
pub fn run(octets: &[u8], chance: &mut Chance) {
    let whole = converse(octets, &[octets.len()]);
    let cuts: Vec<usize> = (0..8).map(|_| chance.below(octets.len() + 1)).collect();
    let pieces = converse(octets, &cuts);
    assert_eq!(whole, pieces, "how octets arrive makes a difference");
}

/// Everything that is answered, and whether the connection is over.
fn converse(octets: &[u8], cuts: &[usize]) -> (Vec<u8>, bool) {
    let mut connection = Connection::new(Arc::new(ConnectionConfig {
        frame_max: 8192,
        max_message_size: 1 << 20,
        max_held_bytes: 1 << 20,
        ..ConnectionConfig::default()
    }));
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let mut cuts = cuts.to_vec();
    cuts.push(octets.len());
    cuts.sort_unstable();
    let (mut fed, mut actions, mut over) = (0, 0, false);
    for cut in cuts {
        input.extend_from_slice(octets.get(fed..cut).unwrap_or_default());
        fed = cut;
        while let Some(action) = connection.next(&mut input, &mut out) {
            actions += 1;
            assert!(actions <= 100 + octets.len() * ACTIONS_PER_OCTET, "{actions} actions");
            over |= act(&mut connection, action, &mut out);
        }
    }
    assert!(out.len() <= 4096 + octets.len() * 64, "{} octets for {}", out.len(), octets.len());
    (out.to_vec(), over)
}

/// Does what the shell would, in the simplest way.
fn act(connection: &mut Connection, action: Action, out: &mut BytesMut) -> bool {
    match action {
        Action::Authenticate { user, .. } => connection.authenticated(Ok(user), out),
        Action::OpenVhost { .. } => connection.vhost_opened(Ok(()), out),
        Action::Request { channel, request, .. } => {
            let reply = match request {
                Request::Consume(consume) => {
                    Reply::Consumed { tag: consume.tag, subscription: SubscriptionId(1) }
                }
                // A question that wants another answer than this one fails its channel: that is exercised too.
                _ => Reply::Done,
            };
            connection.reply(channel, Ok(reply), out);
        }
        Action::Publish(publish) => {
            if publish.number != 0 {
                connection.confirm(publish.channel, publish.opening, &[publish.number], out);
            }
        }
        Action::Closing => connection.closing_done(out),
        Action::Closed(Ending::Graceful | Ending::ByServer | Ending::Done | Ending::Silent { .. }) => {
            return true;
        }
        Action::CheckPublish(_)
        | Action::RolledBack { .. }
        | Action::Route
        | Action::Prefetch { .. }
        | Action::Settle { .. }
        | Action::ChannelClosed { .. } => {}
    }
    false
}
