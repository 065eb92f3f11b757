//! Logs and snapshots of released versions come to the same state for ever.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use std::path::PathBuf;

use warren_catalogue::{
    Catalogue, ExchangeKind, ExchangeRecord, NodeRecord, PermissionRecord, ShardRecord, UserRecord,
};
use warren_proto::catalogue::{BindingRecord, Command, DeclareQueue};
use warren_types::{AMQPValue, NodeId, QueueId, ShardId};
use world::*;

/// The state that the log of version 1 comes to.
const V1_FINGERPRINT: u64 = 0xd121_9cb0_6ab7_b5e1;
/// What its log comes to: the same and that node 5 was removed.
const V1_LOG_FINGERPRINT: u64 = 0x1545_18ae_1aef_f0a2;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Commands with their length, four bytes, in front.
fn read_log(name: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file(name)).unwrap();
    let mut rest = bytes.as_slice();
    let mut commands = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (command, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        commands.push(command.to_vec());
        rest = tail;
    }
    commands
}

/// Every command at least once, and some that are refused.
fn every_command() -> Vec<Command> {
    let name = |name: &str| name.to_owned();
    let user = |name: &str, tags: &[&str]| UserRecord {
        name: name.to_owned(),
        password_hash: warren_catalogue::hash_password([5, 6, 7, 8], name.as_bytes()),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    };
    let permissions = |vhost: &str| PermissionRecord {
        user: name("app"),
        vhost: name(vhost),
        configure: name("^app-"),
        write: name(".*"),
        read: String::new(),
    };
    let arguments = table([
        ("x-message-ttl", AMQPValue::LongLongInt(60_000)),
        ("x-dead-letter-exchange", text("dead")),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
    ]);
    let auto = ExchangeRecord {
        auto_delete: true,
        internal: true,
        arguments: table([("alternate-exchange", text("amq.fanout"))]),
        ..exchange("auto", ExchangeKind::Topic)
    };
    let criteria = table([("x-match", text("any")), ("a", int(1)), ("b", AMQPValue::Void)]);
    vec![
        form(3, 4),
        form(3, 4),
        node_up(1, 10, &[]),
        node_up(2, 20, &[(1, 10)]),
        Command::AddNode(NodeRecord { zone: Some(name("z")), ..node(4) }),
        node_up(4, 40, &[(1, 10), (2, 20)]),
        Command::AddNode(node(5)),
        Command::RemoveNode { node: NodeId(5) },
        Command::SetShardReplicas(ShardRecord {
            shard: ShardId(2),
            replicas: vec![NodeId(4), NodeId(1)],
            preferred: NodeId(4),
        }),
        Command::CreateVhost { name: name("v") },
        Command::CreateVhost { name: name("gone") },
        Command::PutUser(user("app", &["monitoring", "custom"])),
        Command::PutUser(user("left", &[])),
        Command::SetPermissions(permissions("/")),
        Command::SetPermissions(permissions("v")),
        Command::SetPermissions(permissions("gone")),
        Command::ClearPermissions { user: name("app"), vhost: name("v") },
        Command::DeleteUser { name: name("left") },
        declare(auto),
        declare(exchange("direct", ExchangeKind::Direct)),
        declare(exchange("direct", ExchangeKind::Fanout)),
        declare(exchange("hs", ExchangeKind::Headers)),
        declare(ExchangeRecord { durable: false, ..exchange("old", ExchangeKind::Fanout) }),
        Command::DeclareQueue(DeclareQueue { arguments, ..queue("q1") }),
        Command::DeclareQueue(DeclareQueue { auto_delete: true, ..queue("q2") }),
        Command::DeclareQueue(DeclareQueue { auto_delete: true, ..queue("q1") }),
        Command::DeclareQueue(transient("t1", 1)),
        Command::DeclareQueue(transient("t2", 2)),
        Command::DeclareQueue(exclusive("e1", owner(1, 10, 1))),
        Command::DeclareQueue(exclusive("e2", owner(2, 20, 2))),
        Command::DeclareQueue(DeclareQueue { vhost: name("gone"), ..queue("q") }),
        Command::Bind(to_queue("auto", "q1", "a.*.#")),
        Command::Bind(to_queue("direct", "q2", "k")),
        Command::Bind(to_queue("direct", "t1", "k")),
        Command::Bind(to_exchange("direct", "auto", "up")),
        Command::Bind(BindingRecord { arguments: criteria, ..to_queue("hs", "q2", "") }),
        Command::Bind(to_queue("old", "q1", "")),
        Command::Bind(to_queue("auto", "q2", "#.#.#")),
        Command::Unbind(to_queue("old", "q1", "")),
        Command::DeleteExchange { vhost: name("/"), name: name("old"), if_unused: true },
        Command::DeleteExchange { vhost: name("/"), name: name("direct"), if_unused: true },
        Command::ReleaseOwner { owner: owner(2, 20, 2) },
        Command::MoveTransient { from: NodeId(2), to: NodeId(4) },
        node_up(1, 11, &[(4, 40)]),
        Command::DeleteQueue { queue: QueueId(2) },
        Command::DeleteVhost { name: name("gone") },
        Command::DeclareQueue(queue("q3")),
    ]
}

fn replay(log: &[Vec<u8>]) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for bytes in log {
        // Refusals are a part of the log too.
        drop(catalogue.apply(&Command::decode(bytes).unwrap()));
    }
    catalogue
}

#[test]
fn the_log_of_version_1_comes_to_the_state_it_always_came_to() {
    let catalogue = replay(&read_log("v1-log.bin"));
    assert_eq!(catalogue.check_invariants(), Ok(()));
    // Since nodes can be removed for good, a removal in the log is remembered; the snapshot of that time knows none.
    assert!(catalogue.is_removed(NodeId(5)));
    assert_eq!(catalogue.fingerprint(), V1_LOG_FINGERPRINT, "got {:#018x}", catalogue.fingerprint());
}

#[test]
fn the_snapshot_of_version_1_is_still_read() {
    let catalogue = Catalogue::decode(&std::fs::read(file("v1-snapshot.bin")).unwrap()).unwrap();
    assert_eq!(catalogue.fingerprint(), V1_FINGERPRINT);
}

#[test]
fn commands_are_still_written_as_version_1_wrote_them() {
    let written: Vec<_> = every_command().iter().map(|command| command.encode().to_vec()).collect();
    assert_eq!(written, read_log("v1-log.bin"));
}

#[test]
#[ignore = "writes the golden files: once for each version, before its release"]
fn write_the_golden_files() {
    let log: Vec<_> = every_command().iter().map(|command| command.encode().to_vec()).collect();
    let framed: Vec<u8> = log
        .iter()
        .flat_map(|command| {
            let length = u32::try_from(command.len()).unwrap().to_be_bytes();
            length.into_iter().chain(command.iter().copied())
        })
        .collect();
    std::fs::write(file("v1-log.bin"), framed).unwrap();
    let catalogue = replay(&log);
    std::fs::write(file("v1-snapshot.bin"), catalogue.encode()).unwrap();
    println!("{:#018x}", catalogue.fingerprint());
}
