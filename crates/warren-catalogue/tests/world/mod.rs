//! A small cluster to test with, and short words for commands.

#![allow(dead_code, reason = "each suite uses a part")]

use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_catalogue::{
    Applied, BindingRecord, Catalogue, Destination, ExchangeKind, ExchangeRecord, NodeRecord, UserRecord,
    hash_password,
};
use warren_proto::catalogue::{Command, DeclareQueue, Form, NodeUp};
use warren_types::{
    AMQPValue, AmqpError, ConnectionId, ExclusiveOwner, FieldTable, NodeId, QueueId, UnixMillis,
};

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(crate) fn int(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

pub(crate) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

pub(crate) fn none() -> FieldTable {
    FieldTable::default()
}

pub(crate) fn node(id: u64) -> NodeRecord {
    NodeRecord { id: NodeId(id), name: format!("n{id}"), address: format!("host{id}:25672"), zone: None }
}

pub(crate) fn form(nodes: u64, shards: u32) -> Command {
    Command::Form(Form {
        cluster_id: 77,
        name: "warren".to_owned(),
        nodes: (1..=nodes).map(node).collect(),
        shards,
        replication: 3,
        default_user: UserRecord {
            name: "guest".to_owned(),
            password_hash: hash_password([1, 2, 3, 4], b"guest"),
            tags: vec!["administrator".to_owned()],
        },
        time: UnixMillis(1_700_000_000_000),
    })
}

/// A cluster of that many nodes and shards.
pub(crate) fn formed(nodes: u64, shards: u32) -> Catalogue {
    let mut catalogue = Catalogue::new();
    catalogue.apply(&form(nodes, shards)).unwrap();
    catalogue
}

pub(crate) fn world() -> Catalogue {
    formed(3, 4)
}

pub(crate) fn owner(node: u64, incarnation: u64, connection: u64) -> ExclusiveOwner {
    ExclusiveOwner { node: NodeId(node), incarnation, connection: ConnectionId(connection) }
}

pub(crate) fn node_up(node: u64, incarnation: u64, alive: &[(u64, u64)]) -> Command {
    Command::NodeUp(NodeUp {
        node: NodeId(node),
        incarnation,
        address: format!("host{node}:25672"),
        name: format!("n{node}"),
        http_address: None,
        alive: alive.iter().map(|(node, incarnation)| (NodeId(*node), *incarnation)).collect(),
    })
}

/// A durable queue, to be changed with `..`.
pub(crate) fn queue(name: &str) -> DeclareQueue {
    DeclareQueue {
        vhost: "/".to_owned(),
        name: name.to_owned(),
        durable: true,
        exclusive: None,
        auto_delete: false,
        arguments: none(),
        home: NodeId(1),
    }
}

pub(crate) fn transient(name: &str, home: u64) -> DeclareQueue {
    DeclareQueue { durable: false, home: NodeId(home), ..queue(name) }
}

pub(crate) fn exclusive(name: &str, owner: ExclusiveOwner) -> DeclareQueue {
    DeclareQueue { durable: false, exclusive: Some(owner), home: owner.node, ..queue(name) }
}

/// A durable exchange, to be changed with `..`.
pub(crate) fn exchange(name: &str, kind: ExchangeKind) -> ExchangeRecord {
    ExchangeRecord {
        name: name.to_owned(),
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: none(),
    }
}

pub(crate) fn declare(exchange: ExchangeRecord) -> Command {
    Command::DeclareExchange { vhost: "/".to_owned(), exchange }
}

pub(crate) fn to_queue(source: &str, queue: &str, key: &str) -> BindingRecord {
    BindingRecord {
        vhost: "/".to_owned(),
        source: source.to_owned(),
        destination: Destination::Queue(queue.to_owned()),
        routing_key: key.to_owned(),
        arguments: none(),
    }
}

pub(crate) fn to_exchange(source: &str, exchange: &str, key: &str) -> BindingRecord {
    BindingRecord { destination: Destination::Exchange(exchange.to_owned()), ..to_queue(source, "", key) }
}

/// Applies what must succeed.
pub(crate) fn apply(catalogue: &mut Catalogue, command: Command) -> Applied {
    catalogue.apply(&command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Applies what must be refused, and checks that it changed nothing.
pub(crate) fn refused(catalogue: &mut Catalogue, command: Command) -> String {
    let before = catalogue.encode();
    let error: AmqpError = match catalogue.apply(&command) {
        Ok(applied) => panic!("{command:?} was not refused: {applied:?}"),
        Err(error) => error,
    };
    assert_eq!(catalogue.encode(), before, "{command:?} was refused and changed something");
    format!("{} {}", error.code.code(), error.text)
}

/// Declares a queue and gives its number.
pub(crate) fn declared(catalogue: &mut Catalogue, declare: DeclareQueue) -> QueueId {
    apply(catalogue, Command::DeclareQueue(declare)).queue.unwrap()
}

/// The names of the queues that a message goes to, in order of name.
pub(crate) fn routed(
    catalogue: &Catalogue,
    exchange: &str,
    keys: &[&str],
    headers: &FieldTable,
) -> Vec<String> {
    let mut set = RouteSet::default();
    let headers = || Some(headers.clone());
    catalogue.route("/", exchange, RouteInput::new(keys, &headers), &mut set).unwrap();
    let mut names: Vec<String> = set
        .iter()
        .map(|(host, queue)| {
            let spec = catalogue.queue_by_id(queue).unwrap();
            assert_eq!(spec.host, host);
            spec.name.to_string()
        })
        .collect();
    names.sort();
    names
}
