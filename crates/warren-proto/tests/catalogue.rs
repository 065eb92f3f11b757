//! What is refused of the metadata group's log, answers and snapshots.

#![allow(clippy::unwrap_used, reason = "a test may")]

use warren_proto::DecodeError;
use warren_proto::catalogue::{Applied, Command, Outcome, Snapshot};
use warren_types::{AmqpError, QueueId, ReplyCode};

#[test]
fn a_command_of_a_newer_version_stops_the_replica() {
    // Field 1, a varint: the version.
    assert_eq!(
        Command::decode(&[0x08, 2]),
        Err(DecodeError::Version { what: "catalogue command", found: 2, known: 1 })
    );
    assert!(matches!(Outcome::decode(&[0x08, 2]), Err(DecodeError::Version { .. })));
    assert!(matches!(Snapshot::decode(&[0x08, 2]), Err(DecodeError::Version { .. })));
}

#[test]
fn a_command_that_is_not_known_is_not_skipped() {
    let unknown = Err(DecodeError::Unknown { what: "catalogue command" });
    assert_eq!(Command::decode(&[0x08, 1]), unknown);
    // Field 99, length-delimited and empty: a command that a later version might add.
    assert_eq!(Command::decode(&[0x08, 1, 0x9a, 0x06, 0]), unknown);
}

#[test]
fn bytes_without_a_version_are_refused() {
    for refused in [Command::decode(&[]).err(), Outcome::decode(&[]).err(), Snapshot::decode(&[]).err()] {
        assert!(matches!(refused, Some(DecodeError::Field { field: "version", .. })), "{refused:?}");
    }
}

#[test]
fn a_prefix_of_a_command_is_never_another_command() {
    let command = Command::CreateVhost { name: "orders".to_owned() };
    let bytes = command.encode();
    for end in 0..bytes.len() {
        assert!(Command::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert_eq!(Command::decode(&bytes), Ok(command));
}

#[test]
fn outcomes_survive_a_round_trip() {
    let applied = Applied {
        revision: 7,
        created: true,
        queue: Some(QueueId(0)),
        deleted_queues: vec![QueueId(1), QueueId(u64::MAX)],
    };
    let refused = AmqpError::new(ReplyCode::ResourceLocked, "cannot");
    for outcome in [Outcome(Ok(applied)), Outcome(Ok(Applied::default())), Outcome(Err(refused))] {
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
}

#[test]
fn a_reply_code_that_does_not_exist_is_refused() {
    // version 1; refused (field 3) with code 999.
    let bytes = [0x08, 1, 0x1a, 3, 0x08, 0xe7, 0x07];
    assert_eq!(Outcome::decode(&bytes), Err(DecodeError::Field { what: "catalogue outcome", field: "code" }));
}
