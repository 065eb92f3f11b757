//! What commands do: queues and their places, bindings that go with their ends, nodes that come and go.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::{Catalogue, ExchangeKind, ExchangeRecord, NodeRecord, PermissionRecord, UserRecord};
use warren_proto::catalogue::{BindingRecord, Command, DeclareQueue, NodeUp};
use warren_types::{AMQPValue, NodeId, QueueHost, QueueId, ShardId};
use world::*;

fn host(catalogue: &Catalogue, name: &str) -> Option<QueueHost> {
    catalogue.queue("/", name).map(|queue| queue.host)
}

fn names<'a>(queues: impl Iterator<Item = &'a std::sync::Arc<warren_types::QueueSpec>>) -> Vec<String> {
    queues.map(|queue| queue.name.to_string()).collect()
}

#[test]
fn a_new_cluster_has_its_nodes_shards_default_vhost_and_user() {
    let catalogue = world();
    assert_eq!(catalogue.cluster().unwrap().name, "warren");
    assert_eq!(catalogue.nodes().map(|node| node.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(catalogue.shards().map(|shard| shard.preferred.0).collect::<Vec<_>>(), [1, 2, 3, 1]);
    assert_eq!(catalogue.vhosts().collect::<Vec<_>>(), ["/"]);
    assert_eq!(
        catalogue.exchanges("/").map(|exchange| exchange.name.as_str()).collect::<Vec<_>>(),
        ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic"]
    );
    assert!(catalogue.exchanges("/").all(|exchange| exchange.durable && !exchange.auto_delete));
    assert!(catalogue.authenticate("guest", b"guest").is_ok());
    assert!(catalogue.vhost_access("guest", "/").is_ok());
    assert_eq!(catalogue.revision(), 1);
}

#[test]
fn forming_again_with_the_same_identity_changes_nothing() {
    let mut catalogue = world();
    let before = catalogue.encode();
    assert!(!apply(&mut catalogue, form(3, 4)).created);
    assert_eq!(catalogue.encode(), before);
}

#[test]
fn durable_queues_go_to_the_shard_with_the_fewest() {
    let mut catalogue = formed(3, 3);
    let ids: Vec<_> = (0..6).map(|i| declared(&mut catalogue, queue(&format!("q{i}")))).collect();
    let shards = |catalogue: &Catalogue| -> Vec<usize> {
        (1..=3).map(|shard| catalogue.queue_count_of_host(QueueHost::Shard(ShardId(shard)))).collect()
    };
    assert_eq!(shards(&catalogue), [2, 2, 2]);
    assert_eq!(host(&catalogue, "q3"), Some(QueueHost::Shard(ShardId(1))));
    for id in [ids[1], ids[4]] {
        apply(&mut catalogue, Command::DeleteQueue { queue: id });
    }
    assert_eq!(shards(&catalogue), [2, 0, 2]);
    for name in ["a", "b", "c"] {
        declared(&mut catalogue, queue(name));
    }
    assert_eq!(shards(&catalogue), [3, 2, 2]);
}

#[test]
fn transient_and_exclusive_queues_live_on_their_home_node() {
    let mut catalogue = world();
    declared(&mut catalogue, transient("t", 2));
    declared(&mut catalogue, DeclareQueue { durable: true, ..exclusive("e", owner(3, 0, 7)) });
    assert_eq!(host(&catalogue, "t"), Some(QueueHost::Node(NodeId(2))));
    assert_eq!(host(&catalogue, "e"), Some(QueueHost::Node(NodeId(3))));
    let spec = catalogue.queue("/", "e").unwrap();
    assert!(!spec.durable, "a durable exclusive queue is stored as not durable");
    assert_eq!(names(catalogue.queues_of_host(QueueHost::Node(NodeId(3)))), ["e"]);
    // And so it is declared again alike with and without `durable`.
    for durable in [true, false] {
        declared(&mut catalogue, DeclareQueue { durable, ..exclusive("e", owner(3, 0, 7)) });
    }
}

#[test]
fn declaring_alike_gives_the_same_queue_and_a_number_is_never_given_twice() {
    let mut catalogue = world();
    let first = apply(&mut catalogue, Command::DeclareQueue(queue("q")));
    let again = apply(&mut catalogue, Command::DeclareQueue(queue("q")));
    assert!(first.created && !again.created);
    assert_eq!(first.queue, again.queue);
    assert_eq!(first.revision, again.revision);
    let last = first.queue.unwrap();
    assert_eq!(catalogue.next_queue_id(), QueueId(last.0 + 1));
    assert_eq!(apply(&mut catalogue, Command::DeleteQueue { queue: last }).deleted_queues, [last]);
    let mut restored = Catalogue::decode(&catalogue.encode()).unwrap();
    for catalogue in [&mut catalogue, &mut restored] {
        assert_eq!(declared(catalogue, queue("q")), QueueId(last.0 + 1));
    }
}

#[test]
fn arguments_are_alike_across_integer_widths_and_unknown_ones_do_not_count() {
    let mut catalogue = world();
    let with = |entries| DeclareQueue { arguments: entries, ..queue("q") };
    declared(&mut catalogue, with(table([("x-message-ttl", int(1000)), ("x-mine", text("a"))])));
    for alike in [
        table([("x-message-ttl", AMQPValue::LongLongInt(1000))]),
        table([("x-message-ttl", AMQPValue::ShortUInt(1000)), ("x-mine", text("b"))]),
        table([("x-message-ttl", int(1000)), ("x-queue-type", text("classic"))]),
        table([("x-message-ttl", int(1000)), ("x-queue-type", text(""))]),
    ] {
        declared(&mut catalogue, with(alike));
    }
    assert!(catalogue.queue("/", "q").unwrap().arguments.contains_key("x-mine"));
}

#[test]
fn every_argument_is_taken_on_every_queue_type() {
    for kind in ["classic", "quorum", "stream"] {
        let arguments = table([
            ("x-queue-type", text(kind)),
            ("x-message-ttl", int(0)),
            ("x-expires", int(1)),
            ("x-max-length", int(0)),
            ("x-max-length-bytes", int(0)),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("k")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-max-priority", int(255)),
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
            ("x-delivery-limit", int(-1)),
            ("x-queue-mode", text("lazy")),
            ("x-queue-version", int(2)),
            ("x-max-age", text("7D")),
            ("x-quorum-initial-group-size", int(3)),
            ("x-queue-leader-locator", text("balanced")),
        ]);
        declared(&mut world(), DeclareQueue { arguments, ..queue("q") });
    }
}

#[test]
fn a_deleted_queue_takes_its_bindings_along() {
    let mut catalogue = world();
    let id = declared(&mut catalogue, queue("q"));
    declared(&mut catalogue, queue("other"));
    for binding in [
        to_queue("amq.topic", "q", "a.*"),
        to_queue("amq.direct", "q", "a"),
        to_queue("amq.direct", "other", "a"),
    ] {
        apply(&mut catalogue, Command::Bind(binding));
    }
    assert_eq!(catalogue.bindings_of_queue(id).count(), 2);
    apply(&mut catalogue, Command::DeleteQueue { queue: id });
    assert_eq!(catalogue.bindings("/").collect::<Vec<_>>(), [to_queue("amq.direct", "other", "a")]);
    declared(&mut catalogue, queue("q"));
    assert_eq!(routed(&catalogue, "amq.direct", &["a"], &none()), ["other"]);
}

#[test]
fn bindings_that_differ_only_in_their_arguments_are_two() {
    let mut catalogue = world();
    declared(&mut catalogue, queue("q"));
    let plain = to_queue("amq.direct", "q", "k");
    let other = BindingRecord { arguments: table([("note", int(1))]), ..plain.clone() };
    assert!(apply(&mut catalogue, Command::Bind(plain.clone())).created);
    assert!(apply(&mut catalogue, Command::Bind(other.clone())).created);
    assert!(!apply(&mut catalogue, Command::Bind(other)).created);
    assert_eq!(routed(&catalogue, "amq.direct", &["k"], &none()), ["q"]);
    apply(&mut catalogue, Command::Unbind(plain));
    assert_eq!(routed(&catalogue, "amq.direct", &["k"], &none()), ["q"]);
    assert_eq!(catalogue.bindings_of_exchange("/", "amq.direct").count(), 1);
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_one_after_the_other() {
    let mut catalogue = world();
    let auto = |name| ExchangeRecord { auto_delete: true, ..exchange(name, ExchangeKind::Fanout) };
    for name in ["a", "b", "unused"] {
        apply(&mut catalogue, declare(auto(name)));
    }
    apply(&mut catalogue, declare(exchange("stays", ExchangeKind::Fanout)));
    let id = declared(&mut catalogue, queue("q"));
    for binding in [to_queue("b", "q", ""), to_exchange("a", "b", ""), to_exchange("stays", "a", "")] {
        apply(&mut catalogue, Command::Bind(binding));
    }
    apply(&mut catalogue, Command::DeleteQueue { queue: id });
    let left: Vec<_> = catalogue
        .exchanges("/")
        .map(|exchange| exchange.name.as_str())
        .filter(|name| !name.is_empty() && !name.starts_with("amq."))
        .collect();
    assert_eq!(left, ["stays", "unused"]);
    assert_eq!(catalogue.bindings("/").count(), 0);
}

#[test]
fn an_auto_delete_exchange_bound_to_itself_goes_with_its_last_other_destination_gone() {
    let mut catalogue = world();
    let auto = ExchangeRecord { auto_delete: true, ..exchange("x", ExchangeKind::Fanout) };
    apply(&mut catalogue, declare(auto));
    apply(&mut catalogue, Command::Bind(to_exchange("x", "x", "")));
    apply(&mut catalogue, Command::Unbind(to_exchange("x", "x", "")));
    assert!(catalogue.exchange("/", "x").is_none());
}

#[test]
fn a_deleted_exchange_takes_its_bindings_in_both_directions() {
    let mut catalogue = world();
    apply(&mut catalogue, declare(exchange("x", ExchangeKind::Fanout)));
    let id = declared(&mut catalogue, queue("q"));
    for binding in [to_queue("x", "q", ""), to_exchange("amq.fanout", "x", ""), to_exchange("x", "x", "")] {
        apply(&mut catalogue, Command::Bind(binding));
    }
    apply(
        &mut catalogue,
        Command::DeleteExchange { vhost: "/".to_owned(), name: "x".to_owned(), if_unused: false },
    );
    assert_eq!(catalogue.bindings("/").count(), 0);
    assert_eq!(catalogue.bindings_of_queue(id).count(), 0);
    assert_eq!(catalogue.bindings_of_exchange("/", "amq.fanout").count(), 0);
}

#[test]
fn the_revision_rises_only_with_a_change_and_the_topology_s_only_with_its_own() {
    let mut catalogue = world();
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    let (revision, here) = (catalogue.revision(), catalogue.topology_revision("v"));
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    assert_eq!(catalogue.revision(), revision);
    let applied = apply(&mut catalogue, Command::DeclareQueue(queue("q")));
    assert_eq!((applied.revision, catalogue.topology_revision("/")), (revision + 1, revision + 1));
    assert_eq!(catalogue.topology_revision("v"), here);
    apply(&mut catalogue, Command::DeleteVhost { name: "v".to_owned() });
    assert_eq!(catalogue.topology_revision("v"), 0);
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    assert!(catalogue.topology_revision("v") > here);
}

#[test]
fn a_deleted_vhost_takes_everything_in_it_along() {
    let mut catalogue = world();
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    let there = |name: &str| DeclareQueue { vhost: "v".to_owned(), ..queue(name) };
    let gone = [declared(&mut catalogue, there("a")), declared(&mut catalogue, there("b"))];
    let permissions = PermissionRecord {
        user: "guest".to_owned(),
        vhost: "v".to_owned(),
        configure: String::new(),
        write: String::new(),
        read: String::new(),
    };
    apply(&mut catalogue, Command::SetPermissions(permissions));
    let applied = apply(&mut catalogue, Command::DeleteVhost { name: "v".to_owned() });
    assert_eq!(applied.deleted_queues, gone);
    assert!(catalogue.queue_by_id(gone[0]).is_none());
    assert_eq!(catalogue.queue_count(), 0);
    assert_eq!(catalogue.permissions().count(), 1);
}

#[test]
fn a_deleted_user_has_no_permissions_when_made_anew() {
    let mut catalogue = world();
    apply(&mut catalogue, Command::DeleteUser { name: "guest".to_owned() });
    assert!(catalogue.authenticate("guest", b"guest").is_err());
    let user = UserRecord { name: "guest".to_owned(), password_hash: String::new(), tags: Vec::new() };
    assert!(apply(&mut catalogue, Command::PutUser(user.clone())).created);
    assert!(!apply(&mut catalogue, Command::PutUser(user.clone())).created);
    assert!(catalogue.vhost_access("guest", "/").is_err());
    let tagged = UserRecord { tags: vec!["management".to_owned()], ..user };
    apply(&mut catalogue, Command::PutUser(tagged));
    assert_eq!(catalogue.user("guest").unwrap().tags, ["management"]);
}

#[test]
fn a_connection_s_exclusive_queues_go_when_it_ends() {
    let mut catalogue = world();
    let mine = declared(&mut catalogue, exclusive("mine", owner(1, 5, 1)));
    declared(&mut catalogue, exclusive("other", owner(1, 5, 2)));
    let applied = apply(&mut catalogue, Command::ReleaseOwner { owner: owner(1, 5, 1) });
    assert_eq!(applied.deleted_queues, [mine]);
    assert_eq!(names(catalogue.queues("/")), ["other"]);
}

/// Three nodes that have started as 10, 20 and 30, and one queue of each sort on the first.
fn running() -> Catalogue {
    let mut catalogue = world();
    for (node, incarnation) in [(1, 10), (2, 20), (3, 30)] {
        apply(&mut catalogue, node_up(node, incarnation, &[]));
    }
    declared(&mut catalogue, queue("durable"));
    declared(&mut catalogue, transient("transient", 1));
    declared(&mut catalogue, exclusive("exclusive", owner(1, 10, 1)));
    declared(&mut catalogue, DeclareQueue { home: NodeId(1), ..exclusive("guest", owner(2, 20, 1)) });
    declared(&mut catalogue, transient("elsewhere", 2));
    catalogue
}

#[test]
fn a_new_start_ends_exclusive_queues_and_keeps_transient_ones_that_others_may_consume_from() {
    let mut catalogue = running();
    apply(&mut catalogue, node_up(1, 11, &[(2, 20)]));
    assert_eq!(names(catalogue.queues("/")), ["durable", "transient", "guest", "elsewhere"]);
    assert_eq!(catalogue.node(NodeId(1)).unwrap().incarnation, 11);
}

#[test]
fn a_new_start_that_nobody_lived_through_ends_all_queues_in_its_memory() {
    for alive in [&[][..], &[(2, 19)], &[(1, 11)], &[(9, 20)]] {
        let mut catalogue = running();
        let applied = apply(&mut catalogue, node_up(1, 11, alive));
        assert_eq!(names(catalogue.queues("/")), ["durable", "elsewhere"], "{alive:?}");
        assert_eq!(applied.deleted_queues.len(), 3);
    }
}

#[test]
fn an_exclusive_queue_of_the_new_start_outlives_the_report_of_that_start() {
    let mut catalogue = running();
    declared(&mut catalogue, exclusive("early", owner(1, 11, 1)));
    apply(&mut catalogue, node_up(1, 11, &[(2, 20)]));
    assert_eq!(names(catalogue.queues("/")), ["durable", "transient", "guest", "elsewhere", "early"]);
}

#[test]
fn the_same_start_reported_again_ends_nothing() {
    let mut catalogue = running();
    let before = catalogue.encode();
    apply(&mut catalogue, node_up(1, 10, &[]));
    assert_eq!(catalogue.encode(), before);
    let moved = NodeUp {
        node: NodeId(1),
        incarnation: 10,
        address: "elsewhere:1".to_owned(),
        name: "n1".to_owned(),
        http_address: Some("elsewhere:2".to_owned()),
        alive: Vec::new(),
    };
    apply(&mut catalogue, Command::NodeUp(moved));
    assert_eq!(catalogue.node(NodeId(1)).unwrap().address, "elsewhere:1");
    assert_eq!(catalogue.queue_count(), 5);
}

#[test]
fn transient_queues_of_a_lost_node_move_and_keep_their_bindings() {
    let mut catalogue = running();
    apply(&mut catalogue, Command::Bind(to_queue("amq.fanout", "transient", "")));
    let before = catalogue.topology_revision("/");
    let id = catalogue.queue("/", "transient").unwrap().id;
    let applied = apply(&mut catalogue, Command::MoveTransient { from: NodeId(1), to: NodeId(3) });
    assert_eq!(applied.deleted_queues.len(), 1, "the exclusive queue of the lost node's connection");
    assert!(catalogue.queue("/", "exclusive").is_none());
    assert_eq!(catalogue.queue("/", "transient").unwrap().id, id);
    assert_eq!(names(catalogue.queues_of_host(QueueHost::Node(NodeId(3)))), ["transient", "guest"]);
    assert_eq!(catalogue.queues_of_host(QueueHost::Node(NodeId(1))).count(), 0);
    assert_eq!(routed(&catalogue, "amq.fanout", &[""], &none()), ["transient"]);
    assert!(catalogue.topology_revision("/") > before);
}

#[test]
fn a_removed_node_is_forgotten_with_what_only_it_had() {
    let mut catalogue = running();
    let fourth = NodeRecord { zone: Some("z".to_owned()), ..node(4) };
    assert!(apply(&mut catalogue, Command::AddNode(fourth.clone())).created);
    assert!(!apply(&mut catalogue, Command::AddNode(fourth)).created);
    apply(&mut catalogue, node_up(4, 40, &[]));
    apply(&mut catalogue, Command::AddNode(NodeRecord { name: "four".to_owned(), ..node(4) }));
    let renamed = catalogue.node(NodeId(4)).unwrap();
    assert_eq!((renamed.name.as_str(), renamed.incarnation), ("four", 40));
    declared(&mut catalogue, transient("t4", 4));
    let applied = apply(&mut catalogue, Command::RemoveNode { node: NodeId(4) });
    assert_eq!(applied.deleted_queues.len(), 1);
    assert!(catalogue.node(NodeId(4)).is_none());
}

#[test]
fn a_shard_s_replicas_are_what_was_set() {
    let mut catalogue = world();
    let record = warren_catalogue::ShardRecord {
        shard: ShardId(2),
        replicas: vec![NodeId(3), NodeId(1)],
        preferred: NodeId(1),
    };
    apply(&mut catalogue, Command::SetShardReplicas(record.clone()));
    assert_eq!(catalogue.shard(ShardId(2)), Some(&record));
    let revision = catalogue.revision();
    apply(&mut catalogue, Command::SetShardReplicas(record));
    assert_eq!(catalogue.revision(), revision);
}
