//! Channels: opening and closing, requests and their replies, what errors close.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use warren_amqp::client::{self, ServerFrame, calls};
use warren_amqp::methods::{AMQPClass, access, basic, channel, exchange, queue};
use warren_amqp::{Action, Binding, Cancel, ConnectionConfig, Ending, Recover, Reply, Request};
use warren_types::table::FieldTable;
use warren_types::{AckMode, AmqpError, ChannelNumber, ReplyCode, SubscriptionId};
use world::{C1, C2, World, close, message, positions, s, source};

fn channel_method(number: u16, method: channel::AMQPMethod) -> ServerFrame {
    ServerFrame::Method(ChannelNumber(number), AMQPClass::Channel(method))
}

fn close_ok(number: u16) -> ServerFrame {
    channel_method(number, channel::AMQPMethod::CloseOk(channel::CloseOk {}))
}

fn not_found() -> AmqpError {
    AmqpError::new(ReplyCode::NotFound, "no queue 'q' in vhost '/'")
}

fn declared(name: &str) -> Result<Reply, AmqpError> {
    Ok(Reply::QueueDeclared { name: name.to_owned(), messages: 3, consumers: 1 })
}

#[test]
fn a_method_on_a_channel_that_is_not_open_closes_the_connection() {
    let mut world = World::open();
    world.send(3, calls::qos(1));
    assert!(matches!(world.next(), Some(Action::Closed(Ending::ByServer))));
    assert_eq!(world.close(), close(0, 504, "CHANNEL_ERROR - expected 'channel.open'", (60, 10)));
}

#[test]
fn opening_a_channel_twice_closes_the_connection() {
    let mut world = World::with_channel();
    world.send(1, calls::open_channel());
    world.actions();
    assert_eq!(world.close(), close(0, 504, "CHANNEL_ERROR - second 'channel.open' seen", (20, 10)));
}

#[test]
fn only_the_number_of_channels_is_limited_not_which() {
    let config = ConnectionConfig { channel_max: 2, ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    world.open_channel(65_535);
    world.open_channel(7);
    world.send(8, calls::open_channel());
    world.actions();
    let text = "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)";
    assert_eq!(world.close(), close(0, 530, text, (0, 0)));
}

#[test]
fn closed_channels_make_room_for_others() {
    let config = ConnectionConfig { channel_max: 1, ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    for number in 1..100 {
        world.open_channel(number);
        if number % 2 == 0 {
            world.send(number, calls::close_channel());
        } else {
            world.send(number, calls::qos(0));
            world.actions();
            let opening = world.connection.channels().next().unwrap().opening;
            let channel = ChannelNumber(number);
            world.connection.fail_channel(channel, opening, not_found(), 60, 40, &mut world.out);
            world.send(number, calls::close_channel_ok());
        }
        world.actions();
        world.frames();
    }
}

#[test]
fn a_clients_close_is_answered_after_its_remains_were_dealt_with() {
    let mut world = World::with_channel();
    world.send(1, calls::close_channel());
    world.send(1, calls::open_channel());
    let Some(Action::ChannelClosed { channel, opening, .. }) = world.next() else { panic!("no close") };
    assert_eq!((channel, opening), (C1, 1));
    assert!(world.frames().is_empty());
    assert!(world.next().is_none());
    let open_ok = channel_method(1, channel::AMQPMethod::OpenOk(channel::OpenOk {}));
    assert_eq!(world.frames(), [close_ok(1), open_ok]);
    assert_eq!(world.connection.channels().next().unwrap().opening, 2);
}

#[test]
fn after_the_servers_close_a_channel_ignores_everything_until_close_ok() {
    let mut world = World::with_channel();
    world.send(1, calls::declare_queue(&s("q"), FieldTable::default()));
    world.request();
    world.reply(Err(not_found()));
    assert_eq!(world.close(), close(1, 404, "NOT_FOUND - no queue 'q' in vhost '/'", (50, 10)));
    world.publish(1, b"in flight");
    world.send(1, calls::get(&s("q"), AckMode::Manual));
    world.ack(9, false);
    world.raw(&[3, 0, 1, 0, 0, 0, 1, b'x', 0xCE]);
    assert!(matches!(world.actions()[..], [Action::ChannelClosed { .. }]));
    assert!(world.frames().is_empty());
    world.send(1, calls::close_channel_ok());
    world.open_channel(1);
}

#[test]
fn opening_a_channel_that_the_server_has_closed_is_a_second_open() {
    let mut world = World::with_channel();
    world.connection.fail_channel(C1, 1, not_found(), 60, 40, &mut world.out);
    world.frames();
    world.send(1, calls::open_channel());
    world.actions();
    assert_eq!(world.close(), close(0, 504, "CHANNEL_ERROR - second 'channel.open' seen", (20, 10)));
}

#[test]
fn two_closes_that_cross_leave_the_number_usable_either_way() {
    for says_close_ok in [true, false] {
        let mut world = World::with_channel();
        world.connection.fail_channel(C1, 1, not_found(), 60, 40, &mut world.out);
        world.send(1, calls::close_channel());
        world.actions();
        assert_eq!(world.frames().last(), Some(&close_ok(1)));
        if says_close_ok {
            world.send(1, calls::close_channel_ok());
        }
        world.open_channel(1);
    }
}

#[test]
fn what_the_shell_says_of_an_earlier_opening_is_ignored() {
    let mut world = World::with_channel();
    world.send(1, calls::close_channel());
    world.actions();
    world.frames();
    world.open_channel(1);
    world.send(1, calls::select_confirms());
    world.publish(1, b"a");
    world.actions();
    world.frames();
    world.connection.confirm(C1, 1, &[1], &mut world.out);
    world.connection.reject_publish(C1, 1, &[1], &mut world.out);
    world.connection.return_message(C1, 1, ReplyCode::NoRoute, &message(b"a"), &mut world.out);
    world.connection.fail_channel(C1, 1, not_found(), 60, 40, &mut world.out);
    assert!(world.frames().is_empty());
    assert!(!world.connection.is_open(C1, 1));
    assert!(world.connection.is_open(C1, 2));
    world.connection.confirm(C1, 2, &[1], &mut world.out);
    assert_eq!(world.frames(), [ServerFrame::Ack { channel: C1, tag: 1, multiple: false }]);
}

#[test]
fn an_error_of_a_code_for_connections_closes_the_connection() {
    let mut world = World::with_channel();
    world.open_channel(2);
    world.send(1, calls::get(&s("q"), AckMode::Manual));
    world.request();
    world.reply(Err(AmqpError::new(ReplyCode::NotImplemented, "no")));
    let actions = world.actions();
    assert!(
        matches!(
            actions[..],
            [
                Action::ChannelClosed { channel: C1, .. },
                Action::ChannelClosed { channel: C2, .. },
                Action::Closed(Ending::ByServer)
            ]
        ),
        "{actions:?}"
    );
    assert_eq!(world.close(), close(0, 540, "NOT_IMPLEMENTED - no", (60, 70)));
}

#[test]
fn an_error_without_words_is_told_as_the_bare_name() {
    let mut world = World::with_channel();
    world.send(1, calls::get(&s("q"), AckMode::Manual));
    world.request();
    world.reply(Err(AmqpError::new(ReplyCode::InternalError, "")));
    assert_eq!(world.close().text, "INTERNAL_ERROR");
}

#[test]
fn nothing_is_read_while_a_request_is_not_answered() {
    let mut world = World::with_channel();
    world.open_channel(2);
    world.send(1, calls::get(&s("q"), AckMode::Manual));
    world.publish(2, b"after");
    world.request();
    assert!(world.next().is_none());
    world.reply(Ok(Reply::Got(None)));
    assert_eq!(world.publishes().len(), 1);
}

#[test]
fn a_reply_that_comes_after_its_channel_went_is_given_back() {
    let mut world = World::with_channel();
    world.send(1, calls::consume(&s("q"), &s("t"), AckMode::Manual));
    world.request();
    world.connection.fail_channel(C1, 1, not_found(), 60, 40, &mut world.out);
    assert!(matches!(world.next(), Some(Action::ChannelClosed { .. })));
    world.reply(Ok(Reply::Consumed { tag: "t".to_owned(), subscription: SubscriptionId(5) }));
    let Some(Action::ChannelClosed { channel, opening, subscriptions, .. }) = world.next() else {
        panic!("the consumer is lost")
    };
    assert_eq!((channel, opening, subscriptions), (C1, 1, vec![SubscriptionId(5)]));
}

#[test]
fn a_reply_to_another_question_is_an_internal_error() {
    let mut world = World::with_channel();
    world.send(1, calls::get(&s("q"), AckMode::Manual));
    world.request();
    world.reply(Ok(Reply::Purged(1)));
    let close = world.close();
    assert_eq!((close.channel, close.code, close.blamed), (0, 541, (60, 70)));
}

#[test]
fn line_ends_are_dropped_from_names_that_are_declared_bound_and_deleted() {
    let mut world = World::with_channel();
    world.send(1, calls::declare_queue(&s("a\r\nb\n"), FieldTable::default()));
    let Request::QueueDeclare(declare) = world.request() else { panic!("no declare") };
    assert_eq!(declare.name, "ab");
    world.reply(declared("ab"));
    world.send(1, calls::bind_queue(&s("a\nb"), &s("\rx"), &s("k\n")));
    let Request::QueueBind(binding) = world.request() else { panic!("no bind") };
    let expected = Binding {
        queue: "ab".to_owned(),
        exchange: "x".to_owned(),
        routing_key: "k\n".to_owned(),
        arguments: FieldTable::default(),
    };
    assert_eq!(binding, expected);
    world.reply(Ok(Reply::Done));
    world.send(1, calls::delete_queue(&s("a\nb")));
    let Request::QueueDelete(delete) = world.request() else { panic!("no delete") };
    assert_eq!(delete.queue, "ab");
}

#[test]
fn an_empty_queue_name_is_the_last_queue_declared_on_this_channel() {
    let empty = s("");
    let mut world = World::with_channel();
    world.open_channel(2);
    world.send(1, calls::declare_queue(&empty, FieldTable::default()));
    let Request::QueueDeclare(declare) = world.request() else { panic!("no declare") };
    assert_eq!(declare.name, "", "the broker makes a name");
    world.reply(declared("amq.gen-1"));
    world.frames();
    world.send(1, calls::get(&empty, AckMode::Manual));
    let Request::Get(get) = world.request() else { panic!("no get") };
    assert_eq!(get.queue, "amq.gen-1");
    world.reply(Ok(Reply::Got(None)));
    world.send(1, calls::consume(&empty, &empty, AckMode::Manual));
    let Request::Consume(consume) = world.request() else { panic!("no consume") };
    assert_eq!((consume.queue.as_str(), consume.tag.as_str()), ("amq.gen-1", ""));
    let tag = "amq.ctag-1".to_owned();
    world.reply(Ok(Reply::Consumed { tag, subscription: SubscriptionId(1) }));
    for (key, expected) in [("", "amq.gen-1"), ("k", "k")] {
        world.send(1, calls::bind_queue(&empty, &s("x"), &s(key)));
        let Request::QueueBind(bind) = world.request() else { panic!("no bind") };
        assert_eq!((bind.queue.as_str(), bind.routing_key.as_str()), ("amq.gen-1", expected));
        world.reply(Ok(Reply::Done));
    }
    world.send(2, calls::delete_queue(&empty));
    world.actions();
    assert_eq!(world.close(), close(2, 404, "NOT_FOUND - no previously declared queue", (50, 40)));
}

#[test]
fn no_wait_keeps_the_answer_from_the_client_but_not_the_error() {
    let declare = |nowait| {
        AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: "q".into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait,
            arguments: FieldTable::default(),
        }))
    };
    let mut world = World::with_channel();
    world.send(1, declare(true));
    assert!(matches!(world.request(), Request::QueueDeclare(declare) if declare.no_wait));
    world.reply(declared("q"));
    assert!(world.frames().is_empty());
    world.send(1, declare(false));
    world.request();
    world.reply(declared("q"));
    let ok = queue::DeclareOk { queue: "q".into(), message_count: 3, consumer_count: 1 };
    assert_eq!(world.frames(), [ServerFrame::Method(C1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)))]);
    world.send(1, declare(true));
    world.request();
    world.reply(Err(not_found()));
    assert_eq!(world.close().code, 404);
}

#[test]
fn counts_beyond_32_bits_are_told_as_the_largest() {
    let mut world = World::with_channel();
    world.send(1, calls::delete_queue(&s("q")));
    world.request();
    world.reply(Ok(Reply::Deleted(u64::MAX)));
    let ok = queue::AMQPMethod::DeleteOk(queue::DeleteOk { message_count: u32::MAX });
    assert_eq!(world.frames(), [ServerFrame::Method(C1, AMQPClass::Queue(ok))]);
}

#[test]
fn every_topology_request_gets_its_own_ok() {
    let exchange_bind = |bind: bool| {
        let (destination, source, routing_key) = ("d".into(), "s".into(), "k".into());
        let (nowait, arguments) = (false, FieldTable::default());
        AMQPClass::Exchange(if bind {
            exchange::AMQPMethod::Bind(exchange::Bind { destination, source, routing_key, nowait, arguments })
        } else {
            exchange::AMQPMethod::Unbind(exchange::Unbind {
                destination,
                source,
                routing_key,
                nowait,
                arguments,
            })
        })
    };
    let unbind = queue::Unbind {
        queue: "q".into(),
        exchange: "x".into(),
        routing_key: "k".into(),
        arguments: FieldTable::default(),
    };
    let mut world = World::with_channel();
    for (call, reply, expected) in [
        (calls::declare_exchange(&s("x"), &s("topic")), Reply::Done, (40, 11)),
        (
            AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: "x".into(),
                if_unused: true,
                nowait: false,
            })),
            Reply::Done,
            (40, 21),
        ),
        (exchange_bind(true), Reply::Done, (40, 31)),
        (exchange_bind(false), Reply::Done, (40, 51)),
        (calls::bind_queue(&s("q"), &s("x"), &s("k")), Reply::Done, (50, 21)),
        (AMQPClass::Queue(queue::AMQPMethod::Unbind(unbind)), Reply::Done, (50, 51)),
        (
            AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge { queue: "q".into(), nowait: false })),
            Reply::Purged(2),
            (50, 31),
        ),
        (calls::delete_queue(&s("q")), Reply::Deleted(2), (50, 41)),
    ] {
        world.send(1, call);
        world.request();
        world.reply(Ok(reply));
        let frames = world.frames();
        let [ServerFrame::Method(C1, ok)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((ok.get_amqp_class_id(), ok.get_amqp_method_id()), expected);
    }
}

#[test]
fn access_and_flow_are_answered_by_the_machine() {
    let mut world = World::with_channel();
    world.send(1, AMQPClass::Access(access::AMQPMethod::Request(access::Request::default())));
    assert!(world.next().is_none());
    assert_eq!(&world.out[..], &[1, 0, 1, 0, 0, 0, 6, 0, 30, 0, 11, 0, 1, 0xCE]);
    world.frames();
    let flow = |active| AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active }));
    world.send(1, flow(true));
    assert!(world.next().is_none());
    let ok = channel::AMQPMethod::FlowOk(channel::FlowOk { active: true });
    assert_eq!(world.frames(), [channel_method(1, ok)]);
    world.send(1, flow(false));
    world.actions();
    assert_eq!(world.close(), close(0, 540, "NOT_IMPLEMENTED - active=false", (20, 20)));
}

#[test]
fn what_is_not_supported_closes_the_connection_in_rabbitmqs_words() {
    let prefetch_size = vec![1, 0, 1, 0, 0, 0, 11, 0, 60, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0xCE];
    let immediate = vec![1, 0, 1, 0, 0, 0, 9, 0, 60, 0, 40, 0, 0, 0, 0, 2, 0xCE];
    let recover = vec![1, 0, 1, 0, 0, 0, 5, 0, 60, 0, 110, 0, 0xCE];
    for (bytes, text, blamed) in [
        (prefetch_size, "prefetch_size!=0 (5)", (60, 10)),
        (immediate, "immediate=true", (60, 40)),
        (recover, "requeue=false", (60, 110)),
    ] {
        let mut world = World::with_channel();
        world.raw(&bytes);
        world.actions();
        assert_eq!(world.close(), close(0, 540, &format!("NOT_IMPLEMENTED - {text}"), blamed));
    }
}

#[test]
fn a_consumer_tag_in_use_closes_the_connection() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    world.send(1, calls::consume(&s("other"), &s("c1"), AckMode::Manual));
    world.actions();
    assert_eq!(world.close(), close(0, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'c1'", (60, 20)));
}

#[test]
fn consumers_of_a_channel_may_be_limited() {
    let config = ConnectionConfig { consumers_per_channel: Some(1), ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    world.open_channel(1);
    world.consume(1, AckMode::Manual);
    world.send(1, calls::consume(&s("q"), &s("two"), AckMode::Manual));
    world.actions();
    let text = "NOT_ALLOWED - reached maximum (1) of consumers per channel";
    assert_eq!(world.close(), close(0, 530, text, (60, 20)));
}

#[test]
fn a_prefetch_is_that_of_the_time_when_a_consumer_starts() {
    let mut world = World::with_channel();
    for (count, tag) in [(0, "a"), (10, "b"), (20, "c")] {
        world.send(1, calls::qos(count));
        world.send(1, calls::consume(&s("q"), &s(tag), AckMode::Manual));
        let Request::Consume(consume) = world.request() else { panic!("no consume") };
        assert_eq!(consume.prefetch, count);
        let subscription = SubscriptionId(u64::from(count));
        world.reply(Ok(Reply::Consumed { tag: consume.tag, subscription }));
    }
}

#[test]
fn consume_ok_precedes_the_first_delivery_and_nothing_follows_cancel_ok() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    assert_eq!(world.deliver(1, 1), warren_amqp::Delivered::Written);
    world.frames();
    world.send(1, calls::cancel(&s("c1")));
    assert_eq!(world.request(), Request::Cancel(Cancel { subscription: SubscriptionId(1) }));
    // What its queue had for it before it let it go.
    assert_eq!(world.deliver(1, 2), warren_amqp::Delivered::Written);
    assert_eq!(world.frames().len(), 1);
    assert_eq!(world.connection.end_consumer(C1, SubscriptionId(1), &mut world.out), Some(vec![]));
    assert_eq!(world.deliver(1, 3), warren_amqp::Delivered::NoConsumer);
    world.reply(Ok(Reply::Done));
    let ok = basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag: "c1".into() });
    assert_eq!(world.frames(), [ServerFrame::Method(C1, AMQPClass::Basic(ok))]);
    // What was delivered before may still be acknowledged.
    world.ack(1, false);
    assert!(matches!(world.next(), Some(Action::Settle { deliveries, .. }) if positions(&deliveries) == [1]));
}

#[test]
fn cancelling_an_unknown_tag_is_answered_without_asking() {
    let mut world = World::with_channel();
    world.send(1, calls::cancel(&s("nobody")));
    assert!(world.next().is_none());
    let ok = basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag: "nobody".into() });
    assert_eq!(world.frames(), [ServerFrame::Method(C1, AMQPClass::Basic(ok))]);
}

#[test]
fn a_tag_may_be_used_again_after_its_consumer_ended() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    world.send(1, calls::cancel(&s("c1")));
    world.request();
    world.reply(Ok(Reply::Done));
    world.consume(1, AckMode::Manual);
    world.connection.cancel_consumer(C1, SubscriptionId(1), &mut world.out).unwrap();
    world.consume(1, AckMode::Manual);
}

#[test]
fn a_cancel_by_the_server_is_told_only_to_clients_that_understand_it() {
    for (properties, told) in [(calls::client_properties("c"), true), (FieldTable::default(), false)] {
        let mut world = World::open_with(ConnectionConfig::default(), properties);
        world.open_channel(1);
        world.consume(1, AckMode::Manual);
        world.deliver(1, 1);
        world.frames();
        let ended = world.connection.cancel_consumer(C1, SubscriptionId(1), &mut world.out).unwrap();
        assert_eq!((ended.tag, ended.waiting), (s("c1"), vec![]));
        let cancel = basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag: "c1".into(), nowait: true });
        let expected = told.then_some(ServerFrame::Method(C1, AMQPClass::Basic(cancel)));
        assert_eq!(world.frames(), Vec::from_iter(expected));
        assert_eq!(world.connection.cancel_consumer(C1, SubscriptionId(1), &mut world.out), None);
        world.ack(1, false);
        assert!(matches!(world.next(), Some(Action::Settle { .. })));
    }
}

#[test]
fn a_cancel_that_is_not_answered_when_the_socket_drops_leaves_its_subscription() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    world.consume(2, AckMode::Manual);
    world.send(1, calls::cancel(&s("c1")));
    world.request();
    let actions = world.connection.disconnected();
    let [Action::ChannelClosed { subscriptions, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(subscriptions, &[SubscriptionId(1), SubscriptionId(2)]);
}

#[test]
fn get_is_answered_with_the_message_or_with_empty() {
    let mut world = World::with_channel();
    world.send(1, calls::get(&s("q"), AckMode::Manual));
    assert!(matches!(world.request(), Request::Get(get) if get.ack_mode == AckMode::Manual));
    let got = warren_amqp::GotMessage {
        source: source(4, None),
        redelivered: true,
        counts: warren_amqp::frame::DeliveryCounts::default(),
        message: message(b"got"),
        remaining: 9,
    };
    world.reply(Ok(Reply::Got(Some(got))));
    let expected =
        ServerFrame::GetOk { channel: C1, tag: 1, redelivered: true, remaining: 9, message: message(b"got") };
    assert_eq!(world.frames(), [expected]);
    let handed_over = world.connection.take_handed_over();
    assert_eq!(handed_over.len(), 1);
    assert_eq!((handed_over[0].source, handed_over[0].ack_mode), (source(4, None), AckMode::Manual));
    world.send(1, calls::get(&s("q"), AckMode::Automatic));
    world.request();
    world.reply(Ok(Reply::Got(None)));
    let empty = AMQPClass::Basic(basic::AMQPMethod::GetEmpty(basic::GetEmpty {}));
    assert_eq!(world.frames(), [ServerFrame::Method(C1, empty)]);
}

#[test]
fn recover_gives_everything_back_once_and_answers_unless_it_is_async() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    for position in 1..=3 {
        world.deliver(1, position);
    }
    world.frames();
    world.ack(2, false);
    world.send(1, calls::recover());
    assert!(matches!(world.next(), Some(Action::Settle { .. })));
    let Request::Recover(Recover { deliveries }) = world.request() else { panic!("no recover") };
    assert_eq!(positions(&deliveries), [1, 3]);
    world.reply(Ok(Reply::Done));
    let ok = AMQPClass::Basic(basic::AMQPMethod::RecoverOk(basic::RecoverOk {}));
    assert_eq!(world.frames(), [ServerFrame::Method(C1, ok)]);
    let recover = basic::AMQPMethod::RecoverAsync(basic::RecoverAsync { requeue: true });
    world.send(1, AMQPClass::Basic(recover));
    assert_eq!(world.request(), Request::Recover(Recover { deliveries: vec![] }));
    world.reply(Ok(Reply::Done));
    assert!(world.frames().is_empty());
}

#[test]
fn a_mandatory_message_comes_back_as_it_was_with_the_bare_text() {
    let mut world = World::with_channel();
    client::encode_publish(C1, true, &message(b"lost"), 131_072, &mut world.input);
    let publish = world.publishes().remove(0);
    assert!(publish.mandatory);
    world.connection.return_message(
        C1,
        publish.opening,
        ReplyCode::NoRoute,
        &publish.message,
        &mut world.out,
    );
    let expected =
        ServerFrame::Return { channel: C1, code: 312, text: s("NO_ROUTE"), message: message(b"lost") };
    assert_eq!(world.frames(), [expected]);
}
