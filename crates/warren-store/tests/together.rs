//! Everything at once, as in a node: appends, applies, loads, checkpoints, purges and snapshots on threads.

#![allow(clippy::unwrap_used, reason = "tests")]

mod kit;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use kit::{G, Q1, Q2, append, crash_image, enqueue, entry, open, record, settle, wait};
use warren_store::{CheckpointPart, Replica, SnapshotReader, SnapshotWriter, Store, StoreOptions};
use warren_types::{LogIndex, Position, ShardId, Term};

const RECORDS: u64 = 1500;

#[test]
fn what_a_runtime_moves_between_threads_can_be_moved() {
    fn moves<T: Send + 'static>() {}
    moves::<Store>();
    moves::<Replica>();
    moves::<CheckpointPart>();
    moves::<SnapshotReader>();
    moves::<SnapshotWriter>();
}

#[test]
fn readers_find_every_live_message_while_checkpoints_move_them() {
    let (dir, other, image) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let follower = open(other.path());
    let (log, replica) = (store.log(G).unwrap(), store.replica(ShardId(1)).unwrap());
    let (ended, settled) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for index in 1..=RECORDS {
                let body = "b".repeat(900);
                let mut ops = vec![enqueue(1, index * 2, &[(&[Q1, Q2], &body), (&[Q1], &body)])];
                if index % 50 == 0 {
                    // Two positions of Q1 a record: half of them are settled, behind what readers ask for.
                    settled.store(index, Ordering::SeqCst);
                    ops.push(settle(Q1, &[(1, index)]));
                }
                let payload = record(ops).encode();
                log.append(vec![entry(index, payload.clone())], kit::ignore());
                replica.apply(LogIndex(index), Term(1), payload).unwrap();
            }
            ended.store(true, Ordering::SeqCst);
        });
        threads.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let part = replica.checkpoint_part(LogIndex(u64::MAX), &mut { usize::MAX }).unwrap();
                let up_to = part.purge_up_to();
                store.checkpoint(vec![part]).unwrap();
                wait(|done| log.purge(up_to, Bytes::new(), done)).unwrap();
            }
        });
        threads.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let after = Position(settled.load(Ordering::SeqCst));
                let (messages, _) = replica.load(Q1, after, 64, 1 << 20).unwrap();
                let mut last = after;
                for message in messages {
                    assert!(message.position > last);
                    assert_eq!(message.message.body.len(), 900);
                    last = message.position;
                }
            }
        });
        threads.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let reader = replica.snapshot().unwrap();
                let meta = reader.meta().clone();
                let copy = follower.replica(ShardId(1)).unwrap();
                let mut writer = copy.snapshot_writer().unwrap();
                reader.for_each(|chunk| writer.push(chunk.unwrap()).unwrap());
                assert_eq!(writer.finish().unwrap(), meta);
                let state = copy.opening_state();
                let loaded: u64 = [Q1, Q2]
                    .map(|queue| copy.load(queue, Position(0), 1 << 20, 1 << 30).unwrap().0.len() as u64)
                    .iter()
                    .sum();
                assert_eq!(loaded, state.queues.iter().map(|queue| queue.live).sum::<u64>());
            }
        });
    });
    store.sync().unwrap();
    crash_image(dir.path(), image.path());
    let after = open(image.path());
    let found = after.replica(ShardId(1)).unwrap();
    let next = LogIndex(found.applied().0.0 + 1);
    if next.0 <= RECORDS {
        let log = after.log(G).unwrap();
        let mut at = next;
        while at.0 <= RECORDS {
            for entry in log.read(at, LogIndex(RECORDS + 1), 1 << 20).unwrap() {
                found.apply(entry.index, entry.term, entry.payload).unwrap();
                at = LogIndex(entry.index.0 + 1);
            }
        }
    }
    assert_eq!(found.fingerprint(), replica.fingerprint());
}

#[test]
fn the_disk_is_given_back_when_a_backlog_is_consumed() {
    let in_order = |done| vec![(1, done * 50)];
    consume(in_order, 5 << 20);
}

#[test]
fn the_disk_is_given_back_when_a_tenth_of_a_backlog_stays() {
    let but_every_tenth = |done| (0..done * 5).map(|ten| (ten * 10 + 1, ten * 10 + 9)).collect();
    // 2.5 MiB that are needed, as much garbage among them, and less than was freed since the last compaction.
    consume(but_every_tenth, 10 << 20);
}

/// Stores 25 MiB and settles in eight steps what `settled` says: no more than `most` bytes may be left of it.
fn consume(settled: impl Fn(u64) -> Vec<(u64, u64)>, most: u64) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { reclaim_bytes: 4 << 20, ..kit::small() };
    let store = Store::open(dir.path(), options).unwrap();
    let (log, replica) = (store.log(G).unwrap(), store.replica(ShardId(1)).unwrap());
    let body = "x".repeat(64 << 10);
    let mut index = 0;
    let mut step = |ops| {
        index += 1;
        let payload = record(ops).encode();
        append(&log, vec![entry(index, payload.clone())]);
        replica.apply(LogIndex(index), Term(1), payload).unwrap();
        index
    };
    let checkpoint = |up_to| {
        store
            .checkpoint(vec![replica.checkpoint_part(LogIndex(up_to), &mut { usize::MAX }).unwrap()])
            .unwrap();
        wait(|done| log.purge(LogIndex(up_to), Bytes::new(), done)).unwrap();
    };
    let blobs = || -> u64 {
        let files = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
        let blobs = files.filter(|file| file.path().extension().is_some_and(|ext| ext == "blob"));
        blobs.map(|file| file.metadata().map_or(0, |data| data.len())).sum()
    };
    // 400 messages of 64 KiB: 25 MiB.
    for seq in 1..=400 {
        let last = step(vec![enqueue(1, seq, &[(&[Q1], &body)])]);
        if seq % 100 == 0 {
            checkpoint(last);
        }
    }
    assert!(blobs() > 20 << 20, "{} bytes of bodies", blobs());
    for done in 1..=8 {
        let last = step(vec![settle(Q1, &settled(done))]);
        checkpoint(last);
    }
    // Compactions run on a thread of their own.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while blobs() > most && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
        // A node goes on making checkpoints; one of them finds the compaction before it finished.
        checkpoint(step(Vec::new()));
    }
    assert!(blobs() <= most, "{} bytes of bodies are left", blobs());
}
