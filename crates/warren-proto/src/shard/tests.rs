//! Records to bytes and back, against the generated encoder.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use warren_types::{Message, Position, PositionRange, QueueId, SessionId, ShortStr, UnixMillis};

use super::{Enqueue, EnqueuedMessage, Op, Record, SettleReason};
use crate::DecodeError;
use crate::generated::shard as wire;

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..300, any::<u64>(), Just(u64::MAX)]
}

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn any_name() -> impl Strategy<Value = ShortStr> {
    proptest::collection::vec(any::<char>(), 0..60)
        .prop_map(|text| ShortStr::try_from(text.into_iter().collect::<String>().as_str()).unwrap())
}

fn any_ranges() -> impl Strategy<Value = Vec<PositionRange>> {
    let range = (1_u64..1 << 40, 0_u64..1000)
        .prop_map(|(first, more)| PositionRange { first: Position(first), last: Position(first + more) });
    proptest::collection::vec(range, 0..5)
}

fn any_message() -> impl Strategy<Value = EnqueuedMessage> {
    let queues = proptest::collection::vec(any_number().prop_map(QueueId), 0..4);
    (any_number(), queues, any_name(), any_name(), any_bytes(40), any_bytes(400)).prop_map(
        |(seq, queues, exchange, routing_key, properties, body)| EnqueuedMessage {
            seq,
            queues,
            message: Message { exchange, routing_key, properties, body },
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    let queue = || any_number().prop_map(QueueId);
    let reason = prop_oneof![
        Just(SettleReason::Acked),
        Just(SettleReason::Rejected),
        Just(SettleReason::Expired),
        Just(SettleReason::Dropped),
        Just(SettleReason::DeliveryLimit),
        Just(SettleReason::DeadLettered),
    ];
    prop_oneof![
        (any_number(), any_number(), proptest::collection::vec(any_message(), 0..5)).prop_map(
            |(session, last_seq, messages)| {
                Op::Enqueue(Enqueue { session: SessionId(session), last_seq, messages })
            }
        ),
        (queue(), reason, any_ranges()).prop_map(|(queue, reason, ranges)| Op::Settle {
            queue,
            reason,
            ranges
        }),
        (queue(), any_ranges()).prop_map(|(queue, ranges)| Op::Return { queue, ranges }),
        (queue(), any_number()).prop_map(|(queue, up_to)| Op::Reserve { queue, up_to: Position(up_to) }),
        (queue(), any_number(), any_ranges()).prop_map(|(queue, up_to, keep)| Op::Purge {
            queue,
            up_to: Position(up_to),
            keep
        }),
        queue().prop_map(|queue| Op::DropQueue { queue }),
        any_number().prop_map(|session| Op::CloseSession { session: SessionId(session) }),
        queue().prop_map(|queue| Op::MarkUsed { queue }),
        (any_number(), any_number(), proptest::collection::vec(any_number(), 0..5)).prop_map(
            |(session, learned, sequences)| Op::Refuse { session: SessionId(session), learned, sequences },
        ),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    (any_number(), proptest::collection::vec(any_op(), 0..6))
        .prop_map(|(time, ops)| Record { time: UnixMillis(time), ops })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_the_same(record in any_record()) {
        prop_assert_eq!(Record::decode(record.encode()), Ok(record));
    }

    #[test]
    fn the_bytes_are_those_of_the_generated_encoder(record in any_record()) {
        let bytes = record.encode();
        let generated = wire::Record::decode(bytes.clone()).unwrap();
        prop_assert_eq!(generated.encode_to_vec(), bytes);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in any_bytes(200)) {
        if let Ok(record) = Record::decode(bytes) {
            prop_assert_eq!(Record::decode(record.encode()), Ok(record));
        }
    }

    #[test]
    fn a_damaged_record_is_decoded_or_refused(record in any_record(), at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = record.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(record) = Record::decode(Bytes::from(bytes)) {
            prop_assert_eq!(Record::decode(record.encode()), Ok(record));
        }
    }
}

fn sample() -> Record {
    let message = Message {
        exchange: ShortStr::try_from("amq.topic").unwrap(),
        routing_key: ShortStr::try_from("a.b").unwrap(),
        properties: Bytes::from_static(&[0x10, 0, 2]),
        body: Bytes::from_static(b"hello"),
    };
    let messages = vec![EnqueuedMessage { seq: 300, queues: vec![QueueId(1), QueueId(200)], message }];
    let ranges = vec![PositionRange { first: Position(5), last: Position(9) }];
    Record {
        time: UnixMillis(1000),
        ops: vec![
            Op::Enqueue(Enqueue { session: SessionId(7), last_seq: 301, messages }),
            Op::Settle { queue: QueueId(1), reason: SettleReason::Rejected, ranges },
        ],
    }
}

#[test]
fn version_1_never_changes() {
    let expected = [
        &[0x08, 1, 0x10, 0xe8, 0x07][..],
        &[0x1a, 52, 0x0a, 50, 0x09, 7, 0, 0, 0, 0, 0, 0, 0, 0x10, 0xad, 0x02, 0x1a, 36],
        &[0x08, 0xac, 0x02, 0x12, 3, 1, 0xc8, 0x01, 0x1a, 9],
        b"amq.topic",
        &[0x22, 3],
        b"a.b",
        &[0x2a, 3, 0x10, 0, 2, 0x32, 5],
        b"hello",
        &[0x1a, 12, 0x12, 10, 0x08, 1, 0x10, 2, 0x1a, 4, 0x08, 5, 0x10, 5],
    ]
    .concat();
    assert_eq!(sample().encode(), expected);
    assert_eq!(Record::decode(Bytes::from(expected)), Ok(sample()));
}

#[test]
fn bodies_are_slices_of_what_was_read() {
    let bytes = sample().encode();
    let record = Record::decode(bytes.clone()).unwrap();
    let Op::Enqueue(enqueue) = &record.ops[0] else { panic!("{record:?}") };
    let message = &enqueue.messages[0].message;
    for part in [&message.body, &message.properties, message.exchange.bytes()] {
        assert!(bytes.as_ptr_range().contains(&part.as_ptr()));
    }
}

#[test]
fn an_empty_range_is_left_out_and_refused() {
    let ranges = vec![PositionRange { first: Position(9), last: Position(8) }];
    let record = |ranges| Record { time: UnixMillis(0), ops: vec![Op::Return { queue: QueueId(1), ranges }] };
    assert_eq!(Record::decode(record(ranges).encode()), Ok(record(Vec::new())));
    let empty = Bytes::from_static(&[0x08, 1, 0x1a, 6, 0x1a, 4, 0x12, 2, 0x08, 9]);
    let refused = DecodeError::Field { what: "position range", field: "count" };
    assert_eq!(Record::decode(empty), Err(refused));
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    let cases: &[(&[u8], DecodeError)] = &[
        (&[], DecodeError::Field { what: "shard record", field: "version" }),
        (&[0x08, 2], DecodeError::Version { what: "shard record", found: 2, known: 1 }),
        // An operation without content, and one of field 15.
        (&[0x08, 1, 0x1a, 0], DecodeError::Unknown { what: "shard record" }),
        (&[0x08, 1, 0x1a, 2, 0x7a, 0], DecodeError::Unknown { what: "shard record" }),
        // Settles without a reason, and with one of 99.
        (&[0x08, 1, 0x1a, 2, 0x12, 0], DecodeError::Field { what: "settle", field: "reason" }),
        (&[0x08, 1, 0x1a, 4, 0x12, 2, 0x10, 99], DecodeError::Unknown { what: "settle" }),
    ];
    for (bytes, expected) in cases {
        let refused = Record::decode(Bytes::from_static(bytes));
        assert_eq!(refused.as_ref(), Err(expected), "{bytes:x?}");
    }
    let torn = Record::decode(sample().encode().slice(..40));
    assert!(matches!(torn, Err(DecodeError::Malformed { .. })), "{torn:?}");
}
