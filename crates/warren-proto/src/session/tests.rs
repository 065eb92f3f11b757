//! Session frames: what is encoded comes back, and what is not a frame is refused.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use warren_types::{
    AckMode, Message, NodeId, Position, PositionRange, QueueId, RequestId, SessionId, SessionPublish,
    SubscriptionId,
};

use super::*;
use crate::DecodeError;
use crate::generated::session as wire;

fn range(first: u64, last: u64) -> PositionRange {
    PositionRange { first: Position(first), last: Position(last) }
}

fn message() -> Message {
    Message {
        exchange: "ex".try_into().unwrap(),
        routing_key: "key".try_into().unwrap(),
        properties: Bytes::from_static(b"\x10\x00\x02"),
        body: Bytes::from(vec![9; 3000]),
    }
}

fn delivery() -> Delivery {
    Delivery {
        position: Position(8),
        redelivered: true,
        delivery_count: 3,
        acquired_count: 4,
        message: message(),
    }
}

/// One that is sent and not read would be sent again for ever.
#[test]
fn a_message_of_the_largest_size_that_can_be_configured_passes_both_ways() {
    let large = Message { body: Bytes::from(vec![0; warren_types::BODY_MAX_BYTES]), ..message() };
    let publish = SessionPublish { queues: vec![QueueId(1)], message: large.clone(), delay_ms: 0 };
    let home = HomeFrame::Publish { first_seq: 1, messages: vec![publish] };
    assert!(HomeFrame::decode(home.encode()).unwrap() == home);
    drop(home);
    let deliveries = vec![Delivery { message: large, ..delivery() }];
    let leader = LeaderFrame::Deliver {
        subscription: SubscriptionId(1),
        queue: QueueId(1),
        deliveries,
        active_since: 0,
    };
    assert!(LeaderFrame::decode(leader.encode()).unwrap() == leader);
}

#[test]
fn every_kind_of_home_frame_survives_a_round_trip() {
    let (queue, subscription) = (QueueId(7), SubscriptionId(5));
    let ranges = vec![range(1, 3), range(9, u64::MAX)];
    let subscribe = Subscribe {
        subscription,
        queue,
        prefetch: 10,
        exclusive: true,
        priority: -3,
        ack_mode: AckMode::Automatic,
        single_active: true,
        active: Some(u64::MAX),
        offset: Some(StreamOffset::Since(UnixMillis(5))),
        filter: Some(StreamFilter { values: vec![b"a".to_vec(), Vec::new()], unfiltered: true }),
    };
    let offsets = [
        StreamOffset::First,
        StreamOffset::Last,
        StreamOffset::Next,
        StreamOffset::Offset(0),
        StreamOffset::Offset(9),
    ];
    let reads = |offset| HomeFrame::Subscribe(Subscribe { offset: Some(offset), ..subscribe.clone() });
    let mut frames: Vec<HomeFrame> = offsets.into_iter().map(reads).collect();
    frames.extend([
        HomeFrame::Attach(Attach {
            session: SessionId(u64::MAX),
            epoch: 2,
            node: NodeId(3),
            incarnation: 4,
            subscriptions: vec![subscribe.clone()],
            held: vec![
                Held { queue, subscription: Some(SubscriptionId(0)), ranges: ranges.clone() },
                Held { queue, subscription: None, ranges: ranges.clone() },
            ],
        }),
        HomeFrame::Publish {
            first_seq: 4,
            messages: vec![
                SessionPublish { queues: vec![queue, QueueId(8)], message: message(), delay_ms: 7 },
                SessionPublish { queues: vec![queue], ..SessionPublish::default() },
            ],
        },
        HomeFrame::Subscribe(subscribe),
        HomeFrame::Unsubscribe { subscription },
        HomeFrame::Settle { seq: 1, queue, ranges: ranges.clone(), rejected: true },
        HomeFrame::Return { seq: 2, queue, ranges, failed: true, delivered: false },
        HomeFrame::Credit { subscription, messages: 3, bytes: 4 },
        HomeFrame::SetPrefetch { subscription, prefetch: 6 },
        HomeFrame::Learned { up_to_seq: 7 },
    ]);
    for ask in [
        Ask::Get { queue, ack_mode: AckMode::Manual },
        Ask::Info { queue, uses: false, after_deaths: true },
        Ask::Info { queue, uses: true, after_deaths: false },
        Ask::Purge { queue },
        Ask::CheckDelete { queue, if_unused: true, if_empty: false },
        Ask::List,
        Ask::Browse { queue, after: Position(6), max_messages: 7 },
    ] {
        frames.push(HomeFrame::Request { request: RequestId(1), ask });
    }
    for frame in frames {
        assert_eq!(HomeFrame::decode(frame.encode()), Ok(frame));
    }
}

#[test]
fn every_kind_of_leader_frame_survives_a_round_trip() {
    let subscription = SubscriptionId(5);
    let mut frames = vec![
        LeaderFrame::Attached { epoch: 1, last_seq: 0 },
        LeaderFrame::Confirmed { up_to_seq: 9, rejected: vec![3, 5] },
        LeaderFrame::Settled { up_to_seq: 2 },
        LeaderFrame::Deliver {
            subscription,
            queue: QueueId(1),
            deliveries: vec![delivery()],
            active_since: 3 << 32 | 1,
        },
        LeaderFrame::Cancelled { subscription },
        LeaderFrame::Pace { queue: QueueId(1), pause_ms: 8 },
        LeaderFrame::Pace { queue: QueueId(1), pause_ms: 0 },
        LeaderFrame::NotLeader,
    ];
    for outcome in [SubscribeOutcome::Subscribed, SubscribeOutcome::ExclusiveUse, SubscribeOutcome::NoQueue] {
        for next_offset in [None, Some(0), Some(7)] {
            frames.push(LeaderFrame::Subscribed { subscription, outcome, next_offset });
        }
    }
    let counts = Counts {
        queue: QueueId(1),
        ready: 2,
        unacked: 3,
        consumers: 4,
        ready_bytes: 5,
        delayed: 6,
        active: Some((SessionId(7), SubscriptionId(8))),
        total: Tally {
            publish: 9,
            deliver: 10,
            deliver_no_ack: 11,
            get: 12,
            get_no_ack: 13,
            get_empty: 14,
            redeliver: 15,
            ack: 16,
        },
        recent: Tally::default(),
        recent_ms: 17,
    };
    for answer in [
        Answer::Got { delivery: Some(delivery()), remaining: 4 },
        Answer::Got { delivery: None, remaining: 0 },
        Answer::Info(counts),
        Answer::Purged(0),
        Answer::CheckDelete(DeleteOutcome::May { messages: 6 }),
        Answer::CheckDelete(DeleteOutcome::InUse),
        Answer::CheckDelete(DeleteOutcome::NotEmpty),
        Answer::List(vec![counts]),
        Answer::List(Vec::new()),
        Answer::Browsed { deliveries: vec![delivery()], last: Position(9) },
        Answer::Browsed { deliveries: Vec::new(), last: Position(0) },
        Answer::NoQueue,
    ] {
        frames.push(LeaderFrame::Reply { request: RequestId(1), answer });
    }
    for frame in frames {
        assert_eq!(LeaderFrame::decode(frame.encode()), Ok(frame));
    }
}

#[test]
fn a_decoded_body_is_a_slice_of_the_frame() {
    let publish = SessionPublish { queues: vec![QueueId(1)], message: message(), delay_ms: 0 };
    let bytes = HomeFrame::Publish { first_seq: 1, messages: vec![publish] }.encode();
    let whole = bytes.as_ptr_range();
    let Ok(HomeFrame::Publish { messages, .. }) = HomeFrame::decode(bytes.clone()) else {
        panic!("no publish")
    };
    assert!(whole.contains(&messages[0].message.body.as_ptr()));

    let deliver = LeaderFrame::Deliver {
        subscription: SubscriptionId(1),
        queue: QueueId(1),
        deliveries: vec![delivery()],
        active_since: 0,
    };
    let bytes = deliver.encode();
    let whole = bytes.as_ptr_range();
    let Ok(LeaderFrame::Deliver { deliveries, .. }) = LeaderFrame::decode(bytes.clone()) else {
        panic!("no deliver")
    };
    assert!(whole.contains(&deliveries[0].message.body.as_ptr()));
}

#[test]
fn a_frame_without_a_known_kind_is_refused() {
    // Field 15, which no version has yet; and nothing at all.
    for bytes in [&[0x7a, 0x00][..], &[]] {
        let bytes = Bytes::copy_from_slice(bytes);
        assert!(matches!(HomeFrame::decode(bytes.clone()), Err(DecodeError::Unknown { .. })));
        assert!(matches!(LeaderFrame::decode(bytes), Err(DecodeError::Unknown { .. })));
    }
}

#[test]
fn values_out_of_their_range_are_refused() {
    use wire::home_frame::Frame;
    let settle = |first, count| {
        let ranges = vec![wire::PositionRange { first, count }];
        Frame::Settle(wire::Settle { seq: 1, queue: 1, rejected: false, ranges })
    };
    let publish = |first_seq, queues: Vec<u64>, routing_key: Vec<u8>| {
        let messages = vec![wire::Publish { queues, routing_key: routing_key.into(), ..Default::default() }];
        Frame::Publish(wire::PublishBatch { first_seq, messages })
    };
    for (frame, field) in [
        (settle(0, 3), "ranges"),
        (settle(3, 0), "ranges"),
        (settle(u64::MAX, 2), "ranges"),
        (publish(0, vec![1], vec![]), "publish.first_seq"),
        (publish(u64::MAX, vec![1], vec![]), "publish.first_seq"),
        (publish(1, vec![], vec![]), "publish.queues"),
        (publish(1, vec![1], vec![b'k'; 256]), "publish.routing_key"),
        (publish(1, vec![1], vec![0xff]), "publish.routing_key"),
    ] {
        let bytes = wire::HomeFrame { frame: Some(frame.clone()) }.encode_to_vec();
        let refused = HomeFrame::decode(bytes.into());
        assert_eq!(refused, Err(DecodeError::Field { what: "session HomeFrame", field }), "{frame:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        if let Ok(frame) = HomeFrame::decode(bytes.clone()) {
            prop_assert_eq!(HomeFrame::decode(frame.encode()), Ok(frame));
        }
        if let Ok(frame) = LeaderFrame::decode(bytes) {
            prop_assert_eq!(LeaderFrame::decode(frame.encode()), Ok(frame));
        }
    }
}
