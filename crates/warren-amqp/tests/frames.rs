//! Frames that are wrong, and what the client is told (0-9-1 §4.2).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use warren_amqp::client::{self, calls};
use warren_amqp::methods::{AMQPClass, queue};
use warren_amqp::{Action, ConnectionConfig, ConnectionState, Ending};
use warren_types::table::{AMQPValue, FieldTable};
use world::{C1, Close, World, close, message, s};

fn closed_by(bytes: &[u8]) -> Close {
    let mut world = World::with_channel();
    world.raw(bytes);
    let actions = world.actions();
    assert!(
        matches!(
            actions[..],
            [Action::ChannelClosed { .. }, Action::Closed(Ending::ByServer | Ending::Silent { .. })]
        ),
        "{bytes:?}: {actions:?}"
    );
    world.close()
}

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, channel];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(0xCE);
    frame
}

#[test]
fn malformed_frames_are_answered_with_rabbitmqs_words() {
    let mut bad_end = frame(1, 1, b"abcd");
    *bad_end.last_mut().unwrap() = 0;
    let mut long_bad_end = frame(1, 1, &[b'x'; 20]);
    *long_bad_end.last_mut().unwrap() = 255;
    let broken_line = format!(
        "FRAME_ERROR - type 1, first 16 octets = <<\"xxxxxxxxxxxxxxxx\">>: {{invalid_frame_end_marker,\n{}255}}",
        " ".repeat(51)
    );
    let too_large = [&[1, 0, 1][..], &131_073_u32.to_be_bytes()].concat();
    for (bytes, code, text) in [
        (frame(4, 1, b"abcd"), 501, "FRAME_ERROR - type 4, all octets = <<\"abcd\">>: unknown_frame"),
        (frame(4, 1, &[1, 2]), 501, "FRAME_ERROR - type 4, all octets = <<1,2>>: unknown_frame"),
        (
            frame(9, 0, b"12345678901234567"),
            501,
            "FRAME_ERROR - type 9, first 16 octets = <<\"1234567890123456\">>: unknown_frame",
        ),
        (frame(8, 0, b"x"), 501, "FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame"),
        (frame(8, 1, b""), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
        (frame(3, 0, b""), 505, "UNEXPECTED_FRAME - type 3, all octets = <<>>"),
        (frame(2, 0, &[0, 60, 0, 0]), 501, "FRAME_ERROR - type 2, all octets = <<0,60,0,0>>: unknown_frame"),
        (frame(2, 1, b""), 501, "FRAME_ERROR - type 2, all octets = <<>>: unknown_frame"),
        (frame(1, 1, &[0, 60]), 501, "FRAME_ERROR - type 1, all octets = <<0,60>>: unknown_frame"),
        (bad_end, 501, "FRAME_ERROR - type 1, all octets = <<\"abcd\">>: {invalid_frame_end_marker,0}"),
        (long_bad_end, 501, &broken_line),
        (too_large, 501, "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}"),
    ] {
        assert_eq!(closed_by(&bytes), close(0, code, text, (0, 0)), "{bytes:?}");
    }
}

#[test]
fn a_frame_may_be_wrong_about_its_eight_bytes_of_overhead() {
    let mut world = World::with_channel();
    client::encode_publish(C1, false, &message(&[]), 131_072, &mut world.input);
    world.input.clear();
    let body = vec![7_u8; 131_072];
    client::encode_publish(C1, false, &message(&body), 131_072 + 8, &mut world.input);
    assert_eq!(world.publishes()[0].message.body, body);
}

#[test]
fn after_framing_is_lost_nothing_is_read_any_more() {
    let mut world = World::with_channel();
    world.raw(&[1, 0, 1, 0, 0, 0, 0, 0]);
    world.actions();
    world.close();
    world.send(0, calls::close_ok());
    assert!(world.actions().is_empty());
    assert!(world.input.is_empty());
    assert_eq!(world.connection.state(), ConnectionState::Closed);
}

fn publish_method() -> Vec<u8> {
    frame(1, 1, &[0, 60, 0, 40, 0, 0, 0, 1, b'q', 0])
}

fn header(class: u8, size: u64) -> Vec<u8> {
    let payload = [&[0, class, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat();
    frame(2, 1, &payload)
}

#[test]
fn content_out_of_sequence_is_an_unexpected_frame() {
    let no_method = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    let no_header =
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    let no_body = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    for (frames, text, blamed) in [
        (vec![header(60, 1)], no_method, (0, 0)),
        (vec![frame(3, 1, b"x")], no_method, (0, 0)),
        (vec![publish_method(), publish_method()], no_header, (60, 40)),
        (vec![publish_method(), frame(3, 1, b"x")], no_header, (60, 40)),
        (
            vec![publish_method(), header(50, 1)],
            "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
            (60, 40),
        ),
        (vec![publish_method(), header(60, 1), publish_method()], no_body, (60, 40)),
        (vec![publish_method(), header(60, 1), header(60, 1)], no_body, (60, 40)),
    ] {
        assert_eq!(closed_by(&frames.concat()), close(0, 505, text, blamed));
    }
}

#[test]
fn more_body_than_announced_and_announcing_too_much_are_frame_errors() {
    let more = [publish_method(), header(60, 1), frame(3, 1, b"xy")].concat();
    let text = "FRAME_ERROR - content body frame exceeds remaining content size";
    assert_eq!(closed_by(&more), close(0, 501, text, (60, 40)));
    let huge = [publish_method(), header(60, 536_870_913)].concat();
    let text = "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912";
    assert_eq!(closed_by(&huge), close(0, 501, text, (60, 40)));
}

#[test]
fn an_oversized_message_closes_its_channel_only_and_its_body_is_dropped() {
    let config = ConnectionConfig { max_message_size: 10, ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    world.open_channel(1);
    world.open_channel(2);
    world.publish(1, &[0; 11]);
    world.publish(2, &[0; 10]);
    let actions = world.actions();
    let [Action::ChannelClosed { .. }, Action::Publish(publish)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(publish.message.body.len(), 10);
    let text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10";
    assert_eq!(world.close(), close(1, 406, text, (60, 40)));
}

#[test]
fn bodies_in_several_frames_are_joined_and_one_frame_is_not_copied() {
    let mut world = World::with_channel();
    let body: Vec<u8> = (0..100_u8).collect();
    client::encode_publish(C1, true, &message(&body), 8 + 7, &mut world.input);
    client::encode_publish(C1, false, &message(b"one"), 131_072, &mut world.input);
    client::encode_publish(C1, false, &message(b""), 131_072, &mut world.input);
    let publishes = world.publishes();
    assert_eq!(publishes.len(), 3);
    assert_eq!((publishes[0].mandatory, &publishes[0].message.body[..]), (true, &body[..]));
    assert_eq!(publishes[1].message, message(b"one"));
    assert_eq!(publishes[2].message, message(b""));
}

#[test]
fn a_message_that_comes_octet_by_octet_is_the_same_message() {
    let mut world = World::with_channel();
    let mut bytes = bytes::BytesMut::new();
    client::encode_publish(C1, true, &message(b"slowly"), 8 + 2, &mut bytes);
    let (last, rest) = bytes.split_last().unwrap();
    for octet in rest {
        world.raw(&[*octet]);
        assert!(world.next().is_none());
    }
    world.raw(&[*last]);
    assert_eq!(world.publishes()[0].message, message(b"slowly"));
}

#[test]
fn channels_may_interleave_their_frames() {
    let mut world = World::with_channel();
    world.open_channel(2);
    let on_2 = |mut frame: Vec<u8>| {
        frame[2] = 2;
        frame
    };
    world.raw(&publish_method());
    world.raw(&on_2(publish_method()));
    world.raw(&on_2(header(60, 2)));
    world.raw(&header(60, 1));
    world.raw(&on_2(frame(3, 1, b"a")));
    world.raw(&frame(3, 1, b"x"));
    world.raw(&on_2(frame(3, 1, b"b")));
    let bodies: Vec<_> =
        world.publishes().into_iter().map(|publish| (publish.channel.0, publish.message.body)).collect();
    assert_eq!(bodies, [(1, "x".into()), (2, "ab".into())]);
}

#[test]
fn methods_that_cannot_be_decoded_are_blamed() {
    for (payload, code, text, blamed) in [
        (&[0, 50, 0, 10, 0][..], 501, "FRAME_ERROR - cannot decode <<0>>", (50, 10)),
        (&[0, 60, 0, 80, 0, 0], 501, "FRAME_ERROR - cannot decode <<0,0>>", (60, 80)),
        (
            &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9],
            501,
            "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,1,0,9>>",
            (60, 80),
        ),
        (&[0, 99, 0, 1], 503, "COMMAND_INVALID - unimplemented method 99,1", (99, 1)),
        (&[0, 50, 0, 30, 0, 0, 1, 0xFF, 0], 501, "FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0)),
        (&[0, 60, 0, 40, 0, 0, 1, 0xFF, 0, 0], 501, "FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0)),
        (
            &[0, 50, 0, 10, 0, 0, 0, 0, 0, 0, 0, 3, 1, b'k', b'z'],
            502,
            "SYNTAX_ERROR - unknown field table type tag 0x7a",
            (50, 10),
        ),
    ] {
        assert_eq!(closed_by(&frame(1, 1, payload)), close(0, code, text, blamed), "{payload:?}");
    }
}

#[test]
fn methods_of_the_server_are_not_for_clients_to_send() {
    let ok = AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}));
    let mut world = World::with_channel();
    world.send(1, ok);
    world.actions();
    assert_eq!(world.close(), close(0, 503, "COMMAND_INVALID - unimplemented method", (50, 21)));
}

#[test]
fn a_table_nested_ten_thousand_deep_closes_with_502() {
    let mut table = Vec::new();
    for left in (0..10_000_u32).rev() {
        table.extend_from_slice(&(left * 6).to_be_bytes());
        if left > 0 {
            table.extend_from_slice(&[0, b'F']);
        }
    }
    let payload = [&[0, 50, 0, 10, 0, 0, 1, b'q', 0][..], &table].concat();
    let text = "SYNTAX_ERROR - field tables nested more than 64 deep";
    assert_eq!(closed_by(&frame(1, 1, &payload)), close(0, 502, text, (50, 10)));
    // The same in the headers of a message.
    let properties = [&[0x20, 0][..], &table].concat();
    let payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &properties].concat();
    let bytes = [publish_method(), frame(2, 1, &payload)].concat();
    assert_eq!(closed_by(&bytes), close(0, 502, text, (60, 40)));
}

#[test]
fn of_equal_keys_in_a_table_the_first_counts() {
    let mut world = World::with_channel();
    let table = [1, b'a', b'I', 0, 0, 0, 1, 1, b'a', b'I', 0, 0, 0, 2];
    let payload =
        [&[0, 50, 0, 10, 0, 0, 1, b'q', 0][..], &u32::try_from(table.len()).unwrap().to_be_bytes(), &table]
            .concat();
    world.raw(&frame(1, 1, &payload));
    let warren_amqp::Request::QueueDeclare(declare) = world.request() else { panic!("no declare") };
    assert_eq!(declare.arguments.inner().get("a"), Some(&AMQPValue::LongInt(1)));
}

#[test]
fn unfinished_messages_of_all_channels_together_are_bounded() {
    let config = ConnectionConfig { max_held_bytes: 10_000, ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    for number in 1..=10 {
        world.open_channel(number);
    }
    for number in 1..=10 {
        for mut piece in [publish_method(), header(60, 100_000), frame(3, 1, &[0; 2_000])] {
            piece[2] = number;
            world.raw(&piece);
        }
    }
    let actions = world.actions();
    assert!(matches!(actions.last(), Some(Action::Closed(Ending::ByServer))), "{actions:?}");
    assert_eq!(world.close().code, 506);
}

#[test]
fn finished_messages_do_not_count_against_that_bound() {
    let config = ConnectionConfig { max_held_bytes: 10_000, ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    world.open_channel(1);
    for _ in 0..50 {
        client::encode_publish(C1, false, &message(&[0; 3_000]), 8 + 1_000, &mut world.input);
    }
    // One that is left unfinished when its channel closes.
    assert_eq!(world.publishes().len(), 50);
    for _ in 0..50 {
        world.raw(&[publish_method(), header(60, 6_000), frame(3, 1, &[0; 1_000])].concat());
        assert!(world.next().is_none());
        let error = warren_types::AmqpError::new(warren_types::ReplyCode::NotFound, "gone");
        let opening = world.connection.channels().next().unwrap().opening;
        world.connection.fail_channel(C1, opening, error, 60, 40, &mut world.out);
        world.send(1, calls::close_channel_ok());
        world.actions();
        world.frames();
        world.open_channel(1);
    }
}

#[test]
fn reply_texts_are_cut_at_255_bytes() {
    let mut world = World::with_channel();
    world.send(1, calls::declare_queue(&s("q"), FieldTable::default()));
    world.request();
    let error = warren_types::AmqpError::new(warren_types::ReplyCode::NotFound, "é".repeat(300));
    world.reply(Err(error));
    let close = world.close();
    assert!(close.text.len() <= 255 && close.text.ends_with("..."), "{}", close.text);
}

#[test]
fn a_content_header_with_a_weight_is_none() {
    let header = [&[0, 60, 0, 1][..], &1_u64.to_be_bytes(), &[0, 0]].concat();
    let text =
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    let bytes = [publish_method(), frame(2, 1, &header)].concat();
    assert_eq!(closed_by(&bytes), close(0, 505, text, (60, 40)));
}

#[test]
fn where_frames_are_lost_no_close_ok_is_waited_for() {
    let mut world = World::with_channel();
    world.raw(&[1, 0, 1, 0, 0, 0, 1, 0, 0]);
    let closed = world.actions().into_iter().find_map(|action| match action {
        Action::Closed(ending) => Some(ending),
        _ => None,
    });
    assert_eq!(closed, Some(Ending::Silent { delay_ms: 3_000 }));
}
