//! What is logged, snapshotted or sent between nodes, and AMQP's field tables.
#![allow(clippy::panic, clippy::expect_used, reason = "a panic is how a failure is told")]

use bytes::Bytes;
use warren_catalogue::Catalogue;
use warren_proto::catalogue::Command;
use warren_proto::session::{HomeFrame, LeaderFrame};
use warren_proto::shard::Record;
use warren_store::shard::ShardState;
use warren_types::table::AMQPValue;
use warren_types::{FieldTable, LogIndex, Term, table};

use crate::mutate::Chance;

const CATALOGUE_LOG: &[u8] = include_bytes!("../../../crates/warren-catalogue/tests/golden/v1-log.bin");
const CATALOGUE: &[u8] = include_bytes!("../../../crates/warren-catalogue/tests/golden/v1-snapshot.bin");
const SHARD_LOG: &str = include_str!("../../../crates/warren-store/tests/golden/shard-1.hex");

/// Tables with every kind of value.
#[must_use]
pub fn table_seeds() -> Vec<Vec<u8>> {
    let mut nested = FieldTable::default();
    let mut add = |name: &str, value| {
        nested.insert(name.to_owned().into(), value);
    };
    add("text", AMQPValue::LongString("a value".into()));
    add("truth", AMQPValue::Boolean(true));
    add("small", AMQPValue::ShortShortInt(-1));
    add("long", AMQPValue::LongLongInt(i64::MIN));
    add("double", AMQPValue::Double(0.5));
    add("time", AMQPValue::Timestamp(u64::MAX));
    add("void", AMQPValue::Void);
    add("octets", AMQPValue::ByteArray(vec![0, 255].into()));
    let list = vec![AMQPValue::FieldTable(nested.clone()), AMQPValue::Boolean(false)];
    let mut outer = nested.clone();
    outer.insert("list".to_owned().into(), AMQPValue::FieldArray(list.into()));
    [nested, outer].iter().map(encoded).collect()
}

fn encoded(value: &FieldTable) -> Vec<u8> {
    let mut out = Vec::new();
    table::encode(value, &mut out);
    out
}

/// A table with its length in front, and one without.
pub fn table(octets: &[u8], _: &mut Chance) {
    let _or_error = table::decode_bare(octets);
    let _or_error = table::decode_prefix(octets);
    if let Ok(value) = table::decode(octets) {
        let written = encoded(&value);
        // Not a number is unlike itself: its octets are compared.
        let again = table::decode(&written).expect("what was written can be read");
        assert_eq!(encoded(&again), written);
    }
}

/// Each command of a released log.
#[must_use]
pub fn command_seeds() -> Vec<Vec<u8>> {
    let mut rest = CATALOGUE_LOG;
    let mut commands = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((command, tail)) = tail.split_at_checked(length) else { break };
        commands.push(command.to_vec());
        rest = tail;
    }
    commands
}

/// A catalogue command: decoded, and applied to a catalogue in which something is.
pub fn command(octets: &[u8], _: &mut Chance) {
    let Ok(command) = Command::decode(octets) else { return };
    let written = command.encode();
    let again = Command::decode(&written).expect("what was written can be read");
    assert_eq!(again.encode(), written);
    let mut catalogue = Catalogue::decode(CATALOGUE).expect("the released snapshot can be read");
    let _outcome = catalogue.apply(&command);
    let state = catalogue.encode();
    let again = Catalogue::decode(&state).expect("every state can be read back");
    assert_eq!(again.encode(), state);
}

/// A released snapshot.
#[must_use]
pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    vec![CATALOGUE.to_vec()]
}

/// A catalogue from disk or from a peer.
pub fn snapshot(octets: &[u8], _: &mut Chance) {
    let Ok(catalogue) = Catalogue::decode(octets) else { return };
    let written = catalogue.encode();
    let again = Catalogue::decode(&written).expect("what was written can be read");
    assert_eq!(again.encode(), written);
}

/// Each record of a released shard's log, and session frames around them.
#[must_use]
pub fn record_seeds() -> Vec<Vec<u8>> {
    let octet =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    SHARD_LOG.lines().map(|line| line.as_bytes().chunks(2).filter_map(octet).collect()).collect()
}

/// A record of a shard's log.
pub fn record(octets: &[u8], _: &mut Chance) {
    let Ok(record) = Record::decode(Bytes::copy_from_slice(octets)) else { return };
    let written = record.encode();
    let again = Record::decode(written.clone()).expect("what was written can be read");
    assert_eq!(again.encode(), written);
}

/// A released log, its records one after the other with their length in front.
#[must_use]
pub fn log_seeds() -> Vec<Vec<u8>> {
    let framed = |record: Vec<u8>| {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        [length.to_be_bytes().as_slice(), &record].concat()
    };
    vec![record_seeds().into_iter().flat_map(framed).collect()]
}

/// A shard's log with changed records: every one that can be read is applied, and two replicas come to the same state.
pub fn log(octets: &[u8], _: &mut Chance) {
    let replay = || {
        let mut state = ShardState::new();
        let mut rest = octets;
        let mut index = 0;
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((record, tail)) = tail.split_at_checked(length) else { break };
            rest = tail;
            let Ok(record) = Record::decode(Bytes::copy_from_slice(record)) else { break };
            index += 1;
            if state.apply(LogIndex(index), Term(1), &record).is_err() {
                break;
            }
        }
        state.fingerprint()
    };
    assert_eq!(replay(), replay());
}

/// What a home node sends to a leader.
pub fn home_frame(octets: &[u8], _: &mut Chance) {
    let Ok(frame) = HomeFrame::decode(Bytes::copy_from_slice(octets)) else { return };
    let written = frame.encode();
    let again = HomeFrame::decode(written.clone()).expect("what was written can be read");
    assert_eq!(again.encode(), written);
}

/// What a leader sends to a home node.
pub fn leader_frame(octets: &[u8], _: &mut Chance) {
    let Ok(frame) = LeaderFrame::decode(Bytes::copy_from_slice(octets)) else { return };
    let written = frame.encode();
    let again = LeaderFrame::decode(written.clone()).expect("what was written can be read");
    assert_eq!(again.encode(), written);
}
