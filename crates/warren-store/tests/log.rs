//! The logs of all groups: order, fsyncs, restarts, damage.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kit;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kit::{G, all, append, crash_image, entry, ignore, open, wait};
use proptest::prelude::*;
use warren_store::{CheckpointPart, LogEntry, Store, StoreError};
use warren_types::{GroupId, LogIndex, Term};

/// Lets the log be purged up to `applied`.
fn cover(store: &Store, group: GroupId, applied: u64) {
    let part =
        CheckpointPart::blob(group, LogIndex(applied), Term(1), Bytes::new(), "state", Bytes::from("x"));
    store.checkpoint(vec![part]).unwrap();
}

#[test]
fn entries_can_be_read_before_they_are_on_disk_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<LogEntry> = (0..10).map(|index| entry(index, format!("entry {index}"))).collect();
    {
        let store = open(dir.path());
        let log = store.log(G).unwrap();
        log.append(entries.clone(), ignore());
        assert_eq!(all(&log), entries);
        store.shutdown();
    }
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    assert_eq!(log.first_last(), Some((LogIndex(0), LogIndex(9))));
    assert_eq!(all(&log), entries);
    assert_eq!(log.get(LogIndex(3)).unwrap(), Some(entries[3].clone()));
    assert_eq!(log.get(LogIndex(10)).unwrap(), None);
}

#[test]
fn what_done_has_reported_survives_a_crash() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    wait(|done| log.save_vote(Bytes::from("vote 1"), done)).unwrap();
    append(&log, (1..=5).map(|index| entry(index, "payload")).collect());
    crash_image(dir.path(), image.path());

    let after = open(image.path()).log(G).unwrap();
    assert_eq!(after.vote(), Some(Bytes::from("vote 1")));
    assert_eq!(all(&after), all(&log));
}

#[test]
fn a_read_is_bounded_in_bytes_but_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    // Four times the tail: the first entries are read from disk, the last from memory.
    append(&log, (1..=64).map(|index| entry(index, vec![1; 1024])).collect());
    for from in 1..=64 {
        let read = |bytes| log.read(LogIndex(from), LogIndex(65), bytes).unwrap();
        assert_eq!(read(0).len(), 1, "from {from}");
        assert_eq!(read(1024).len(), 1, "from {from}");
        assert!(read(4096).len() <= 4, "from {from}");
        let expected = LogIndex(from);
        assert_eq!(read(4096)[0].index, expected);
    }
    assert_eq!(all(&log).len(), 64);
    // The writer takes the tail back after it has told of its write, and before it takes the next.
    store.sync().unwrap();
    assert!(log.tail_bytes() <= 16 << 10, "the tail holds {} bytes", log.tail_bytes());
}

#[test]
fn many_groups_share_fsyncs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let threads: Vec<_> = (1..=16)
        .map(|group| {
            let log = store.log(GroupId(group)).unwrap();
            std::thread::spawn(move || {
                let (tell, told) = std::sync::mpsc::sync_channel(100);
                for index in 1..=100 {
                    let tell = tell.clone();
                    log.append(
                        vec![entry(index, format!("{group}/{index}"))],
                        Box::new(move |outcome| tell.send((index, outcome)).unwrap()),
                    );
                }
                // Reported in the order of the appends.
                for index in 1..=100 {
                    assert_eq!(told.recv().unwrap(), (index, Ok(())));
                }
                assert_eq!(all(&log).len(), 100);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let metrics = store.metrics();
    assert_eq!(metrics.log_entries, 1600);
    assert!(metrics.log_syncs < 400, "{} fsyncs for 1600 appends", metrics.log_syncs);
}

#[test]
fn committed_costs_no_fsync_and_reaches_the_disk_with_the_next_change() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    log.save_committed(Bytes::from("4"));
    log.save_committed(Bytes::from("5"));
    assert_eq!(log.committed(), Some(Bytes::from("5")));
    assert_eq!(store.metrics().log_syncs, 0);
    wait(|done| store.log(GroupId(2)).unwrap().save_vote(Bytes::from("v"), done)).unwrap();
    assert_eq!(store.metrics().log_syncs, 1);
    crash_image(dir.path(), image.path());
    assert_eq!(open(image.path()).log(G).unwrap().committed(), Some(Bytes::from("5")));
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    append(&log, vec![entry(1, "a")]);
    let gap = |found, last| StoreError::Gap { group: G, found: LogIndex(found), last: LogIndex(last) };
    assert_eq!(wait(|done| log.append(vec![entry(3, "c")], done)), Err(gap(3, 1)));
    assert_eq!(wait(|done| log.append(vec![entry(1, "a")], done)), Err(gap(1, 1)));
    assert_eq!(wait(|done| log.append(vec![entry(2, "b"), entry(4, "d")], done)), Err(gap(4, 2)));
    assert_eq!(all(&log), [entry(1, "a")]);
    append(&log, vec![entry(2, "b")]);
}

#[test]
fn truncated_entries_never_come_back() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    append(&log, (1..=10).map(|index| entry(index, "old")).collect());
    log.truncate_after(LogIndex(4), ignore());
    assert_eq!(log.first_last(), Some((LogIndex(1), LogIndex(4))));
    append(&log, vec![entry(5, "new")]);
    crash_image(dir.path(), image.path());
    let after = open(image.path());
    let log = after.log(G).unwrap();
    assert_eq!(log.first_last(), Some((LogIndex(1), LogIndex(5))));
    assert_eq!(log.get(LogIndex(5)).unwrap(), Some(entry(5, "new")));
    wait(|done| log.truncate_after(LogIndex(0), done)).unwrap();
    assert_eq!(log.first_last(), None);
}

#[test]
fn a_purge_needs_a_checkpoint_that_covers_it() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    append(&log, (1..=10).map(|index| entry(index, "x")).collect());
    let purge = |up_to| wait(|done| log.purge(LogIndex(up_to), Bytes::from("marker"), done));
    let refused = |up_to, durable| StoreError::PurgeTooFar {
        group: G,
        up_to: LogIndex(up_to),
        durable: LogIndex(durable),
    };
    assert_eq!(purge(3), Err(refused(3, 0)));
    cover(&store, G, 5);
    assert_eq!(purge(6), Err(refused(6, 5)));
    assert_eq!(log.first_last(), Some((LogIndex(1), LogIndex(10))));
    purge(5).unwrap();
    crash_image(dir.path(), image.path());

    let after = open(image.path());
    let log = after.log(G).unwrap();
    assert_eq!(log.first_last(), Some((LogIndex(6), LogIndex(10))));
    assert_eq!(log.purged(), Some(Bytes::from("marker")));
    assert_eq!(log.get(LogIndex(5)).unwrap(), None);
    // What a checkpoint covers is known after a restart, too.
    assert_eq!(wait(|done| log.purge(LogIndex(7), Bytes::new(), done)), Err(refused(7, 5)),);
}

#[test]
fn a_purge_beyond_the_end_moves_the_log_there() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        let log = store.log(G).unwrap();
        append(&log, vec![entry(1, "x")]);
        cover(&store, G, 100);
        wait(|done| log.purge(LogIndex(100), Bytes::from("snapshot"), done)).unwrap();
        assert_eq!(log.first_last(), None);
        assert!(wait(|done| log.append(vec![entry(2, "y")], done)).is_err());
        append(&log, vec![entry(101, "z")]);
        store.shutdown();
    }
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    assert_eq!(all(&log), [entry(101, "z")]);
}

/// The log's newest file.
fn newest_segment(dir: &std::path::Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir.join("log")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ext| ext == "log")).max().unwrap()
}

/// Changes one byte of the last place where `text` is in the log's newest file.
fn tamper(dir: &std::path::Path, text: &[u8]) {
    let path = newest_segment(dir);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(text.len()).rposition(|window| window == text).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn damage_to_an_entry_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    append(&log, vec![entry(1, "first"), entry(2, "second")]);
    append(&log, (3..=64).map(|index| entry(index, vec![1; 1024])).collect());
    tamper(dir.path(), b"second");
    let damaged = StoreError::Damaged { group: G, index: LogIndex(2) };
    assert_eq!(log.get(LogIndex(1)).unwrap(), Some(entry(1, "first")));
    assert_eq!(log.get(LogIndex(2)), Err(damaged.clone()));
    assert_eq!(log.read(LogIndex(1), LogIndex(4), 1 << 20), Err(damaged));
}

#[test]
fn damage_to_a_log_that_was_closed_keeps_it_closed() {
    for text in ["the vote", "the entry", "the last"] {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = open(dir.path());
            let log = store.log(G).unwrap();
            wait(|done| log.save_vote(Bytes::from("the vote"), done)).unwrap();
            append(&log, vec![entry(1, "the entry")]);
            append(&log, vec![entry(2, "the last")]);
            store.shutdown();
        }
        tamper(dir.path(), text.as_bytes());
        let outcome = Store::open(dir.path(), kit::small());
        assert!(matches!(outcome, Err(StoreError::DamagedLog { .. })), "{text}: {outcome:?}");
    }
}

#[test]
fn a_log_that_is_gone_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        append(&store.log(G).unwrap(), vec![entry(1, "x")]);
        store.shutdown();
    }
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let outcome = Store::open(dir.path(), kit::small());
    assert!(matches!(outcome, Err(StoreError::DamagedLog { .. })), "{outcome:?}");
}

#[test]
fn a_torn_last_write_is_dropped_and_damage_before_it_is_not_overlooked() {
    let (dir, torn, damaged) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    for index in 1..=3 {
        append(&log, vec![entry(index, format!("entry {index}"))]);
    }
    crash_image(dir.path(), torn.path());
    crash_image(dir.path(), damaged.path());
    let path = newest_segment(torn.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"entry 3").unwrap();
    bytes[at..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let after = open(torn.path()).log(G).unwrap();
    assert_eq!(after.first_last(), Some((LogIndex(1), LogIndex(2))));

    tamper(damaged.path(), b"entry 2");
    let outcome = Store::open(damaged.path(), kit::small());
    assert!(matches!(outcome, Err(StoreError::DamagedLog { .. })), "{outcome:?}");
}

#[test]
fn a_full_queue_makes_append_wait_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = kit::small();
    options.queue_bytes = 4096;
    let store = Store::open(dir.path(), options).unwrap();
    let log = store.log(G).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    for index in 1..=200 {
        let done = Arc::clone(&done);
        log.append(
            vec![entry(index, vec![0; 3000])],
            Box::new(move |outcome| {
                outcome.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }),
        );
    }
    store.sync().unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 200);
    assert_eq!(all(&log).len(), 200);
}

#[test]
fn after_shutdown_everything_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G).unwrap();
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    log.append(vec![entry(1, "x")], Box::new(move |outcome| *tell.lock().unwrap() = Some(outcome)));
    store.shutdown();
    // What was queued before is written.
    assert_eq!(*told.lock().unwrap(), Some(Ok(())));
    assert_eq!(wait(|done| log.append(vec![entry(2, "y")], done)), Err(StoreError::ShutDown));
}

#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, size: usize },
    Truncate { keep: u64 },
    Purge { drop: u64 },
    Sync,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..8, 0_usize..3000).prop_map(|(count, size)| Step::Append { count, size }),
        3 => (0_u64..12).prop_map(|keep| Step::Truncate { keep }),
        2 => (0_u64..12).prop_map(|drop| Step::Purge { drop }),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two groups take the same steps, half a list apart, against lists of entries.
    #[test]
    fn it_holds_what_a_list_of_entries_holds(steps in proptest::collection::vec(any_step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut models: [(u64, Vec<LogEntry>); 2] = [(1, Vec::new()), (1, Vec::new())];
        let mut stamp = 0_u64;
        for at in 0..steps.len() {
            for (half, (first, entries)) in models.iter_mut().enumerate() {
                let step = &steps[(at + half * steps.len() / 2) % steps.len()];
                let group = GroupId(half as u32 + 1);
                let log = store.log(group).unwrap();
                let next = *first + entries.len() as u64;
                match step {
                    Step::Append { count, size } => {
                        stamp += 1;
                        let new: Vec<LogEntry> = (next..next + count)
                            .map(|index| LogEntry { term: Term(stamp), ..entry(index, vec![index as u8; *size]) })
                            .collect();
                        entries.extend(new.clone());
                        log.append(new, ignore());
                    }
                    Step::Truncate { keep } => {
                        let from = (*first + keep).min(next);
                        entries.truncate((from - *first) as usize);
                        log.truncate_from(LogIndex(from), ignore());
                    }
                    Step::Purge { drop } => {
                        let up_to = (*first + drop).min(next.max(1)) - 1;
                        if up_to >= *first {
                            cover(&store, group, up_to);
                            entries.drain(..(up_to + 1 - *first) as usize);
                            *first = up_to + 1;
                            log.purge(LogIndex(up_to), Bytes::from(format!("{up_to}")), ignore());
                        }
                    }
                    Step::Sync => store.sync().unwrap(),
                    Step::Reopen => {
                        drop(log);
                        store.shutdown();
                        store = open(dir.path());
                    }
                }
                let log = store.log(group).unwrap();
                prop_assert_eq!(&all(&log), &*entries);
            }
        }
    }
}
