//! Laws of the log, with generated commands: the same log gives the same state, a snapshot and the rest of the log
//! give the whole, every index agrees with every other, and what is refused changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod naive;
mod world;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use warren_catalogue::{
    ApplyTo, BindingRecord, Catalogue, Destination, ExchangeKind, ExchangeRecord, ParameterRecord,
    PermissionRecord, PolicyRecord, ShardRecord, TopicPermissionRecord, UserLimits, UserRecord, VhostLimits,
    VhostMetadata,
};
use warren_proto::catalogue::{Command, DeclareQueue, Outcome};
use warren_types::{AMQPValue, ExclusiveOwner, FieldTable, NodeId, QueueHost, QueueId, ShardId};
use world::*;

fn vhost() -> impl Strategy<Value = String> {
    select(vec!["/", "/", "/", "v", "w"]).prop_map(str::to_owned)
}

fn queue_name() -> impl Strategy<Value = String> {
    (0..6).prop_map(|i| format!("q{i}"))
}

fn exchange_name() -> impl Strategy<Value = String> {
    select(vec!["", "amq.topic", "amq.fanout", "x0", "x1", "x2", "x3"]).prop_map(str::to_owned)
}

fn node_id() -> impl Strategy<Value = NodeId> {
    (1_u64..6).prop_map(NodeId)
}

fn user() -> impl Strategy<Value = String> {
    select(vec!["guest", "u1", "u2"]).prop_map(str::to_owned)
}

fn any_owner() -> impl Strategy<Value = ExclusiveOwner> {
    (1_u64..5, 0_u64..4, 0_u64..3)
        .prop_map(|(node, incarnation, connection)| owner(node, incarnation, connection))
}

fn arguments() -> impl Strategy<Value = FieldTable> {
    select(vec![
        none(),
        none(),
        table([("x-max-length", int(5))]),
        table([("x-max-length", AMQPValue::LongLongInt(5))]),
        table([("x-max-length", text("bad"))]),
        table([("alternate-exchange", text("amq.topic"))]),
        table([("x-match", text("any")), ("h", int(1))]),
        table([("x-match", text("bad"))]),
    ])
}

fn declare_queue() -> impl Strategy<Value = Command> {
    (
        vhost(),
        queue_name(),
        any::<bool>(),
        proptest::option::of(any_owner()),
        any::<bool>(),
        arguments(),
        node_id(),
    )
        .prop_map(|(vhost, name, durable, exclusive, auto_delete, arguments, home)| {
            Command::DeclareQueue(DeclareQueue {
                vhost,
                name,
                durable,
                exclusive,
                auto_delete,
                arguments,
                home,
            })
        })
}

fn declare_exchange() -> impl Strategy<Value = Command> {
    let (plain, choosing) = ExchangeKind::ALL.split_at(4);
    let kind = prop_oneof![12 => select(plain.to_vec()), 1 => select(choosing.to_vec())];
    (vhost(), exchange_name(), kind, any::<[bool; 3]>(), arguments()).prop_map(
        |(vhost, name, kind, [durable, auto_delete, internal], arguments)| Command::DeclareExchange {
            vhost,
            exchange: ExchangeRecord { name, kind, durable, auto_delete, internal, arguments },
        },
    )
}

fn binding() -> impl Strategy<Value = BindingRecord> {
    let destination = prop_oneof![
        3 => queue_name().prop_map(Destination::Queue),
        2 => exchange_name().prop_map(Destination::Exchange),
    ];
    let key = select(vec!["", "a", "a.b", "*", "#", "#.#.#", "7"]).prop_map(str::to_owned);
    (vhost(), exchange_name(), destination, key, arguments()).prop_map(
        |(vhost, source, destination, routing_key, arguments)| BindingRecord {
            vhost,
            source,
            destination,
            routing_key,
            arguments,
        },
    )
}

fn cluster_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (1_u64..6, 0_u64..5, vec((1_u64..6, 0_u64..5), 0..3)).prop_map(|(node, incarnation, alive)| node_up(
            node,
            incarnation,
            &alive
        )),
        (1_u64..6).prop_map(|id| Command::AddNode(node(id))),
        node_id().prop_map(|node| Command::RemoveNode { node }),
        (1_u32..6, vec(node_id(), 0..4), node_id()).prop_map(|(shard, replicas, preferred)| {
            Command::SetShardReplicas(ShardRecord { shard: ShardId(shard), replicas, preferred })
        }),
        (node_id(), node_id()).prop_map(|(from, to)| Command::MoveTransient { from, to }),
        (1_u64..4, 0_u32..5).prop_map(|(nodes, shards)| form(nodes, shards)),
    ]
}

fn user_command() -> impl Strategy<Value = Command> {
    let pattern = || select(vec!["", ".*", "^a", "("]).prop_map(str::to_owned);
    prop_oneof![
        vhost().prop_map(|name| Command::CreateVhost { name }),
        vhost().prop_map(|name| Command::DeleteVhost { name }),
        (user(), vec(user(), 0..2)).prop_map(|(name, tags)| {
            Command::PutUser(UserRecord { name, password_hash: String::new(), tags })
        }),
        user().prop_map(|name| Command::DeleteUser { name }),
        (user(), vhost(), pattern(), pattern()).prop_map(|(user, vhost, write, read)| {
            Command::SetPermissions(PermissionRecord { user, vhost, configure: String::new(), write, read })
        }),
        (user(), vhost()).prop_map(|(user, vhost)| Command::ClearPermissions { user, vhost }),
        (vhost(), user(), pattern(), any::<bool>(), 0_i64..3).prop_map(
            |(vhost, name, pattern, operator, priority)| {
                let definition = table([("max-length", AMQPValue::LongLongInt(priority))]);
                let apply_to = ApplyTo::Queues;
                Command::SetPolicy(PolicyRecord {
                    vhost,
                    name,
                    operator,
                    pattern,
                    apply_to,
                    priority,
                    definition,
                })
            }
        ),
        (vhost(), user(), any::<bool>()).prop_map(|(vhost, name, operator)| Command::ClearPolicy {
            vhost,
            name,
            operator
        }),
    ]
}

fn limit_command() -> impl Strategy<Value = Command> {
    let few = || proptest::option::of(0_u64..6);
    let pattern = || select(vec!["", ".*", "^{username}", "("]).prop_map(str::to_owned);
    let component = || select(vec!["", "shovel"]).prop_map(str::to_owned);
    let queue_type = select(vec!["", "classic", "quorum", "bad"]).prop_map(str::to_owned);
    prop_oneof![
        (vhost(), few(), few()).prop_map(|(vhost, max_connections, max_queues)| Command::SetVhostLimits {
            vhost,
            limits: VhostLimits { max_connections, max_queues },
        }),
        (user(), few(), few()).prop_map(|(user, max_connections, max_channels)| Command::SetUserLimits {
            user,
            limits: UserLimits { max_connections, max_channels },
        }),
        (vhost(), queue_type, any::<bool>()).prop_map(|(vhost, default_queue_type, protected)| {
            let metadata = VhostMetadata { default_queue_type, protected, ..VhostMetadata::default() };
            Command::SetVhostMetadata { vhost, metadata }
        }),
        (user(), vhost(), exchange_name(), pattern(), pattern()).prop_map(
            |(user, vhost, exchange, write, read)| {
                Command::SetTopicPermissions(TopicPermissionRecord { user, vhost, exchange, write, read })
            }
        ),
        (user(), vhost(), proptest::option::of(exchange_name()))
            .prop_map(|(user, vhost, exchange)| { Command::ClearTopicPermissions { user, vhost, exchange } }),
        (proptest::option::of(vhost()), component(), user(), pattern()).prop_map(
            |(vhost, component, name, value)| {
                Command::SetParameter(ParameterRecord { vhost, component, name, value })
            }
        ),
        (proptest::option::of(vhost()), component(), user())
            .prop_map(|(vhost, component, name)| Command::ClearParameter { vhost, component, name }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => limit_command(),
        2 => cluster_command(),
        2 => user_command(),
        4 => declare_exchange(),
        2 => (vhost(), exchange_name(), any::<bool>())
            .prop_map(|(vhost, name, if_unused)| Command::DeleteExchange { vhost, name, if_unused }),
        6 => declare_queue(),
        2 => (1_u64..20).prop_map(|queue| Command::DeleteQueue { queue: QueueId(queue) }),
        8 => binding().prop_map(Command::Bind),
        3 => binding().prop_map(Command::Unbind),
        1 => any_owner().prop_map(|owner| Command::ReleaseOwner { owner }),
    ]
}

fn log() -> impl Strategy<Value = Vec<Command>> {
    vec(command(), 0..60)
}

/// A formed cluster after the log.
fn after(log: &[Command]) -> Catalogue {
    let mut catalogue = world();
    for command in log {
        drop(catalogue.apply(command));
    }
    catalogue
}

fn sorted(bindings: impl Iterator<Item = BindingRecord>) -> Vec<String> {
    let mut bindings: Vec<String> = bindings.map(|binding| format!("{binding:?}")).collect();
    bindings.sort();
    bindings
}

/// What must hold of every state, asked through the front door.
fn check(catalogue: &Catalogue) {
    assert_eq!(catalogue.check_invariants(), Ok(()));
    let mut ids = BTreeSet::new();
    for vhost in catalogue.vhosts() {
        for queue in catalogue.queues(vhost) {
            assert!(ids.insert(queue.id), "queue {} twice", queue.id);
            assert_eq!(&*queue.vhost, vhost);
            let found = match queue.name.strip_prefix("amq.rabbitmq.recent-history.") {
                Some(exchange) => catalogue.history(vhost, exchange),
                None => catalogue.queue(vhost, &queue.name),
            };
            assert_eq!(found, Some(queue));
            assert_eq!(catalogue.queue_by_id(queue.id), Some(queue));
            assert!(catalogue.queues_of_host(queue.host).any(|other| other == queue));
            assert!(queue.id < catalogue.next_queue_id());
            assert_eq!(queue.durable, matches!(queue.host, QueueHost::Shard(_)));
            assert!(!queue.durable || queue.exclusive.is_none());
        }
        let all = sorted(catalogue.bindings(vhost));
        let by_source = catalogue
            .exchanges(vhost)
            .flat_map(|exchange| catalogue.bindings_of_exchange(vhost, &exchange.name));
        assert_eq!(sorted(by_source), all);
        let by_queue = catalogue.queues(vhost).flat_map(|queue| catalogue.bindings_of_queue(queue.id));
        let by_exchange = catalogue
            .exchanges(vhost)
            .flat_map(|exchange| catalogue.bindings_to_exchange(vhost, &exchange.name));
        assert_eq!(sorted(by_queue.chain(by_exchange)), all);
        assert!(catalogue.topology_revision(vhost) <= catalogue.revision());
    }
    assert_eq!(ids.len(), catalogue.queue_count());
    let hosts = catalogue
        .shards()
        .map(|shard| QueueHost::Shard(shard.shard))
        .chain(catalogue.nodes().map(|node| QueueHost::Node(node.id)));
    assert_eq!(hosts.map(|host| catalogue.queue_count_of_host(host)).sum::<usize>(), ids.len());
    for permission in catalogue.permissions() {
        assert!(catalogue.user(&permission.user).is_some() && catalogue.has_vhost(&permission.vhost));
    }
    for exchange in ["amq.topic", "amq.fanout", "x0", "x1", "x2", "x3"] {
        if catalogue.exchange("/", exchange).is_some() {
            let headers = table([("h", int(1))]);
            for keys in [&["a"][..], &["a.b", ""], &["q1"]] {
                let found = routed(catalogue, exchange, keys, &headers);
                let naive = naive::route(catalogue, exchange, keys, &headers);
                if naive::chooses(catalogue) {
                    assert!(found.iter().all(|queue| naive.contains(queue)), "{found:?} {naive:?}");
                } else {
                    assert_eq!(found, naive);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_index_agrees_with_every_other_after_any_log(log in log()) {
        check(&after(&log));
    }

    #[test]
    fn the_same_log_gives_the_same_state_and_the_same_answers(log in log()) {
        let (mut one, mut other) = (world(), world());
        for command in &log {
            prop_assert_eq!(one.apply(command), other.apply(command));
        }
        prop_assert_eq!(one.fingerprint(), other.fingerprint());
        prop_assert_eq!(one.encode(), other.encode());
    }

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_give_the_whole(log in log(), rest in log()) {
        let mut whole = after(&log);
        let mut restored = Catalogue::decode(&whole.encode()).unwrap();
        prop_assert_eq!(restored.encode(), whole.encode());
        for command in &rest {
            prop_assert_eq!(restored.apply(command), whole.apply(command));
        }
        prop_assert_eq!(restored.fingerprint(), whole.fingerprint());
        check(&restored);
    }

    #[test]
    fn a_refused_command_changes_nothing_and_a_change_raises_the_revision_by_one(log in log()) {
        let mut catalogue = world();
        for command in &log {
            let (before, revision) = (catalogue.encode(), catalogue.revision());
            let outcome = catalogue.apply(command);
            let changed = catalogue.encode() != before;
            prop_assert_eq!(catalogue.revision(), revision + u64::from(changed), "{:?}", command);
            match outcome {
                Ok(applied) => {
                    prop_assert_eq!(applied.revision, catalogue.revision());
                    prop_assert!(changed || (!applied.created && applied.deleted_queues.is_empty()));
                }
                Err(_) => prop_assert!(!changed, "{:?}", command),
            }
        }
    }

    #[test]
    fn an_applied_command_may_be_applied_again(log in log(), again in command()) {
        let mut catalogue = after(&log);
        if catalogue.apply(&again).is_ok() {
            let before = catalogue.encode();
            let repeated = catalogue.apply(&again);
            prop_assert!(repeated.is_ok(), "{:?}: {:?}", again, repeated);
            prop_assert_eq!(catalogue.encode(), before, "{:?}", again);
        }
    }

    #[test]
    fn commands_and_outcomes_survive_a_round_trip(log in log()) {
        let mut catalogue = world();
        for command in &log {
            prop_assert_eq!(&Command::decode(&command.encode()).unwrap(), command);
            let outcome = Outcome(catalogue.apply(command));
            prop_assert_eq!(Outcome::decode(&outcome.encode()).unwrap(), outcome);
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_but_never_harm(
        log in log(),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let mut bytes = after(&log).encode();
        let place = flip.index(bytes.len());
        bytes[place] ^= 0x55;
        bytes.truncate(cut.index(bytes.len() + 1));
        drop(Catalogue::decode(&bytes));
        for command in log {
            let mut bytes = command.encode().to_vec();
            let place = flip.index(bytes.len());
            bytes[place] ^= 0x55;
            drop(Command::decode(&bytes));
        }
    }
}
