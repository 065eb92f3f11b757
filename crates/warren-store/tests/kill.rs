//! `kill -9` in the middle of appends: what was reported as written is there afterwards.

#![allow(clippy::unwrap_used, reason = "tests")]

mod kit;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bytes::Bytes;
use kit::{G, all, append, entry, open, wait};
use warren_types::GroupId;

const DIR: &str = "WARREN_STORE_KILL_TEST_DIR";

/// Not a test: the process that is killed.
#[test]
#[ignore = "run by the test below"]
fn child_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let store = open(dir.as_ref());
    let (one, two) = (store.log(G).unwrap(), store.log(GroupId(2)).unwrap());
    for index in 1.. {
        append(&one, vec![entry(index, vec![index as u8; 700])]);
        append(&two, vec![entry(index, "small")]);
        if index % 10 == 0 {
            wait(|done| one.save_vote(Bytes::from(index.to_string()), done)).unwrap();
        }
        println!("written {index}");
    }
}

#[test]
fn nothing_reported_as_written_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_appends_until_it_is_killed", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut written = 0_u64;
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The harness prints its own words on the same line as the first.
        let line = line.unwrap();
        let Some((_, index)) = line.split_once("written ") else {
            continue;
        };
        written = index.parse().unwrap();
        if written >= 57 && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(written >= 57);
    let store = open(dir.path());
    for group in [G, GroupId(2)] {
        let entries = all(&store.log(group).unwrap());
        assert!(entries.len() as u64 >= written, "group {group}: {} of {written}", entries.len());
        for (found, index) in entries.iter().zip(1..) {
            assert_eq!(found.index.0, index);
        }
    }
    let vote: u64 = str::from_utf8(&store.log(G).unwrap().vote().unwrap()).unwrap().parse().unwrap();
    assert!(vote >= written / 10 * 10);
}
