//! Replicas on disk: checkpoints, crashes, moved bodies, snapshots.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod kit;

use std::path::Path;

use bytes::Bytes;
use kit::{
    G, Naive, Q1, Q2, any_record, append, crash_image, enqueue, entry, message, open, ranges, record, settle,
    wait,
};
use proptest::prelude::*;
use warren_proto::shard::{Enqueue, EnqueuedMessage, Op, Record};
use warren_store::{LogEntry, Replica, Store, StoreError};
use warren_types::{LogIndex, Position, QueueId, SessionId, ShardId, Term};

const SHARD: ShardId = ShardId(1);

/// One node's share of one shard: appends to its log and applies.
struct World {
    store: Store,
    replica: Replica,
    next: u64,
}

impl World {
    fn open(dir: &Path) -> Self {
        let store = open(dir);
        let replica = store.replica(SHARD).unwrap();
        let log = store.log(G).unwrap();
        // What the checkpoint does not cover comes from the log.
        let (applied, _) = replica.applied();
        let mut next = applied.0 + 1;
        if let Some((_, last)) = log.first_last() {
            while next <= last.0 {
                for entry in log.read(LogIndex(next), LogIndex(last.0 + 1), 1 << 20).unwrap() {
                    replica.apply(entry.index, entry.term, entry.payload).unwrap();
                    next += 1;
                }
            }
        }
        Self { store, replica, next }
    }

    fn record(&mut self, record: &Record) -> Vec<Position> {
        let payload = record.encode();
        append(&self.store.log(G).unwrap(), vec![entry(self.next, payload.clone())]);
        let applied = self.replica.apply(LogIndex(self.next), Term(1), payload).unwrap();
        assert_eq!(applied.record, *record);
        self.next += 1;
        applied.positions
    }

    fn ops(&mut self, ops: impl Into<Vec<Op>>) {
        self.record(&record(ops));
    }

    fn checkpoint(&self, purge_up_to: u64) -> u64 {
        let part = self.replica.checkpoint_part(LogIndex(purge_up_to), &mut { usize::MAX }).unwrap();
        let purged = part.purge_up_to();
        self.store.checkpoint(vec![part]).unwrap();
        let log = self.store.log(G).unwrap();
        if log.first_last().is_some_and(|(first, _)| first <= purged) {
            wait(|done| log.purge(purged, Bytes::from("purged"), done)).unwrap();
        }
        purged.0
    }

    /// Everything in a queue: position, delivery count, body.
    fn load(&self, queue: QueueId) -> Vec<(u64, u32, Bytes)> {
        self.load_by(queue, 7, 2000)
    }

    fn load_by(&self, queue: QueueId, max_messages: usize, max_bytes: usize) -> Vec<(u64, u32, Bytes)> {
        let mut all = Vec::new();
        let mut after = Position(0);
        loop {
            let (messages, end) = self.replica.load(queue, after, max_messages, max_bytes).unwrap();
            assert!(messages.len() <= max_messages);
            assert!(end || !messages.is_empty(), "neither messages nor the end");
            for stored in messages {
                assert!(stored.position > after);
                after = stored.position;
                assert_eq!(stored.message.exchange.as_str(), "amq.direct");
                assert_eq!(stored.message.routing_key.as_str(), "key");
                assert_eq!(stored.message.properties[..], [0, 0]);
                all.push((stored.position.0, stored.delivery_count, stored.message.body));
            }
            if end {
                return all;
            }
        }
    }

    fn bodies(&self, queue: QueueId) -> Vec<String> {
        self.load(queue).into_iter().map(|(_, _, body)| String::from_utf8(body.to_vec()).unwrap()).collect()
    }

    fn stored(&self) -> (u64, u64) {
        self.replica.stored().unwrap()
    }
}

#[test]
fn a_lane_of_a_queue_is_a_queue_of_its_own_before_and_after_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    // The leader keeps priorities, buckets of time and keys under the queue's number with a lane in its top bits.
    let lane = QueueId(0xffff << 48 | Q1.0);
    world.ops([enqueue(1, 3, &[(&[Q1], "plain"), (&[lane], "a"), (&[lane], "b")])]);
    world.ops([settle(lane, &[(1, 1)])]);
    assert_eq!((world.bodies(Q1), world.bodies(lane)), (vec!["plain".to_owned()], vec!["b".to_owned()]));
    world.checkpoint(2);
    drop(world);
    let mut world = World::open(dir.path());
    assert_eq!((world.bodies(Q1), world.bodies(lane)), (vec!["plain".to_owned()], vec!["b".to_owned()]));
    world.ops([Op::DropQueue { queue: lane }]);
    world.checkpoint(3);
    assert_eq!((world.bodies(Q1), world.bodies(lane)), (vec!["plain".to_owned()], Vec::new()));
    assert_eq!(world.stored(), (1, 0));
}

#[test]
fn messages_are_loaded_from_the_log_in_order_and_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    world.ops([enqueue(1, 1, &[(&[Q1], "a"), (&[Q2], "x"), (&[Q1, Q2], "b"), (&[Q1], "c")])]);
    world.ops([enqueue(1, 5, &[(&[Q2], "y"), (&[Q1], "d")])]);
    assert_eq!(world.bodies(Q1), ["a", "b", "c", "d"]);
    assert_eq!(world.bodies(Q2), ["x", "b", "y"]);
    assert_eq!(world.bodies(QueueId(9)), [""; 0]);
    let (messages, end) = world.replica.load(Q1, Position(1), 2, 1000).unwrap();
    assert_eq!(messages.iter().map(|message| message.position.0).collect::<Vec<_>>(), [2, 3]);
    assert!(!end);
    // A message larger than what is asked for comes alone.
    let (messages, end) = world.replica.load(Q1, Position(0), 10, 0).unwrap();
    assert_eq!((messages.len(), end), (1, false));
    world.ops([settle(Q1, &[(2, 3)]), Op::Return { queue: Q1, ranges: ranges(&[(4, 4)]) }]);
    assert_eq!(world.load(Q1), [(1, 0, Bytes::from("a")), (4, 1, Bytes::from("d"))]);
}

#[test]
fn a_repeated_publish_does_not_shift_the_messages_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    world.ops([enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b")])]);
    world.ops([
        enqueue(2, 1, &[(&[Q1], "other")]),
        enqueue(1, 2, &[(&[Q1], "b again"), (&[Q1], "c")]),
        enqueue(2, 1, &[(&[Q1], "other again")]),
        enqueue(2, 2, &[(&[Q1], "more")]),
    ]);
    assert_eq!(world.bodies(Q1), ["a", "b", "other", "c", "more"]);
    world.checkpoint(2);
    assert_eq!(world.bodies(Q1), ["a", "b", "other", "c", "more"]);
}

#[test]
fn a_backlog_moved_at_a_purge_is_loaded_after_a_crash() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::open(dir.path());
    for index in 1..=20 {
        let seq = index * 2;
        world.ops([enqueue(
            1,
            seq,
            &[(&[Q1], &format!("own {index}")), (&[Q1, Q2], &format!("shared {index}"))],
        )]);
    }
    world.ops([settle(Q1, &[(1, 10)]), Op::Return { queue: Q1, ranges: ranges(&[(11, 12)]) }]);
    let before = (world.load(Q1), world.load(Q2));
    assert_eq!(before.0.len(), 30);
    assert_eq!(world.checkpoint(15), 15);
    assert_eq!((world.load(Q1), world.load(Q2)), before);
    // Of Q1 positions 11 to 30, of Q2 1 to 15; 15 bodies are shared.
    assert_eq!(world.stored(), (35, 15));
    crash_image(dir.path(), image.path());

    let after = World::open(image.path());
    assert_eq!(after.store.log(G).unwrap().first_last(), Some((LogIndex(16), LogIndex(21))));
    assert_eq!((after.load(Q1), after.load(Q2)), before);
    assert_eq!(after.replica.fingerprint(), world.replica.fingerprint());
}

#[test]
fn bodies_are_freed_when_nothing_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    for index in 1..=10 {
        world.ops([enqueue(1, index * 2, &[(&[Q1], "own"), (&[Q1, Q2], "shared")])]);
    }
    world.checkpoint(10);
    assert_eq!(world.stored(), (30, 10));
    // A shared body stays while one of its entry's messages does.
    world.ops([settle(Q1, &[(1, 20)])]);
    world.checkpoint(11);
    assert_eq!(world.stored(), (10, 10));
    world.ops([settle(Q2, &[(3, 4)])]);
    world.checkpoint(12);
    assert_eq!(world.stored(), (8, 8));
    assert_eq!(world.bodies(Q2).len(), 8);
    world.ops([Op::DropQueue { queue: Q2 }]);
    world.checkpoint(13);
    assert_eq!(world.stored(), (0, 0));
}

#[test]
fn what_a_restart_finds_is_freed_like_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut world = World::open(dir.path());
        for index in 1..=10 {
            world.ops([enqueue(1, index * 2, &[(&[Q1], "own"), (&[Q1, Q2], "shared")])]);
        }
        world.checkpoint(7);
        world.store.shutdown();
    }
    let mut world = World::open(dir.path());
    world.ops([settle(Q1, &[(1, 20)]), settle(Q2, &[(1, 9)])]);
    world.checkpoint(11);
    assert_eq!(world.stored(), (1, 1));
    assert_eq!(world.bodies(Q2), ["shared"]);
}

#[test]
fn a_message_consumed_before_the_purge_is_never_moved() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    world.ops([enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b")])]);
    world.ops([settle(Q1, &[(1, 2)])]);
    world.checkpoint(2);
    assert_eq!(world.stored(), (0, 0));
}

#[test]
fn what_no_queue_needs_ends_where_the_first_needed_body_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    assert_eq!(world.replica.needless(), LogIndex(0));
    for seq in 1..=4 {
        world.ops([enqueue(1, seq, &[(&[Q1], "a")])]);
    }
    assert_eq!(world.replica.needless(), LogIndex(0));
    world.ops([settle(Q1, &[(1, 2), (4, 4)])]);
    assert_eq!(world.replica.needless(), LogIndex(2));
    assert_eq!(world.checkpoint(2), 2);
    assert_eq!(world.stored(), (0, 0), "nothing was moved for it");
    assert_eq!(world.checkpoint(3), 3);
    assert_eq!((world.stored(), world.replica.moved()), ((1, 0), LogIndex(3)));
    assert_eq!(world.replica.needless(), LogIndex(5), "the rest of the log brought nothing that is left");
    drop(world);
    assert_eq!(World::open(dir.path()).replica.needless(), LogIndex(5));
}

#[test]
fn a_purge_waits_for_the_checkpoint_that_covers_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    for seq in 1..=5 {
        world.ops([enqueue(1, seq, &[(&[Q1], "a")])]);
    }
    let log = world.store.log(G).unwrap();
    let part = world.replica.checkpoint_part(LogIndex(3), &mut { usize::MAX }).unwrap();
    assert_eq!((part.applied(), part.purge_up_to()), (LogIndex(5), LogIndex(3)));
    let refused = StoreError::PurgeTooFar { group: G, up_to: LogIndex(3), durable: LogIndex(0) };
    assert_eq!(wait(|done| log.purge(LogIndex(3), Bytes::new(), done)), Err(refused));
    // Between the part and its writing everything can still be read.
    assert_eq!(world.bodies(Q1).len(), 5);
    world.ops([settle(Q1, &[(1, 1)])]);
    world.store.checkpoint(vec![part]).unwrap();
    assert_eq!(world.replica.durable_applied(), LogIndex(5));
    wait(|done| log.purge(LogIndex(3), Bytes::new(), done)).unwrap();
    assert!(wait(|done| log.purge(LogIndex(4), Bytes::new(), done)).is_err());
    assert_eq!(world.bodies(Q1).len(), 4);
    // What was settled meanwhile is freed by the next one.
    world.checkpoint(3);
    assert_eq!(world.stored(), (2, 0));
}

#[test]
fn a_part_that_was_never_written_stops_further_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    world.ops([enqueue(1, 1, &[(&[Q1], "a")])]);
    drop(world.replica.checkpoint_part(LogIndex(1), &mut { usize::MAX }).unwrap());
    let refused = world.replica.checkpoint_part(LogIndex(1), &mut { usize::MAX }).unwrap_err();
    assert_eq!(refused, StoreError::CheckpointLost(SHARD));
    assert!(refused.is_fatal());
}

#[test]
fn one_flush_serves_many_shards() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let replicas: Vec<Replica> = (1..=16).map(|shard| store.replica(ShardId(shard)).unwrap()).collect();
    for replica in &replicas {
        let payload = record([enqueue(1, 1, &[(&[Q1], "a")])]).encode();
        replica.apply(LogIndex(1), Term(3), payload).unwrap();
        replica.set_applied_with(LogIndex(2), Term(3), Bytes::from("members")).unwrap();
    }
    let parts = replicas
        .iter()
        .map(|replica| replica.checkpoint_part(LogIndex(0), &mut { usize::MAX }).unwrap())
        .collect();
    store.checkpoint(parts).unwrap();
    crash_image(dir.path(), image.path());
    let after = open(image.path());
    for replica in &replicas {
        let found = after.replica(replica.shard()).unwrap();
        assert_eq!(found.applied(), (LogIndex(2), Term(3)));
        assert_eq!(found.raft_meta(), "members");
        assert_eq!(found.fingerprint(), replica.fingerprint());
    }
}

#[test]
fn blobs_are_saved_whole_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        assert_eq!(store.get_blob("identity").unwrap(), None);
        store.put_blob("identity", b"node 7").unwrap();
        store.put_blob("identity", &vec![9; 3 << 20]).unwrap();
        store.put_blob("other", b"").unwrap();
    }
    let store = open(dir.path());
    assert_eq!(store.get_blob("identity").unwrap().unwrap(), vec![9; 3 << 20]);
    assert_eq!(store.get_blob("other").unwrap().unwrap(), "");
}

#[test]
fn a_record_of_another_version_stops_the_replica() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path());
    let error = world.replica.apply(LogIndex(1), Term(1), Bytes::from_static(&[8, 2])).unwrap_err();
    assert!(matches!(error, StoreError::Record { .. }), "{error}");
    assert_eq!(world.replica.applied(), (LogIndex(0), Term(0)));
}

#[test]
fn damaged_state_is_found_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut world = World::open(dir.path());
        world.ops([enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b")])]);
        world.checkpoint(0);
        world.store.shutdown();
    }
    {
        let options = rocksdb::Options::default();
        let db = rocksdb::DB::open_cf(&options, dir.path(), ["default", "state"]).unwrap();
        let family = db.cf_handle("state").unwrap();
        let key = [
            &1_u32.to_be_bytes()[..],
            &1_u32.to_be_bytes(),
            b"R",
            &1_u64.to_be_bytes(),
            &1_u64.to_be_bytes(),
        ];
        let key = key.concat();
        let mut value = db.get_cf(family, &key).unwrap().unwrap();
        value[9] ^= 1;
        db.put_cf(family, &key, value).unwrap();
    }
    let outcome = open(dir.path()).replica(SHARD);
    assert!(matches!(outcome, Err(StoreError::DamagedState { .. })), "{outcome:?}");
}

/// A replica with messages in the log, in the message store, settled, returned, shared and dropped.
fn rich(dir: &Path) -> World {
    let mut world = World::open(dir);
    for index in 1..=30 {
        world.ops([
            enqueue(
                1,
                index * 2,
                &[(&[Q1], &format!("own {index}")), (&[Q1, Q2], &format!("shared {index}"))],
            ),
            Op::Reserve { queue: Q1, up_to: Position(index) },
        ]);
        if index == 12 {
            world.ops([settle(Q1, &[(1, 9), (15, 15)]), settle(Q2, &[(2, 2)])]);
            world.checkpoint(10);
            world.ops([settle(Q1, &[(11, 11)]), Op::Return { queue: Q2, ranges: ranges(&[(1, 4)]) }]);
        }
    }
    let big = EnqueuedMessage { seq: 99, queues: vec![Q2], message: message(vec![7; 3 << 20]) };
    world.ops([Op::Enqueue(Enqueue { session: SessionId(2), last_seq: 99, messages: vec![big] })]);
    world
}

#[test]
fn a_snapshot_makes_an_equal_replica() {
    let (from, to, image) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = rich(from.path());
    let membership = LogEntry { kind: 2, ..entry(leader.next, "members") };
    append(&leader.store.log(G).unwrap(), vec![membership]);
    leader.replica.set_applied_with(LogIndex(leader.next), Term(2), Bytes::from("members")).unwrap();
    let follower = World::open(to.path());
    // It has something of its own, which goes.
    let old = record([enqueue(5, 1, &[(&[QueueId(77)], "old")])]).encode();
    append(&follower.store.log(G).unwrap(), vec![entry(1, old.clone())]);
    follower.replica.apply(LogIndex(1), Term(1), old).unwrap();
    follower.checkpoint(1);

    let reader = leader.replica.snapshot().unwrap();
    let meta = reader.meta().clone();
    assert_eq!(
        (meta.applied, meta.term, &meta.raft_meta[..]),
        (LogIndex(leader.next), Term(2), &b"members"[..])
    );
    let expected = (leader.replica.fingerprint(), leader.load(Q1), leader.load(Q2));
    // What happens after the picture was taken is not in it, not even what is settled, purged and freed.
    leader.next += 1;
    leader.ops([settle(Q1, &[(0, 99)]), settle(Q2, &[(0, 99)])]);
    leader.checkpoint(leader.next);
    let mut writer = follower.replica.snapshot_writer().unwrap();
    for chunk in reader {
        let chunk = chunk.unwrap();
        assert!(chunk.len() <= 1 << 20);
        writer.push(chunk).unwrap();
    }
    assert_eq!(follower.replica.applied(), (LogIndex(1), Term(1)), "nothing changes before the end");
    assert_eq!(writer.finish().unwrap(), meta);
    let log = follower.store.log(G).unwrap();
    wait(|done| log.purge(meta.applied, Bytes::from("snapshot"), done)).unwrap();
    crash_image(to.path(), image.path());
    let restarted = World::open(image.path());
    for world in [&follower, &restarted] {
        assert_eq!(world.replica.applied(), (meta.applied, Term(2)));
        assert_eq!(world.replica.raft_meta(), "members");
        assert_eq!((world.replica.fingerprint(), world.load(Q1), world.load(Q2)), expected);
    }
    // It frees like any other: no body stays when all is settled.
    let mut follower = World { next: meta.applied.0 + 1, ..follower };
    follower.ops([settle(Q1, &[(0, 99)]), settle(Q2, &[(0, 99)])]);
    follower.checkpoint(follower.next);
    assert_eq!(follower.stored(), (0, 0));
}

#[test]
fn a_crash_in_the_middle_of_a_snapshot_leaves_the_old_state() {
    let (from, to, image) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = rich(from.path());
    let mut follower = World::open(to.path());
    follower.ops([enqueue(5, 1, &[(&[Q1], "old")])]);
    follower.checkpoint(1);
    let fingerprint = follower.replica.fingerprint();
    let chunks: Vec<Bytes> = leader.replica.snapshot().unwrap().map(Result::unwrap).collect();
    assert!(chunks.len() > 3, "{} chunks", chunks.len());
    let mut writer = follower.replica.snapshot_writer().unwrap();
    for chunk in &chunks[..chunks.len() - 1] {
        writer.push(chunk.clone()).unwrap();
    }
    // What was received is on disk by chance: another blob flushes the family.
    follower.store.put_blob("x", b"y").unwrap();
    crash_image(to.path(), image.path());
    assert_eq!(writer.finish(), Err(StoreError::Snapshot("its end is missing")));
    let restarted = World::open(image.path());
    for world in [&follower, &restarted] {
        assert_eq!(world.replica.fingerprint(), fingerprint);
        assert_eq!(world.bodies(Q1), ["old"]);
    }
    // The next attempt is not disturbed by the first.
    let mut writer = restarted.replica.snapshot_writer().unwrap();
    chunks.into_iter().for_each(|chunk| writer.push(chunk).unwrap());
    writer.finish().unwrap();
    assert_eq!(restarted.replica.fingerprint(), leader.replica.fingerprint());
    assert_eq!(restarted.load(Q2), leader.load(Q2));
}

#[test]
fn damaged_missing_and_foreign_chunks_are_refused() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = rich(from.path());
    let follower = World::open(to.path());
    let chunks: Vec<Bytes> = leader.replica.snapshot().unwrap().map(Result::unwrap).collect();
    let fingerprint = follower.replica.fingerprint();
    let refused = |change: &dyn Fn(&mut Vec<Bytes>)| {
        let mut chunks = chunks.clone();
        change(&mut chunks);
        let mut writer = follower.replica.snapshot_writer().unwrap();
        let outcome = chunks.into_iter().try_for_each(|chunk| writer.push(chunk));
        outcome.and_then(|()| writer.finish().map(|_| ())).unwrap_err()
    };
    let edit = |at: usize, byte: usize, to: u8| {
        move |chunks: &mut Vec<Bytes>| {
            let mut chunk = chunks[at].to_vec();
            chunk[byte] ^= to;
            chunks[at] = Bytes::from(chunk);
        }
    };
    assert_eq!(refused(&edit(1, 500, 1)), StoreError::Snapshot("a chunk is damaged"));
    assert_eq!(refused(&edit(0, 5, 1)), StoreError::Snapshot("a chunk is damaged"));
    assert_eq!(refused(&edit(0, 0, 2)), StoreError::Snapshot("its version is not known here"));
    let missing = StoreError::Snapshot("a chunk is missing or repeated");
    assert_eq!(refused(&|chunks| drop(chunks.remove(1))), missing);
    assert_eq!(refused(&|chunks| chunks.swap(0, 1)), missing);
    assert_eq!(refused(&|chunks| drop(chunks.pop())), StoreError::Snapshot("its end is missing"));
    assert_eq!(refused(&|chunks| chunks.push(Bytes::new())), StoreError::Snapshot("a chunk is damaged"));
    assert_eq!(follower.replica.fingerprint(), fingerprint);
    assert_eq!(follower.stored(), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Record(Record),
    Checkpoint { keep: u64 },
    Crash,
    Snapshot,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any_record().prop_map(Step::Record),
        3 => (0_u64..5).prop_map(|keep| Step::Checkpoint { keep }),
        1 => Just(Step::Crash),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A replica that is checkpointed, crashes, and is replaced by its snapshot on another node at any moment.
    #[test]
    fn it_never_differs_from_a_naive_shard(steps in proptest::collection::vec(any_step(), 1..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut world = World::open(dir.path());
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Record(record) => prop_assert_eq!(world.record(&record), naive.apply(&record)),
                Step::Checkpoint { keep } => {
                    world.checkpoint(world.next.saturating_sub(1 + keep));
                }
                Step::Crash => {
                    let image = tempfile::tempdir().unwrap();
                    crash_image(dir.path(), image.path());
                    let fingerprint = world.replica.fingerprint();
                    world = World::open(image.path());
                    dir = image;
                    prop_assert_eq!(world.replica.fingerprint(), fingerprint);
                }
                Step::Snapshot => {
                    let other = tempfile::tempdir().unwrap();
                    let follower = World::open(other.path());
                    let mut writer = follower.replica.snapshot_writer().unwrap();
                    for chunk in world.replica.snapshot().unwrap() {
                        writer.push(chunk.unwrap()).unwrap();
                    }
                    let meta = writer.finish().unwrap();
                    if meta.applied.0 > 0 {
                        let log = follower.store.log(G).unwrap();
                        wait(|done| log.purge(meta.applied, Bytes::new(), done)).unwrap();
                    }
                    prop_assert_eq!(follower.replica.fingerprint(), world.replica.fingerprint());
                    world = World { next: meta.applied.0 + 1, ..follower };
                    dir = other;
                }
            }
            prop_assert_eq!(world.replica.opening_state(), naive.opening(world.next - 1));
            for (id, queue) in &naive.queues {
                prop_assert_eq!(&world.load(QueueId(*id)), &queue.messages);
            }
        }
        // Nothing is kept for ever: an empty shard has an empty message store.
        for id in naive.queues.keys() {
            world.ops([settle(QueueId(*id), &[(1, u64::MAX)])]);
        }
        world.checkpoint(world.next - 1);
        prop_assert_eq!(world.stored(), (0, 0));
    }
}

#[test]
fn only_records_are_read_as_records() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path());
    let blank = LogEntry { kind: 1, ..entry(1, "") };
    append(&world.store.log(G).unwrap(), vec![blank.clone()]);
    world.replica.set_applied(LogIndex(1), Term(1)).unwrap();
    assert_eq!(world.store.log(G).unwrap().get(LogIndex(1)).unwrap(), Some(blank));
    assert_eq!(world.checkpoint(1), 1);
}

/// What is here of the shard: entries in its log, messages and shared bodies in the store.
fn kept(store: &Store) -> (Option<(LogIndex, LogIndex)>, (u64, u64)) {
    (store.log(G).unwrap().first_last(), store.replica(SHARD).unwrap().stored().unwrap())
}

#[test]
fn a_replica_that_is_forgotten_leaves_its_vote_and_a_guard_and_begins_anew() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::open(dir.path());
    let vote = Bytes::from_static(b"my vote");
    wait(|done| world.store.log(G).unwrap().save_vote(vote.clone(), done)).unwrap();
    for seq in 1..=20 {
        world.ops([enqueue(1, seq, &[(&[Q1, Q2], "in both"), (&[Q1], "in one")])]);
    }
    world.checkpoint(10);
    world.ops([enqueue(1, 41, &[(&[Q1], "later")])]);
    assert_ne!(kept(&world.store), (None, (0, 0)));
    let World { store, replica, .. } = world;
    drop(replica);
    store.begin_forgetting(SHARD, b"guard").unwrap();
    wait(|done| store.log(G).unwrap().forget(done)).unwrap();
    store.end_forgetting(SHARD).unwrap();
    crash_image(dir.path(), image.path());
    for store in [store, open(image.path())] {
        assert_eq!(kept(&store), (None, (0, 0)));
        let log = store.log(G).unwrap();
        assert_eq!((log.vote(), log.purged(), log.committed()), (Some(vote.clone()), None, None));
        assert_eq!(store.replica(SHARD).unwrap().applied(), (LogIndex(0), Term(0)));
        assert_eq!(store.guard(SHARD).unwrap().as_deref(), Some(&b"guard"[..]));
        assert_eq!(store.guard(ShardId(2)).unwrap(), None);
    }
}
