//! Every refusal, with its code and its text to the letter.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::{ExchangeKind, ExchangeRecord, PermissionRecord, ShardRecord, UserRecord};
use warren_proto::catalogue::{BindingRecord, Command, DeclareQueue};
use warren_types::{AMQPValue, NodeId, QueueId, ShardId};
use world::*;

const LOCKED: &str = "405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally \
                      declared on another connection or the exclusive property value does not match that of the \
                      original declaration.";

#[test]
fn a_queue_declared_again_differently_is_refused_with_what_differs() {
    let original = DeclareQueue {
        arguments: table([
            ("x-max-length", int(5)),
            ("x-overflow", text("drop-head")),
            ("x-unknown", int(1)),
        ]),
        ..queue("q")
    };
    let with = |key, value| {
        let mut arguments = original.arguments.clone();
        arguments.insert(key, value);
        DeclareQueue { arguments, ..original.clone() }
    };
    let inequivalent = "406 inequivalent arg";
    let cases = [
        (
            DeclareQueue { durable: false, ..original.clone() },
            format!(
                "{inequivalent} 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
            ),
        ),
        (
            DeclareQueue { auto_delete: true, ..original.clone() },
            format!(
                "{inequivalent} 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"
            ),
        ),
        (
            with("x-max-length".into(), AMQPValue::LongLongInt(6)),
            format!(
                "{inequivalent} 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'"
            ),
        ),
        (
            with("x-max-length".into(), text("5")),
            format!(
                "{inequivalent} 'x-max-length' for queue 'q' in vhost '/': received '5' but current is '5'"
            ),
        ),
        (
            with("x-overflow".into(), text("reject-publish")),
            format!(
                "{inequivalent} 'x-overflow' for queue 'q' in vhost '/': received 'reject-publish' but current is \
                 'drop-head'"
            ),
        ),
        (
            with("x-message-ttl".into(), AMQPValue::LongLongInt(6)),
            format!(
                "{inequivalent} 'x-message-ttl' for queue 'q' in vhost '/': received the value '6' of type 'long' \
                 but current is none"
            ),
        ),
        (
            DeclareQueue { arguments: table([("x-overflow", text("drop-head"))]), ..original.clone() },
            format!(
                "{inequivalent} 'x-max-length' for queue 'q' in vhost '/': received none but current is the value \
                 '5' of type 'signedint'"
            ),
        ),
        (
            with("x-queue-type".into(), text("quorum")),
            format!(
                "{inequivalent} 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is \
                 'classic'"
            ),
        ),
        (DeclareQueue { exclusive: Some(owner(1, 0, 1)), ..original.clone() }, LOCKED.to_owned()),
    ];
    let mut catalogue = world();
    declared(&mut catalogue, original.clone());
    for (declare, expected) in cases {
        assert_eq!(refused(&mut catalogue, Command::DeclareQueue(declare)), expected);
    }
}

#[test]
fn an_exclusive_queue_is_locked_to_other_connections() {
    let mut catalogue = world();
    declared(&mut catalogue, exclusive("q", owner(1, 0, 1)));
    for other in [exclusive("q", owner(1, 0, 2)), exclusive("q", owner(2, 0, 1)), transient("q", 1)] {
        assert_eq!(refused(&mut catalogue, Command::DeclareQueue(other)), LOCKED);
    }
    let spec = catalogue.queue("/", "q").unwrap();
    let error = warren_catalogue::check_exclusive_access(spec, owner(1, 0, 2)).unwrap_err();
    assert_eq!(format!("{} {}", error.code.code(), error.text), LOCKED);
    assert!(warren_catalogue::check_exclusive_access(spec, owner(1, 0, 1)).is_ok());
}

#[test]
fn a_queue_argument_of_the_wrong_type_or_range_is_refused() {
    let long = AMQPValue::LongLongInt;
    let cases = [
        ("x-message-ttl", int(-1), "{value_negative,-1}"),
        ("x-message-ttl", text("1"), "\"expected integer, got longstr\""),
        ("x-message-ttl", long(315_360_000_001), "{value_too_large,315360000001}"),
        ("x-expires", int(0), "{value_zero,0}"),
        ("x-expires", int(-5), "{value_negative,-5}"),
        ("x-expires", AMQPValue::Double(1.0), "\"expected integer, got double\""),
        ("x-max-length", int(-1), "{value_negative,-1}"),
        ("x-max-length-bytes", AMQPValue::Boolean(true), "\"expected integer, got bool\""),
        ("x-max-priority", int(256), "{max_value_exceeded,256}"),
        ("x-max-priority", int(-1), "{value_negative,-1}"),
        ("x-overflow", text("drop-tail"), "invalid_overflow"),
        ("x-overflow", int(1), "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", text("k"), "routing_key_but_no_dlx_defined"),
        ("x-dead-letter-strategy", text("sometimes"), "invalid_dlx_strategy"),
        ("x-single-active-consumer", text("true"), "{unacceptable_type,longstr}"),
        ("x-queue-type", text("foo"), "\"unsupported queue type 'foo'\""),
        ("x-queue-type", long(1), "{unacceptable_type,long}"),
        ("x-queue-version", int(1), "\"unsupported queue version '1'\""),
        ("x-queue-leader-locator", text("here"), "invalid_queue_locator_arg"),
        ("x-quorum-initial-group-size", int(0), "{value_zero,0}"),
        ("x-max-age", text("soon"), "invalid_max_age"),
        ("x-consumer-timeout", int(-1), "{value_negative,-1}"),
    ];
    for (key, value, reason) in cases {
        let declare = DeclareQueue { arguments: table([(key, value)]), ..queue("q") };
        assert_eq!(
            refused(&mut world(), Command::DeclareQueue(declare)),
            format!("406 invalid arg '{key}' for queue 'q' in vhost '/': {reason}")
        );
    }
    let cases = [
        (
            "x-dead-letter-exchange",
            long(1),
            "406 invalid type 'long' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
        ),
        (
            "x-stream-max-segment-size-bytes",
            long(3_000_000_001),
            "406 Exceeded max value for x-stream-max-segment-size-bytes",
        ),
        ("x-stream-filter-size-bytes", int(15), "406 Invalid value for x-stream-filter-size-bytes"),
    ];
    for (key, value, expected) in cases {
        let declare = DeclareQueue { arguments: table([(key, value)]), ..queue("q") };
        assert_eq!(refused(&mut world(), Command::DeclareQueue(declare)), expected);
    }
}

#[test]
fn a_queue_needs_a_name_a_vhost_and_a_home() {
    let mut catalogue = world();
    let mut refused = |declare| refused(&mut catalogue, Command::DeclareQueue(declare));
    assert_eq!(refused(DeclareQueue { vhost: "gone".to_owned(), ..queue("q") }), "530 vhost gone not found");
    assert_eq!(refused(queue("")), "406 queue name is empty");
    assert_eq!(refused(queue(&"n".repeat(256))), "406 queue name is 256 bytes long, more than 255");
    assert_eq!(refused(transient("q", 9)), "404 node 9 is not a member of the cluster");
}

#[test]
fn an_exclusive_queue_of_a_connection_that_a_restart_ended_is_refused() {
    let mut catalogue = world();
    apply(&mut catalogue, node_up(1, 100, &[]));
    assert_eq!(
        refused(&mut catalogue, Command::DeclareQueue(exclusive("q", owner(1, 99, 1)))),
        "320 the connection was lost when node 1 started again"
    );
    declared(&mut catalogue, exclusive("q", owner(1, 100, 1)));
}

#[test]
fn a_vhost_created_before_the_cluster_cannot_hold_durable_queues() {
    let mut catalogue = warren_catalogue::Catalogue::new();
    apply(&mut catalogue, Command::CreateVhost { name: "/".to_owned() });
    assert_eq!(
        refused(&mut catalogue, Command::DeclareQueue(queue("q"))),
        "541 the cluster has no shard to hold a durable queue"
    );
}

#[test]
fn an_exchange_declared_again_differently_is_refused_with_what_differs() {
    let original = ExchangeRecord {
        arguments: table([("alternate-exchange", text("ae"))]),
        ..exchange("x", ExchangeKind::Direct)
    };
    let start = "406 inequivalent arg";
    let cases = [
        (
            ExchangeRecord { kind: ExchangeKind::Fanout, ..original.clone() },
            format!(
                "{start} 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'"
            ),
        ),
        (
            ExchangeRecord { durable: false, ..original.clone() },
            format!(
                "{start} 'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'"
            ),
        ),
        (
            ExchangeRecord { auto_delete: true, ..original.clone() },
            format!(
                "{start} 'auto_delete' for exchange 'x' in vhost '/': received 'true' but current is 'false'"
            ),
        ),
        (
            ExchangeRecord { internal: true, ..original.clone() },
            format!(
                "{start} 'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'"
            ),
        ),
        (
            ExchangeRecord { arguments: none(), ..original.clone() },
            format!(
                "{start} 'alternate-exchange' for exchange 'x' in vhost '/': received none but current is the value \
                 'ae' of type 'longstr'"
            ),
        ),
    ];
    let mut catalogue = world();
    apply(&mut catalogue, declare(original));
    for (again, expected) in cases {
        assert_eq!(refused(&mut catalogue, declare(again)), expected);
    }
}

#[test]
fn exchanges_of_the_broker_are_neither_made_nor_deleted_by_clients() {
    let mut catalogue = world();
    let mut refused = |command| refused(&mut catalogue, command);
    let delete = |name: &str, vhost: &str| Command::DeleteExchange {
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        if_unused: false,
    };
    let default = "403 operation not permitted on the default exchange";
    assert_eq!(refused(declare(exchange("", ExchangeKind::Direct))), default);
    assert_eq!(refused(delete("", "/")), default);
    assert_eq!(refused(Command::Bind(to_queue("", "q", ""))), default);
    assert_eq!(refused(Command::Unbind(to_queue("", "q", ""))), default);
    assert_eq!(refused(Command::Bind(to_exchange("amq.topic", "", ""))), default);
    assert_eq!(
        refused(declare(exchange("amq.mine", ExchangeKind::Direct))),
        "403 exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    );
    assert_eq!(
        refused(delete("amq.direct", "/")),
        "403 deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
    assert_eq!(
        warren_catalogue::check_queue_name("amq.x").unwrap_err().text,
        "queue name 'amq.x' contains reserved prefix 'amq.*'"
    );
}

#[test]
fn an_exchange_needs_a_known_type_a_vhost_and_an_alternate_that_is_a_name() {
    assert_eq!(
        ExchangeKind::parse("foo").unwrap_err().reply_text(),
        "PRECONDITION_FAILED - unknown exchange type 'foo'"
    );
    let mut catalogue = world();
    let arguments = table([("alternate-exchange", AMQPValue::LongLongInt(1))]);
    assert_eq!(
        refused(&mut catalogue, declare(ExchangeRecord { arguments, ..exchange("x", ExchangeKind::Topic) })),
        "406 invalid type 'long' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
    );
    let exchange = exchange("x", ExchangeKind::Topic);
    assert_eq!(
        refused(&mut catalogue, Command::DeclareExchange { vhost: "gone".to_owned(), exchange }),
        "530 vhost gone not found"
    );
}

#[test]
fn an_exchange_with_bindings_is_in_use() {
    let mut catalogue = world();
    apply(&mut catalogue, declare(exchange("x", ExchangeKind::Direct)));
    declared(&mut catalogue, queue("q"));
    apply(&mut catalogue, Command::Bind(to_queue("x", "q", "k")));
    let delete = Command::DeleteExchange { vhost: "/".to_owned(), name: "x".to_owned(), if_unused: true };
    assert_eq!(refused(&mut catalogue, delete.clone()), "406 exchange 'x' in vhost '/' in use");
    apply(&mut catalogue, Command::Unbind(to_queue("x", "q", "k")));
    apply(&mut catalogue, delete);
    assert!(catalogue.exchange("/", "x").is_none());
}

#[test]
fn a_binding_needs_both_ends_the_source_is_named_first() {
    let mut catalogue = world();
    let mut refused = |binding| refused(&mut catalogue, Command::Bind(binding));
    assert_eq!(refused(to_queue("x", "q", "")), "404 no exchange 'x' in vhost '/'");
    assert_eq!(refused(to_queue("amq.topic", "q", "")), "404 no queue 'q' in vhost '/'");
    assert_eq!(refused(to_exchange("amq.topic", "x", "")), "404 no exchange 'x' in vhost '/'");
    assert_eq!(
        refused(BindingRecord { vhost: "gone".to_owned(), ..to_queue("x", "q", "") }),
        "530 vhost gone not found"
    );
}

#[test]
fn a_binding_that_its_exchange_cannot_follow_is_refused() {
    let mut catalogue = world();
    declared(&mut catalogue, queue("q"));
    let mut refused = |binding| refused(&mut catalogue, Command::Bind(binding));
    assert_eq!(
        refused(to_queue("amq.topic", "q", "#.a.#.b.#")),
        "406 Topic binding key '#.a.#.b.#' uses 3 '#' wildcards, at most 2 are allowed"
    );
    let with =
        |value| BindingRecord { arguments: table([("x-match", value)]), ..to_queue("amq.headers", "q", "") };
    assert_eq!(
        refused(with(text("foo"))),
        "406 Invalid x-match field value <<\"foo\">>; expected all, any, all-with-x, or any-with-x"
    );
    assert_eq!(
        refused(with(AMQPValue::LongLongInt(1))),
        "406 Invalid x-match field type long (value 1); expected longstr"
    );
}

#[test]
fn permissions_need_a_user_a_vhost_and_patterns_that_compile() {
    let mut catalogue = world();
    let mut refused = |user: &str, vhost: &str, pattern: &str| {
        refused(
            &mut catalogue,
            Command::SetPermissions(PermissionRecord {
                user: user.to_owned(),
                vhost: vhost.to_owned(),
                configure: ".*".to_owned(),
                write: pattern.to_owned(),
                read: ".*".to_owned(),
            }),
        )
    };
    assert_eq!(refused("nobody", "/", ""), "404 no user 'nobody'");
    assert_eq!(refused("guest", "gone", ""), "530 vhost gone not found");
    assert_eq!(refused("guest", "/", "("), "406 invalid regexp '(': unclosed group");
    assert!(refused("guest", "/", &"a{1000}".repeat(300)).starts_with("406 invalid regexp"));
    assert_eq!(refused("guest", "/", &"a".repeat(5000)), "406 a regexp of 5000 bytes is longer than 4096");
}

#[test]
fn a_cluster_is_formed_once_and_of_something() {
    let mut catalogue = world();
    let Command::Form(formed) = form(3, 4) else { unreachable!() };
    let other = Command::Form(warren_proto::catalogue::Form { cluster_id: 78, ..formed.clone() });
    assert_eq!(refused(&mut catalogue, other), "406 cluster 'warren' is formed already");
    let refused = |form| refused(&mut warren_catalogue::Catalogue::new(), Command::Form(form));
    let twice = "406 a cluster is formed of at least one node, each once";
    let with = |change: &dyn Fn(&mut warren_proto::catalogue::Form)| {
        let mut form = formed.clone();
        change(&mut form);
        form
    };
    assert_eq!(refused(with(&|form| form.nodes.clear())), twice);
    assert_eq!(refused(with(&|form| form.nodes.push(node(1)))), twice);
    assert_eq!(refused(with(&|form| form.shards = 0)), "406 a cluster has 1 to 65536 shards, not 0");
    assert_eq!(refused(with(&|form| form.replication = 0)), "406 a shard has at least one replica");
    assert_eq!(refused(with(&|form| form.default_user.name.clear())), "406 user name is empty");
}

#[test]
fn nodes_and_shards_are_changed_only_to_what_makes_sense() {
    let mut catalogue = world();
    apply(&mut catalogue, node_up(1, 100, &[]));
    let mut refused = |command| refused(&mut catalogue, command);
    assert_eq!(refused(node_up(1, 99, &[])), "406 node 1 has started as 100 already: 99 is older");
    assert_eq!(refused(node_up(9, 1, &[])), "404 node 9 is not a member of the cluster");
    assert_eq!(
        refused(Command::RemoveNode { node: NodeId(2) }),
        "406 node 2 still holds a replica of shard 1"
    );
    assert_eq!(
        refused(Command::MoveTransient { from: NodeId(1), to: NodeId(9) }),
        "404 node 9 is not a member of the cluster"
    );
    let mut set = |shard, replicas: &[u64], preferred| {
        refused(Command::SetShardReplicas(ShardRecord {
            shard: ShardId(shard),
            replicas: replicas.iter().copied().map(NodeId).collect(),
            preferred: NodeId(preferred),
        }))
    };
    assert_eq!(set(1, &[], 1), "406 shard 1 has at least one replica, on each node one");
    assert_eq!(set(1, &[1, 1], 1), "406 shard 1 has at least one replica, on each node one");
    assert_eq!(set(1, &[1, 9], 1), "404 node 9 is not a member of the cluster");
    assert_eq!(set(1, &[1, 2], 3), "406 node 3 holds no replica of shard 1");
    assert_eq!(set(99, &[1, 2], 1), "404 no shard 99");
}

#[test]
fn users_and_vhosts_need_names() {
    let user = UserRecord { name: String::new(), password_hash: String::new(), tags: Vec::new() };
    assert_eq!(refused(&mut world(), Command::PutUser(user)), "406 user name is empty");
    assert_eq!(
        refused(&mut world(), Command::CreateVhost { name: String::new() }),
        "406 vhost name is empty"
    );
    assert_eq!(
        refused(&mut world(), Command::CreateVhost { name: "v".repeat(300) }),
        "406 vhost name is 300 bytes long, more than 255"
    );
}

#[test]
fn deleting_what_is_not_there_succeeds_and_changes_nothing() {
    let mut catalogue = world();
    let before = catalogue.encode();
    let gone = || "gone".to_owned();
    for command in [
        Command::DeleteQueue { queue: QueueId(99) },
        Command::DeleteVhost { name: gone() },
        Command::DeleteUser { name: gone() },
        Command::DeleteExchange { vhost: gone(), name: "x".to_owned(), if_unused: true },
        Command::DeleteExchange { vhost: "/".to_owned(), name: gone(), if_unused: false },
        Command::ClearPermissions { user: gone(), vhost: "/".to_owned() },
        Command::ClearPermissions { user: "guest".to_owned(), vhost: gone() },
        Command::Unbind(to_queue("amq.topic", "gone", "k")),
        Command::Unbind(to_exchange("gone", "amq.topic", "k")),
        Command::Unbind(BindingRecord { vhost: gone(), ..to_queue("x", "q", "") }),
        Command::ReleaseOwner { owner: owner(1, 1, 1) },
        Command::RemoveNode { node: NodeId(99) },
        Command::MoveTransient { from: NodeId(99), to: NodeId(1) },
    ] {
        let applied = apply(&mut catalogue, command.clone());
        assert!(!applied.created && applied.deleted_queues.is_empty(), "{command:?}");
        assert_eq!(applied.revision, catalogue.revision());
        assert_eq!(catalogue.encode(), before, "{command:?}");
    }
}
