//! The codec against `amq-protocol`, both ways, and against bytes that nobody should send.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::hint::black_box;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, queue};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use warren_amqp::client::{self, Decoder, calls};
use warren_amqp::frame::{self, Content, DeliveryCounts, Frame, Method, decode_method, next_frame};
use warren_amqp::properties::{Properties, PropertiesBuilder, check, with_header, with_reply_to};
use warren_amqp::{Action, Reply, Request};
use warren_types::table::{AMQPValue, DecimalValue, FieldTable};
use warren_types::{ChannelNumber, DeliveryTag, Message, ReplyCode, ShortStr, SubscriptionId};
use world::{World, s};

fn generated(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().write
}

fn any_name() -> impl Strategy<Value = String> {
    "[a-zé.#*]{0,20}"
}

fn any_value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        (-1e9_f32..1e9).prop_map(AMQPValue::Float),
        (-1e9_f64..1e9).prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        vec(any::<u8>(), 0..30).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        vec(any::<u8>(), 0..30).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| AMQPValue::FieldArray(values.into())),
            vec((any_name(), inner), 0..4).prop_map(|entries| AMQPValue::FieldTable(table(entries))),
        ]
    })
}

fn table(entries: Vec<(String, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.as_str().into(), value);
    }
    table
}

fn any_table() -> impl Strategy<Value = FieldTable> {
    vec((any_name(), any_value()), 0..5).prop_map(table)
}

fn any_builder() -> impl Strategy<Value = PropertiesBuilder> {
    let text = || prop::option::of(any_name().prop_map(|name| s(&name)));
    (
        (text(), text(), prop::option::of(any_table()), any::<Option<u8>>(), any::<Option<u8>>()),
        (text(), text(), text(), text(), any::<Option<u64>>()),
        (text(), text(), text(), text()),
    )
        .prop_map(|(first, second, third)| PropertiesBuilder {
            content_type: first.0,
            content_encoding: first.1,
            headers: first.2,
            delivery_mode: first.3,
            priority: first.4,
            correlation_id: second.0,
            reply_to: second.1,
            expiration: second.2,
            message_id: second.3,
            timestamp: second.4,
            kind: third.0,
            user_id: third.1,
            app_id: third.2,
            cluster_id: third.3,
        })
}

/// The same properties as the oracle has them.
fn oracle_properties(builder: &PropertiesBuilder) -> basic::AMQPProperties {
    let mut properties = basic::AMQPProperties::default();
    let short = |text: &ShortStr| text.as_str().into();
    macro_rules! set {
        ($($field:ident $with:ident $convert:expr;)*) => {
            $(if let Some(value) = &builder.$field { properties = properties.$with($convert(value)); })*
        };
    }
    set! {
        content_type with_content_type short;
        content_encoding with_content_encoding short;
        headers with_headers FieldTable::clone;
        delivery_mode with_delivery_mode u8::clone;
        priority with_priority u8::clone;
        correlation_id with_correlation_id short;
        reply_to with_reply_to short;
        expiration with_expiration short;
        message_id with_message_id short;
        timestamp with_timestamp u64::clone;
        kind with_type short;
        user_id with_user_id short;
        app_id with_app_id short;
        cluster_id with_cluster_id short;
    }
    properties
}

fn any_message() -> impl Strategy<Value = (PropertiesBuilder, Message)> {
    (any_builder(), any_name(), any_name(), vec(any::<u8>(), 0..200)).prop_map(
        |(builder, exchange, routing_key, body)| {
            let properties = builder.build();
            let (exchange, routing_key) = (s(&exchange), s(&routing_key));
            (builder, Message { exchange, routing_key, properties, body: body.into() })
        },
    )
}

/// The oracle's frames for a method with this content.
fn oracle_content(
    method: basic::AMQPMethod,
    builder: &PropertiesBuilder,
    body: &[u8],
    payload_max: usize,
) -> Vec<u8> {
    let header = AMQPContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties: oracle_properties(builder),
    };
    let mut bytes = generated(&AMQPFrame::Method(3, AMQPClass::Basic(method)));
    bytes.extend(generated(&AMQPFrame::Header(3, header)));
    for piece in body.chunks(payload_max) {
        bytes.extend(generated(&AMQPFrame::Body(3, piece.to_vec())));
    }
    bytes
}

const C3: ChannelNumber = ChannelNumber(3);
const FRAME_MAX: u32 = 8 + 64;

fn any_class() -> impl Strategy<Value = AMQPClass> {
    let name = || any_name().prop_map(|name| s(&name));
    prop_oneof![
        (name(), any_table()).prop_map(|(queue, arguments)| calls::declare_queue(&queue, arguments)),
        (name(), name(), name())
            .prop_map(|(queue, exchange, key)| calls::bind_queue(&queue, &exchange, &key)),
        (name(), name()).prop_map(|(exchange, kind)| calls::declare_exchange(&exchange, &kind)),
        name().prop_map(|queue| calls::delete_queue(&queue)),
        (name(), name()).prop_map(|(queue, tag)| calls::consume(&queue, &tag, warren_types::AckMode::Manual)),
        name().prop_map(|tag| calls::cancel(&tag)),
        any_table().prop_map(|properties| calls::login("user", "password", properties)),
        Just(calls::close()),
        Just(calls::close_channel()),
        Just(calls::open_channel()),
        Just(calls::recover()),
        Just(calls::select_confirms()),
        Just(calls::commit()),
        (name(), any::<[bool; 5]>(), any_table()).prop_map(|(queue, flags, arguments)| {
            let [passive, durable, exclusive, auto_delete, nowait] = flags;
            AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
                queue: queue.as_str().into(),
                passive,
                durable,
                exclusive,
                auto_delete,
                nowait,
                arguments,
            }))
        }),
    ]
}

proptest! {
    #[test]
    fn a_publish_is_written_and_read_as_the_oracle_does((builder, message) in any_message(), mandatory: bool) {
        let publish = basic::AMQPMethod::Publish(basic::Publish {
            exchange: message.exchange.as_str().into(),
            routing_key: message.routing_key.as_str().into(),
            mandatory,
            immediate: false,
        });
        let expected = oracle_content(publish, &builder, &message.body, 64);
        let mut out = BytesMut::new();
        client::encode_publish(C3, mandatory, &message, FRAME_MAX, &mut out);
        prop_assert_eq!(&out[..], &expected[..]);
        let mut world = World::open();
        world.open_channel(3);
        world.raw(&expected);
        let publishes = world.publishes();
        prop_assert_eq!(publishes.len(), 1);
        prop_assert_eq!(&publishes[0].message, &message);
        prop_assert_eq!(publishes[0].mandatory, mandatory);
    }

    #[test]
    fn what_the_server_writes_with_content_the_oracle_writes_too(
        (builder, message) in any_message(), tag: u64, redelivered: bool, remaining: u32,
    ) {
        let (exchange, routing_key) = (message.exchange.as_str(), message.routing_key.as_str());
        let content = Content { message: &message, frame_max: FRAME_MAX, counts: DeliveryCounts::default() };
        let mut out = BytesMut::new();
        frame::deliver(C3, &s("consumer"), DeliveryTag(tag), redelivered, content, &mut out);
        let deliver = basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag: "consumer".into(), delivery_tag: tag, redelivered,
            exchange: exchange.into(), routing_key: routing_key.into(),
        });
        prop_assert_eq!(&out[..], &oracle_content(deliver, &builder, &message.body, 64)[..]);
        out.clear();
        frame::get_ok(C3, DeliveryTag(tag), redelivered, remaining, content, &mut out);
        let get_ok = basic::AMQPMethod::GetOk(basic::GetOk {
            delivery_tag: tag, redelivered,
            exchange: exchange.into(), routing_key: routing_key.into(), message_count: remaining,
        });
        prop_assert_eq!(&out[..], &oracle_content(get_ok, &builder, &message.body, 64)[..]);
        out.clear();
        frame::returned(C3, ReplyCode::NoRoute, &message, FRAME_MAX, &mut out);
        let returned = basic::AMQPMethod::Return(basic::Return {
            reply_code: 312, reply_text: "NO_ROUTE".into(),
            exchange: exchange.into(), routing_key: routing_key.into(),
        });
        prop_assert_eq!(&out[..], &oracle_content(returned, &builder, &message.body, 64)[..]);
    }

    #[test]
    fn settlements_are_written_and_read_as_the_oracle_does(tag: u64, multiple: bool, requeue: bool) {
        let mut out = BytesMut::new();
        frame::ack(C3, tag, multiple, &mut out);
        frame::nack(C3, tag, multiple, requeue, &mut out);
        frame::reject(C3, tag, requeue, &mut out);
        let methods = [
            basic::AMQPMethod::Ack(basic::Ack { delivery_tag: tag, multiple }),
            basic::AMQPMethod::Nack(basic::Nack { delivery_tag: tag, multiple, requeue }),
            basic::AMQPMethod::Reject(basic::Reject { delivery_tag: tag, requeue }),
        ];
        let expected: Vec<u8> =
            methods.into_iter().flat_map(|method| generated(&AMQPFrame::Method(3, AMQPClass::Basic(method)))).collect();
        prop_assert_eq!(&out[..], &expected[..]);
        let read: Vec<Method> = std::iter::from_fn(|| match next_frame(&mut out, 8192).unwrap()? {
            Frame::Method(_, payload) => Some(decode_method(&payload).unwrap()),
            _ => None,
        })
        .collect();
        prop_assert_eq!(
            read,
            [Method::Ack { tag, multiple }, Method::Nack { tag, multiple, requeue }, Method::Reject { tag, requeue }]
        );
    }

    #[test]
    fn any_other_method_is_read_as_the_oracle_reads_it(class in any_class()) {
        let bytes = generated(&AMQPFrame::Method(3, class.clone()));
        let mut written = BytesMut::new();
        client::encode_method(C3, class.clone(), &mut written);
        prop_assert_eq!(&written[..], &bytes[..]);
        let (_, oracle) = parse_frame(&bytes[..]).unwrap();
        let Some(Frame::Method(C3, payload)) = next_frame(&mut written, 131_072).unwrap() else { panic!() };
        let ours = decode_method(&payload).unwrap();
        prop_assert_eq!(Method::Other(class), ours.clone());
        let Method::Other(ours) = ours else { panic!() };
        prop_assert_eq!(AMQPFrame::Method(3, ours), oracle);
    }

    /// Where the oracle reads a method, so do we, and the same; where it does not, neither do we. One exception: it
    /// takes the last of equal keys in a table, and so might read another table.
    #[test]
    fn a_damaged_method_is_judged_as_the_oracle_judges_it(
        class in any_class(), at: prop::sample::Index, with: u8, cut in any::<Option<prop::sample::Index>>(),
    ) {
        let bytes = generated(&AMQPFrame::Method(3, class));
        let mut payload = bytes[7..bytes.len() - 1].to_vec();
        let index = at.index(payload.len());
        payload[index] = with;
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        let oracle = amq_protocol::protocol::parse_class(&payload[..]).ok().filter(|(rest, _)| rest.is_empty());
        let ours = decode_method(&Bytes::from(payload.clone()));
        match (&oracle, &ours) {
            (Some((_, class)), Ok(Method::Other(ours))) => prop_assert_eq!(
                (class.get_amqp_class_id(), class.get_amqp_method_id()),
                (ours.get_amqp_class_id(), ours.get_amqp_method_id())
            ),
            // Decoded by hand, or a tag that RabbitMQ's dialect has and the oracle has not.
            (Some(_), Ok(_)) | (None, Err(_)) => {}
            (None, Ok(_)) => prop_assert!(payload.contains(&b'U'), "{:?} read as {:?}", payload, ours),
            (Some((_, class)), Err(error)) => prop_assert!(false, "{:?} refused: {}", class, error),
        }
    }

    #[test]
    fn properties_read_back_as_they_were_built(builder in any_builder()) {
        let bytes = builder.build();
        prop_assert_eq!(check(&bytes), Ok(()));
        let read = Properties::new(&bytes);
        let text = |value: &Option<ShortStr>| value.as_ref().map(|text| text.as_str().to_owned());
        let owned = |value: Option<&str>| value.map(str::to_owned);
        prop_assert_eq!(owned(read.content_type()), text(&builder.content_type));
        prop_assert_eq!(owned(read.content_encoding()), text(&builder.content_encoding));
        prop_assert_eq!(read.headers(), builder.headers.clone());
        prop_assert_eq!(read.delivery_mode(), builder.delivery_mode);
        prop_assert_eq!(read.priority(), builder.priority);
        prop_assert_eq!(owned(read.correlation_id()), text(&builder.correlation_id));
        prop_assert_eq!(owned(read.reply_to()), text(&builder.reply_to));
        prop_assert_eq!(owned(read.expiration()), text(&builder.expiration));
        prop_assert_eq!(owned(read.message_id()), text(&builder.message_id));
        prop_assert_eq!(read.timestamp(), builder.timestamp);
        prop_assert_eq!(owned(read.kind()), text(&builder.kind));
        prop_assert_eq!(owned(read.user_id()), text(&builder.user_id));
        prop_assert_eq!(owned(read.app_id()), text(&builder.app_id));
        prop_assert_eq!(owned(read.cluster_id()), text(&builder.cluster_id));
        for (key, value) in &builder.headers.unwrap_or_default() {
            prop_assert_eq!(read.header(key.as_str()), Some(value.clone()));
        }
        prop_assert_eq!(read.header("no such header"), None);
    }

    #[test]
    fn changing_one_header_leaves_everything_else(builder in any_builder(), value in any_value()) {
        let bytes = builder.build();
        let changed = with_header(&bytes, "changed", Some(&value));
        prop_assert_eq!(check(&changed), Ok(()));
        let mut expected = builder.clone();
        let mut headers = builder.headers.clone().unwrap_or_default();
        headers.insert("changed".into(), value);
        expected.headers = Some(headers);
        prop_assert_eq!(Properties::new(&changed).headers(), expected.headers.clone());
        let again = with_header(&changed, "changed", None);
        expected.headers = Some(builder.headers.clone().unwrap_or_default());
        prop_assert_eq!(again, expected.build());
    }

    #[test]
    fn changing_the_reply_to_leaves_everything_else(builder in any_builder()) {
        let reply_to = ShortStr::try_from("amq.rabbitmq.reply-to.x").unwrap();
        let changed = with_reply_to(&builder.build(), &reply_to);
        prop_assert_eq!(changed, PropertiesBuilder { reply_to: Some(reply_to), ..builder }.build());
    }

    #[test]
    fn arbitrary_properties_never_panic_and_what_is_accepted_can_be_decoded(bytes in vec(any::<u8>(), 0..80)) {
        let read = Properties::new(&bytes);
        black_box((read.headers(), read.header("a")));
        black_box((read.expiration_ms().ok(), read.extra_routing_keys().ok()));
        black_box(with_header(&bytes, "a", Some(&AMQPValue::Void)));
        black_box(with_reply_to(&bytes, &ShortStr::default()));
        if check(&bytes).is_ok() && let Some(raw) = read.headers_bytes() {
            prop_assert!(warren_types::table::decode(raw).is_ok());
        }
    }

    #[test]
    fn a_damaged_table_in_headers_is_judged_as_the_decoder_judges_it(
        headers in any_table(), at: prop::sample::Index, with: u8,
    ) {
        let builder = PropertiesBuilder { headers: Some(headers), ..PropertiesBuilder::default() };
        let mut bytes = builder.build().to_vec();
        let index = 6 + at.index(bytes.len() - 5);
        if let Some(byte) = bytes.get_mut(index) {
            *byte = with;
        }
        prop_assert_eq!(check(&bytes).is_ok(), warren_types::table::decode(&bytes[2..]).is_ok());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let mut world = World::fresh();
        world.raw(&bytes);
        run(&mut world);
        let mut world = World::with_channel();
        world.raw(&bytes);
        run(&mut world);
        let mut decoder = Decoder::new();
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decoder.next(&mut input) {}
        black_box(decode_method(&Bytes::from(bytes))).ok();
    }

    /// Frames that are well-formed outside and arbitrary inside, on a few channels.
    #[test]
    fn arbitrary_frames_never_panic(
        frames in vec((1_u8..5, 0_u8..3, any_payload()), 1..40),
    ) {
        let mut world = World::with_channel();
        world.consume(1, warren_types::AckMode::Manual);
        world.deliver(1, 1);
        for (kind, channel, payload) in frames {
            let kind = if kind == 4 { 8 } else { kind };
            world.raw(&[kind, 0, channel]);
            world.raw(&u32::try_from(payload.len()).unwrap().to_be_bytes());
            world.raw(&payload);
            world.raw(&[0xCE]);
        }
        run(&mut world);
        // Whatever happened, what was written are frames.
        world.frames();
    }
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let id = (
        prop::sample::select(vec![10_u8, 20, 30, 40, 50, 60, 85, 90]),
        prop::sample::select(vec![10_u8, 11, 20, 30, 31, 40, 41, 50, 51, 70, 80, 90, 100, 110, 120]),
    );
    prop_oneof![
        vec(any::<u8>(), 0..30),
        (id, vec(0_u8..4, 0..16)).prop_map(|((class, method), rest)| {
            let mut payload = vec![0, class, 0, method];
            payload.extend(rest);
            payload
        }),
        (0_u8..30, vec(0_u8..2, 2))
            .prop_map(|(size, flags)| { [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, size][..], &flags].concat() }),
    ]
}

/// Answers everything until nothing is asked.
fn run(world: &mut World) {
    let mut subscription = 100;
    while let Some(action) = world.next() {
        let out = &mut world.out;
        match action {
            Action::Authenticate { user, .. } => world.connection.authenticated(Ok(user), out),
            Action::OpenVhost { .. } => world.connection.vhost_opened(Ok(()), out),
            Action::Closing => world.connection.closing_done(out),
            Action::Request { channel, request, .. } => {
                let reply = match request {
                    Request::QueueDeclare(declare) => {
                        Reply::QueueDeclared { name: declare.name, messages: 0, consumers: 0 }
                    }
                    Request::QueuePurge(_) => Reply::Purged(1),
                    Request::QueueDelete(_) => Reply::Deleted(1),
                    Request::Consume(consume) => {
                        subscription += 1;
                        Reply::Consumed { tag: consume.tag, subscription: SubscriptionId(subscription) }
                    }
                    Request::Get(_) => Reply::Got(None),
                    _ => Reply::Done,
                };
                world.connection.reply(channel, Ok(reply), out);
            }
            Action::Publish(_)
            | Action::CheckPublish(_)
            | Action::RolledBack { .. }
            | Action::Route
            | Action::Prefetch { .. }
            | Action::Settle { .. }
            | Action::ChannelClosed { .. }
            | Action::Closed(_) => {}
        }
    }
    world.connection.disconnected();
}

#[test]
fn expirations_are_judged_in_rabbitmqs_words() {
    for (text, expected) in [
        ("0", Ok(0)),
        ("60000", Ok(60_000)),
        ("+7", Ok(7)),
        ("007", Ok(7)),
        ("315360000000", Ok(315_360_000_000)),
        ("abc", Err("no_integer")),
        ("", Err("no_integer")),
        ("1a", Err("{leftover_string,\"a\"}")),
        ("1.5", Err("{leftover_string,\".5\"}")),
        ("-1", Err("{value_negative,-1}")),
        ("315360000001", Err("{value_too_large,315360000001}")),
        ("99999999999999999999999", Err("{value_too_large,99999999999999999999999}")),
    ] {
        let builder = PropertiesBuilder { expiration: Some(s(text)), ..PropertiesBuilder::default() };
        let bytes = builder.build();
        let got = Properties::new(&bytes).expiration_ms();
        let expected = match expected {
            Ok(value) => Ok(Some(value)),
            Err(cause) => Err(format!("PRECONDITION_FAILED - invalid expiration '{text}': {cause}")),
        };
        assert_eq!(got.map_err(|error| error.reply_text()), expected, "{text}");
    }
    assert_eq!(Properties::new(&[0, 0]).expiration_ms(), Ok(None));
}

#[test]
fn cc_and_bcc_add_routing_keys_and_must_be_arrays() {
    let keys = |name: &str, value: AMQPValue| {
        let mut headers = FieldTable::default();
        headers.insert("BCC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("b".into())].into()));
        headers.insert(name.into(), value);
        let bytes = PropertiesBuilder { headers: Some(headers), ..PropertiesBuilder::default() }.build();
        Properties::new(&bytes).extra_routing_keys().map_err(|error| error.reply_text())
    };
    let array =
        vec![AMQPValue::LongString("a".into()), AMQPValue::LongInt(1), AMQPValue::LongString("c".into())];
    assert_eq!(
        keys("CC", AMQPValue::FieldArray(array.into())),
        Ok(vec![b"a".to_vec(), b"c".to_vec(), b"b".to_vec()])
    );
    let text = "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}";
    assert_eq!(keys("CC", AMQPValue::LongString("a".into())), Err(text.to_owned()));
}

#[test]
fn a_delivery_count_is_added_to_properties_without_headers_and_replaces_an_older_one() {
    let mut message = world::message(b"m");
    for properties in [Bytes::new(), Bytes::from_static(&[0, 0]), Bytes::from_static(&[0x10, 0, 2])] {
        message.properties = properties;
        for counts in [DeliveryCounts { acquired: 3, failed: 1 }, DeliveryCounts { acquired: 4, failed: 2 }] {
            let mut out = BytesMut::new();
            let content = Content { message: &message, frame_max: 8192, counts };
            frame::deliver(C3, &s("c"), DeliveryTag(1), true, content, &mut out);
            let Ok(Some(client::ServerFrame::Deliver { message: got, .. })) = Decoder::new().next(&mut out)
            else {
                panic!("no delivery")
            };
            let header = |key| Properties::new(&got.properties).header(key);
            assert_eq!(header("x-delivery-count"), Some(AMQPValue::LongLongInt(counts.failed.into())));
            assert_eq!(header("x-acquired-count"), Some(AMQPValue::LongLongInt(counts.acquired.into())));
            assert_eq!(
                Properties::new(&got.properties).delivery_mode(),
                Properties::new(&message.properties).delivery_mode()
            );
            message.properties = got.properties;
        }
    }
}

#[test]
fn a_second_word_of_flags_and_trailing_bytes_are_no_properties() {
    for bytes in [&[][..], &[0], &[0, 1, 0, 0], &[0, 0, 0], &[0x10, 0], &[0x10, 0, 1, 1], &[0x80, 0, 3, b'a']]
    {
        assert!(check(bytes).is_err(), "{bytes:?}");
    }
    // RabbitMQ ignores the one bit that is neither a property nor the continuation.
    assert_eq!(check(&[0x10, 2, 1]), Ok(()));
}
