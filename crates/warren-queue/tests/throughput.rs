//! How many messages a second pass one leader on one core: `cargo test --release -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::time::Instant;

use kit::*;
use warren_proto::session::HomeFrame;
use warren_proto::session::LeaderFrame;
use warren_queue::{HostLeader, Input, MemoryStore, Output, SessionKey};
use warren_types::{Message, SessionPublish, SubscriptionId, UnixMillis};

#[test]
#[ignore = "a measurement"]
fn messages_pass_through_a_leader() {
    let directory = Directory::with([1]);
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 2000);
    let Bench { mut leader, now, .. } = bench;
    let mut store = MemoryStore::new();
    let body = bytes::Bytes::from(vec![7; 1024]);
    let publish =
        SessionPublish { queues: vec![Q], message: Message { body, ..Message::default() }, delay_ms: 0 };
    let (batch, total) = (64_u64, 500_000_u64);
    let (mut sent, mut settled, mut stored) = (0, 0, std::time::Duration::ZERO);
    let started = Instant::now();
    let mut settle_seq = 0;
    while sent < total {
        let messages = vec![publish.clone(); batch as usize];
        let frame = HomeFrame::Publish { first_seq: sent + 1, messages };
        sent += batch;
        let mut inputs = vec![Input::Frame(SessionKey(1), frame)];
        while !inputs.is_empty() {
            let outputs = turn(&mut leader, &directory, now, std::mem::take(&mut inputs));
            for output in outputs {
                match output {
                    Output::Record(record) => {
                        let began = Instant::now();
                        inputs.push(Input::Applied(vec![store.apply(record)]));
                        stored += began.elapsed();
                    }
                    Output::Send(_, LeaderFrame::Deliver { deliveries, .. }) => {
                        settle_seq += 1;
                        let (first, last) =
                            (deliveries[0].position, deliveries[deliveries.len() - 1].position);
                        settled += deliveries.len() as u64;
                        let ranges = vec![range(first.0, last.0)];
                        let settle = HomeFrame::Settle { seq: settle_seq, queue: Q, ranges, rejected: false };
                        inputs.push(Input::Frame(SessionKey(1), settle));
                        inputs.push(Input::Frame(
                            SessionKey(1),
                            HomeFrame::Credit {
                                subscription: SubscriptionId(10),
                                messages: deliveries.len() as u32,
                                bytes: 1024 * deliveries.len() as u64,
                            },
                        ));
                    }
                    Output::Send(..)
                    | Output::Load { .. }
                    | Output::DeleteQueue { .. }
                    | Output::Pace { .. }
                    | Output::DeadLetter(_) => {}
                }
            }
        }
    }
    let took = started.elapsed() - stored;
    println!(
        "{} messages/s in the leader ({settled} delivered and settled)",
        (sent as f64 / took.as_secs_f64()) as u64
    );
    assert_eq!(settled, sent);
}

fn turn(leader: &mut HostLeader, directory: &Directory, now: UnixMillis, inputs: Vec<Input>) -> Vec<Output> {
    let mut outputs = Vec::new();
    for input in inputs {
        leader.step(now, directory, input, &mut outputs);
    }
    leader.flush(now, &mut outputs);
    outputs
}
