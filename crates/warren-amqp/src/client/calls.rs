//! The methods that a client needs most, made from what a test or a load generator knows. Any other is made from
//! [`crate::methods`] by hand.

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue, tx};
use warren_types::table::{AMQPValue, FieldTable, ShortString};
use warren_types::{AckMode, ShortStr};

use crate::connection::Limits;

/// Both are at most 255 bytes of UTF-8.
fn short(text: &ShortStr) -> ShortString {
    ShortString::try_new(text.as_str()).unwrap_or_default()
}

/// `connection.start-ok` with mechanism PLAIN and these client properties; see [`client_properties`].
#[must_use]
pub fn login(user: &str, password: &str, client_properties: FieldTable) -> AMQPClass {
    let mut response = Vec::with_capacity(user.len() + password.len() + 2);
    response.push(0);
    response.extend_from_slice(user.as_bytes());
    response.push(0);
    response.extend_from_slice(password.as_bytes());
    AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties,
        mechanism: short(&name("PLAIN")),
        response: response.into(),
        locale: short(&name("en_US")),
    }))
}

/// A constant of this crate.
fn name(constant: &'static str) -> ShortStr {
    ShortStr::new(bytes::Bytes::from_static(constant.as_bytes())).unwrap_or_default()
}

/// Client properties with a connection name and every capability that changes what a server does.
#[must_use]
pub fn client_properties(connection_name: &str) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for capability in [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ] {
        capabilities.insert(short(&name(capability)), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert(short(&name("capabilities")), AMQPValue::FieldTable(capabilities));
    properties.insert(short(&name("connection_name")), AMQPValue::LongString(connection_name.into()));
    properties
}

/// `connection.tune-ok`.
#[must_use]
pub fn tune_ok(limits: Limits) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::TuneOk(connection::TuneOk {
        channel_max: limits.channel_max,
        frame_max: limits.frame_max,
        heartbeat: limits.heartbeat_s,
    }))
}

/// `connection.open`.
#[must_use]
pub fn open(vhost: &ShortStr) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::Open(connection::Open { virtual_host: short(vhost) }))
}

/// `connection.close`, reply code 200.
#[must_use]
pub fn close() -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::Close(connection::Close {
        reply_code: 200,
        reply_text: short(&name("OK")),
        class_id: 0,
        method_id: 0,
    }))
}

/// `connection.close-ok`.
#[must_use]
pub fn close_ok() -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
}

/// `channel.open`.
#[must_use]
pub fn open_channel() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))
}

/// `channel.close`, reply code 200.
#[must_use]
pub fn close_channel() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
        reply_code: 200,
        reply_text: short(&name("OK")),
        class_id: 0,
        method_id: 0,
    }))
}

/// `channel.close-ok`.
#[must_use]
pub fn close_channel_ok() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))
}

/// `exchange.declare` of a durable exchange.
#[must_use]
pub fn declare_exchange(exchange: &ShortStr, kind: &ShortStr) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: short(exchange),
        kind: short(kind),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

/// `queue.declare` of a durable queue with these arguments.
#[must_use]
pub fn declare_queue(queue: &ShortStr, arguments: FieldTable) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: short(queue),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments,
    }))
}

/// `queue.bind`.
#[must_use]
pub fn bind_queue(queue: &ShortStr, exchange: &ShortStr, routing_key: &ShortStr) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
        queue: short(queue),
        exchange: short(exchange),
        routing_key: short(routing_key),
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

/// `queue.delete`.
#[must_use]
pub fn delete_queue(queue: &ShortStr) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
        queue: short(queue),
        if_unused: false,
        if_empty: false,
        nowait: false,
    }))
}

/// `basic.qos` for consumers that start later.
#[must_use]
pub fn qos(prefetch: u16) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count: prefetch, global: false }))
}

/// `basic.qos` for the whole channel.
#[must_use]
pub fn channel_qos(prefetch: u16) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count: prefetch, global: true }))
}

/// `basic.consume`; with an empty tag the server makes one.
#[must_use]
pub fn consume(queue: &ShortStr, tag: &ShortStr, ack_mode: AckMode) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: short(queue),
        consumer_tag: short(tag),
        no_local: false,
        no_ack: ack_mode == AckMode::Automatic,
        exclusive: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

/// `basic.cancel`.
#[must_use]
pub fn cancel(tag: &ShortStr) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag: short(tag), nowait: false }))
}

/// `basic.get`.
#[must_use]
pub fn get(queue: &ShortStr, ack_mode: AckMode) -> AMQPClass {
    let no_ack = ack_mode == AckMode::Automatic;
    AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get { queue: short(queue), no_ack }))
}

/// `basic.recover` with requeue.
#[must_use]
pub fn recover() -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Recover(basic::Recover { requeue: true }))
}

/// `confirm.select`.
#[must_use]
pub fn select_confirms() -> AMQPClass {
    AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }))
}

/// `tx.select`.
#[must_use]
pub fn select_transactions() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}))
}

/// `tx.commit`.
#[must_use]
pub fn commit() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))
}

/// `tx.rollback`.
#[must_use]
pub fn rollback() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {}))
}
