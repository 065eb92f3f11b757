//! From the first octet to `open-ok`, and how a connection ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use warren_amqp::client::{self, ServerFrame, calls};
use warren_amqp::methods::{AMQPClass, connection};
use warren_amqp::{
    Action, ConnectionConfig, ConnectionState, Ending, Limits, Mechanism, Request, Settlement,
};
use warren_types::table::{AMQPValue, FieldTable};
use warren_types::{AckMode, AmqpError, ReplyCode, SubscriptionId};
use world::{C1, World, close, positions, s};

const SILENT: Ending = Ending::Silent { delay_ms: 3_000 };

fn ending(world: &mut World) -> Option<Ending> {
    world.actions().into_iter().find_map(|action| match action {
        Action::Closed(ending) => Some(ending),
        _ => None,
    })
}

/// A connection that has sent its header and this start-ok.
fn started(mechanism: &str, response: &[u8], properties: FieldTable) -> World {
    let mut world = World::fresh();
    world.raw(client::PROTOCOL_HEADER);
    let start_ok = connection::StartOk {
        client_properties: properties,
        mechanism: mechanism.into(),
        response: response.into(),
        locale: "en_US".into(),
    };
    world.send(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)));
    world
}

#[test]
fn the_start_method_offers_nine_capabilities_all_true_and_two_mechanisms() {
    let mut world = World::fresh();
    world.raw(b"AMQP\0\0\x09\x01");
    assert!(world.next().is_none());
    let frames = world.frames();
    let [ServerFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))] = &frames[..]
    else {
        panic!("no start but {frames:?}")
    };
    let Some(AMQPValue::FieldTable(capabilities)) = start.server_properties.inner().get("capabilities")
    else {
        panic!("no capabilities")
    };
    assert_eq!(capabilities.inner().len(), 9);
    assert!(capabilities.inner().values().all(|value| *value == AMQPValue::Boolean(true)));
    assert_eq!(start.mechanisms.as_bytes(), b"PLAIN AMQPLAIN");
    assert_eq!((start.version_major, start.version_minor), (0, 9));
}

#[test]
fn a_wrong_protocol_header_is_answered_with_the_right_one() {
    for header in
        [b"AMQP\0\x01\0\0", b"GET / HT", b"AMQP\x03\x01\0\0", b"AMQP\0\0\x09\0", b"AMQP\x01\x01\x08\0"]
    {
        let mut world = World::fresh();
        world.raw(header);
        assert_eq!(ending(&mut world), Some(Ending::Graceful), "{header:?}");
        assert_eq!(&world.out[..], b"AMQP\0\0\x09\x01");
    }
}

#[test]
fn the_old_header_of_0_9_is_accepted() {
    let mut world = World::fresh();
    world.raw(b"AMQP\x01\x01\x00\x09");
    assert!(world.next().is_none());
    assert_eq!(world.frames().len(), 1);
}

#[test]
fn a_header_in_pieces_waits_for_its_end() {
    let mut world = World::fresh();
    for octet in client::PROTOCOL_HEADER {
        assert!(world.out.is_empty());
        world.raw(&[*octet]);
        assert!(world.next().is_none());
    }
    assert_eq!(world.frames().len(), 1);
}

#[test]
fn plain_and_amqplain_give_user_and_password() {
    let mut amqplain = FieldTable::default();
    amqplain.insert("LOGIN".into(), AMQPValue::LongString("guest".into()));
    amqplain.insert("PASSWORD".into(), AMQPValue::LongString("secret".into()));
    let mut encoded = Vec::new();
    warren_types::table::encode(&amqplain, &mut encoded);
    for (name, mechanism, response) in [
        ("PLAIN", Mechanism::Plain, &b"\0guest\0secret"[..]),
        ("AMQPLAIN", Mechanism::AmqPlain, &encoded[4..]),
    ] {
        let mut world = started(name, response, FieldTable::default());
        let Some(Action::Authenticate { mechanism: got, user, password }) = world.next() else {
            panic!("{name}")
        };
        assert_eq!((got, user.as_str(), &password[..]), (mechanism, "guest", &b"secret"[..]), "{name}");
        assert!(world.next().is_none(), "nothing is read until credentials are checked");
    }
}

#[test]
fn a_malformed_login_ends_silently() {
    for (mechanism, response) in [
        ("PLAIN", &b"guest\0guest"[..]),
        ("PLAIN", b""),
        ("PLAIN", b"\0guest"),
        ("PLAIN", b"\0guest\0a\0b"),
        ("PLAIN", b"\0\xff\xfe\0a"),
        ("AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest"),
        ("AMQPLAIN", b"\xff"),
        ("EXTERNAL", b""),
        ("plain", b"\0guest\0guest"),
    ] {
        let mut world = started(mechanism, response, calls::client_properties("c"));
        assert_eq!(ending(&mut world), Some(SILENT), "{mechanism} {response:?}");
        assert_eq!(world.frames().len(), 1, "only start was sent");
    }
}

#[test]
fn a_refused_login_is_told_only_to_clients_that_understand_it() {
    let refused = || Err(AmqpError::new(ReplyCode::AccessRefused, "whatever"));
    let mut world = started("PLAIN", b"\0guest\0guest", calls::client_properties("c"));
    world.next();
    world.connection.authenticated(refused(), &mut world.out);
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    assert_eq!(world.close(), close(0, 403, text, (0, 0)));
    assert_eq!(ending(&mut world), Some(Ending::ByServer));
    world.send(0, calls::close_ok());
    assert_eq!(ending(&mut world), Some(Ending::Done));

    let mut world = started("PLAIN", b"\0guest\0guest", FieldTable::default());
    world.next();
    world.connection.authenticated(refused(), &mut world.out);
    assert_eq!(ending(&mut world), Some(SILENT));
}

fn tuned(limits: Limits) -> World {
    let mut world = started("PLAIN", b"\0guest\0guest", calls::client_properties("c"));
    world.next();
    world.connection.authenticated(Ok("guest".to_owned()), &mut world.out);
    world.frames();
    world.send(0, calls::tune_ok(limits));
    world
}

#[test]
fn limits_beyond_the_offer_are_refused_with_rabbitmqs_words() {
    let good = Limits { channel_max: 2047, frame_max: 131_072, heartbeat_s: 60 };
    for (limits, text) in [
        (
            Limits { channel_max: 4000, ..good },
            "negotiated channel_max = 4000 is higher than the maximum allowed value (2047)",
        ),
        (
            Limits { channel_max: 0, ..good },
            "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        (
            Limits { frame_max: 0, ..good },
            "negotiated frame_max = 0 is higher than the maximum allowed value (131072)",
        ),
        (
            Limits { frame_max: 131_073, ..good },
            "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (
            Limits { frame_max: 4095, ..good },
            "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)",
        ),
    ] {
        let mut world = tuned(limits);
        assert_eq!(ending(&mut world), Some(Ending::ByServer), "{limits:?}");
        assert_eq!(world.close(), close(0, 530, &format!("NOT_ALLOWED - {text}"), (10, 30)));
    }
}

#[test]
fn the_clients_heartbeat_counts_whatever_was_proposed() {
    for heartbeat_s in [0, 1, 600] {
        let mut world = tuned(Limits { channel_max: 1, frame_max: 8192, heartbeat_s });
        assert!(world.next().is_none());
        assert_eq!(world.connection.limits().heartbeat_s, heartbeat_s);
        assert_eq!(
            world.connection.heartbeat_tick_ms(),
            (heartbeat_s > 0).then_some(u64::from(heartbeat_s) * 500)
        );
    }
}

#[test]
fn a_refused_vhost_closes_with_530_and_blames_open() {
    let mut world = tuned(Limits { channel_max: 1, frame_max: 8192, heartbeat_s: 0 });
    world.send(0, calls::open(&s("nowhere")));
    let Some(Action::OpenVhost { vhost }) = world.next() else { panic!("no open") };
    assert_eq!(vhost, "nowhere");
    let error = AmqpError::new(ReplyCode::NotAllowed, "vhost nowhere not found");
    world.connection.vhost_opened(Err(error), &mut world.out);
    assert_eq!(world.close(), close(0, 530, "NOT_ALLOWED - vhost nowhere not found", (10, 40)));
}

#[test]
fn methods_out_of_order_before_limits_are_agreed_end_silently() {
    let mut world = World::fresh();
    world.raw(client::PROTOCOL_HEADER);
    world.send(0, calls::open(&s("/")));
    assert_eq!(ending(&mut world), Some(SILENT));
    let mut world = started("PLAIN", b"\0guest\0guest", calls::client_properties("c"));
    world.next();
    world.connection.authenticated(Ok("guest".to_owned()), &mut world.out);
    world.send(1, calls::open_channel());
    assert_eq!(ending(&mut world), Some(SILENT));
}

#[test]
fn mistakes_before_open_ok_are_told_once_limits_are_agreed() {
    let good = Limits { channel_max: 1, frame_max: 8192, heartbeat_s: 0 };
    let unexpected = "CHANNEL_ERROR - unexpected method in connection state opening";
    for (frame, code, text, blamed) in [
        (&[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0xCE][..], 504, unexpected, (10, 51)),
        (&[1, 0, 0, 0, 0, 0, 11, 0, 10, 0, 50, 0, 200, 0, 0, 0, 0, 0, 0xCE], 504, unexpected, (10, 50)),
        (
            &[1, 0, 1, 0, 0, 0, 5, 0, 20, 0, 10, 0, 0xCE],
            505,
            "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>",
            (0, 0),
        ),
        (
            &[3, 0, 1, 0, 0, 0, 1, b'x', 0xCE],
            505,
            "UNEXPECTED_FRAME - type 3, all octets = <<\"x\">>",
            (0, 0),
        ),
        (
            &[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0],
            501,
            "FRAME_ERROR - type 1, all octets = <<0,10,0,51>>: {invalid_frame_end_marker,0}",
            (0, 0),
        ),
    ] {
        let mut world = tuned(good);
        world.raw(frame);
        assert!(ending(&mut world).is_some(), "{frame:?}");
        assert_eq!(world.close(), close(0, code, text, blamed), "{frame:?}");
    }
}

#[test]
fn start_ok_must_fit_in_8_kib() {
    let mut world = World::fresh();
    world.raw(client::PROTOCOL_HEADER);
    world.raw(&[1, 0, 0, 0, 0, 0x20, 1]);
    assert_eq!(ending(&mut world), Some(SILENT));
}

#[test]
fn everything_may_come_in_one_piece() {
    let mut world = World::fresh();
    world.raw(client::PROTOCOL_HEADER);
    world.send(0, calls::login("guest", "guest", calls::client_properties("c")));
    world.send(0, calls::tune_ok(Limits { channel_max: 9, frame_max: 8192, heartbeat_s: 0 }));
    world.send(0, calls::open(&s("/")));
    world.send(1, calls::open_channel());
    world.publish(1, b"body");
    assert!(matches!(world.next(), Some(Action::Authenticate { .. })));
    world.connection.authenticated(Ok("guest".to_owned()), &mut world.out);
    assert!(matches!(world.next(), Some(Action::OpenVhost { .. })));
    world.connection.vhost_opened(Ok(()), &mut world.out);
    assert_eq!(world.publishes().len(), 1);
    assert_eq!(world.connection.state(), ConnectionState::Running);
    assert_eq!((world.connection.user(), world.connection.vhost()), ("guest", "/"));
}

#[test]
fn a_client_that_closes_hears_close_ok_only_after_the_shell_cleaned_up() {
    let mut world = World::with_channel();
    world.consume(7, AckMode::Manual);
    world.deliver(7, 1);
    world.frames();
    world.send(0, calls::close());
    let Some(Action::ChannelClosed { channel, returned, subscriptions, .. }) = world.next() else {
        panic!("channel not reported")
    };
    assert_eq!((channel, positions(&returned), subscriptions), (C1, vec![1], vec![SubscriptionId(7)]));
    assert!(matches!(world.next(), Some(Action::Closing)));
    assert!(world.next().is_none());
    assert!(world.frames().is_empty());
    world.connection.closing_done(&mut world.out);
    assert!(matches!(world.next(), Some(Action::Closed(Ending::Graceful))));
    let close_ok = AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
    let close_ok = ServerFrame::Method(warren_types::ChannelNumber(0), close_ok);
    assert_eq!(world.frames(), std::slice::from_ref(&close_ok));
    assert_eq!(world.connection.state(), ConnectionState::Closing);
    // One who closes again is answered again; whatever else comes is nobody's.
    world.send(1, calls::open_channel());
    world.send(0, calls::close());
    assert!(world.next().is_none());
    assert_eq!(world.frames(), [close_ok]);
    world.send(0, calls::close_ok());
    assert_eq!(ending(&mut world), Some(Ending::Done));
}

#[test]
fn after_the_servers_close_everything_but_close_and_close_ok_is_discarded() {
    let mut world = World::with_channel();
    let error = AmqpError::new(
        ReplyCode::ConnectionForced,
        "broker forced connection closure with reason 'shutdown'",
    );
    world.connection.close_connection(error, &mut world.out);
    let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    assert_eq!(world.close(), close(0, 320, text, (0, 0)));
    world.publish(1, b"late");
    world.send(2, calls::open_channel());
    world.send(0, calls::close());
    let actions = world.actions();
    assert!(
        matches!(actions[..], [Action::ChannelClosed { .. }, Action::Closed(Ending::ByServer)]),
        "{actions:?}"
    );
    assert_eq!(world.frames().len(), 1, "the client's close is answered");
    world.send(0, calls::close_ok());
    assert_eq!(ending(&mut world), Some(Ending::Done));
}

#[test]
fn a_lost_socket_reports_settlements_and_every_channel() {
    let mut world = World::with_channel();
    world.open_channel(2);
    world.consume(7, AckMode::Manual);
    for position in 1..=3 {
        world.deliver(7, position);
    }
    world.ack(1, false);
    client::encode_reject(C1, 2, false, &mut world.input);
    let Some(Action::Settle { outcome: Settlement::Ack, .. }) = world.next() else { panic!("no ack") };
    let actions = world.connection.disconnected();
    let [
        Action::Settle { outcome: Settlement::Reject, deliveries, .. },
        Action::ChannelClosed { returned, subscriptions, .. },
        Action::ChannelClosed { .. },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((positions(deliveries), positions(returned)), (vec![2], vec![3]));
    assert_eq!(subscriptions, &[SubscriptionId(7)]);
    world.publish(1, b"late");
    assert!(world.next().is_none());
}

#[test]
fn update_secret_is_asked_and_answered_on_channel_0() {
    let mut world = World::open();
    let update = connection::UpdateSecret { new_secret: "new".into(), reason: "expired".into() };
    world.send(0, AMQPClass::Connection(connection::AMQPMethod::UpdateSecret(update)));
    let Request::UpdateSecret(update) = world.request() else { panic!("no update") };
    assert_eq!((&update.secret[..], update.reason.as_str()), (&b"new"[..], "expired"));
    world.connection.reply(warren_types::ChannelNumber(0), Ok(warren_amqp::Reply::Done), &mut world.out);
    let ok = AMQPClass::Connection(connection::AMQPMethod::UpdateSecretOk(connection::UpdateSecretOk {}));
    assert_eq!(world.frames(), [ServerFrame::Method(warren_types::ChannelNumber(0), ok)]);
}

#[test]
fn blocked_is_told_once_and_only_to_clients_that_understand_it() {
    let mut world = World::open();
    world.connection.block("low on memory", &mut world.out);
    world.connection.block("low on disk", &mut world.out);
    assert_eq!(world.connection.state(), ConnectionState::Blocked);
    world.connection.unblock(&mut world.out);
    world.connection.unblock(&mut world.out);
    let methods: Vec<_> = world.frames();
    assert_eq!(
        methods,
        [
            connection::AMQPMethod::Blocked(connection::Blocked { reason: "low on memory".into() }),
            connection::AMQPMethod::Unblocked(connection::Unblocked {}),
        ]
        .map(|method| ServerFrame::Method(warren_types::ChannelNumber(0), AMQPClass::Connection(method)))
    );
    let mut world = World::open_with(ConnectionConfig::default(), FieldTable::default());
    world.connection.block("low on memory", &mut world.out);
    world.connection.unblock(&mut world.out);
    assert!(world.frames().is_empty());
}

#[test]
fn a_second_start_ok_is_a_channel_error_of_the_connection() {
    let mut world = World::open();
    world.send(0, calls::login("guest", "guest", FieldTable::default()));
    assert_eq!(ending(&mut world), Some(Ending::ByServer));
    let text = "CHANNEL_ERROR - unexpected method in connection state running";
    assert_eq!(world.close(), close(0, 504, text, (10, 11)));
}
