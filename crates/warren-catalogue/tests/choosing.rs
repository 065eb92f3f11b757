//! Exchanges that send each message to one of their destinations: consistent and modulus hash, random, local random.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use warren_catalogue::routing::{HashedProperty, RouteInput, RouteSet};
use warren_catalogue::{Catalogue, ExchangeKind, ExchangeRecord};
use warren_proto::catalogue::{Command, DeclareQueue};
use warren_types::{FieldTable, NodeId, QueueHost};
use world::*;

fn of(kind: ExchangeKind) -> Catalogue {
    let mut catalogue = world();
    apply(&mut catalogue, declare(exchange("x", kind)));
    catalogue
}

fn add(catalogue: &mut Catalogue, name: &str, key: &str) {
    declared(catalogue, queue(name));
    apply(catalogue, Command::Bind(to_queue("x", name, key)));
}

/// The one queue that a message goes to.
fn one(catalogue: &Catalogue, input: RouteInput<'_>) -> Option<String> {
    let mut set = RouteSet::default();
    catalogue.route("/", "x", input, &mut set).unwrap();
    assert!(set.len() <= 1);
    set.iter().next().map(|(_, queue)| catalogue.queue_by_id(queue).unwrap().name.to_string())
}

fn by_key(catalogue: &Catalogue, key: &str) -> String {
    one(catalogue, RouteInput::new(&[key], &|| None)).unwrap()
}

fn shares(catalogue: &Catalogue, keys: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for i in 0..keys {
        *shares.entry(by_key(catalogue, &format!("key-{i}"))).or_default() += 1;
    }
    shares
}

fn refusal(catalogue: &mut Catalogue, kind: ExchangeKind, arguments: FieldTable) -> String {
    refused(catalogue, declare(ExchangeRecord { arguments, ..exchange("bad", kind) }))
}

#[test]
fn a_consistent_hash_shares_by_weight() {
    let mut catalogue = of(ExchangeKind::ConsistentHash);
    add(&mut catalogue, "light", "1");
    add(&mut catalogue, "heavy", "3");
    let shares = shares(&catalogue, 10_000);
    assert!((2_200..2_800).contains(&shares["light"]), "{shares:?}");
    assert_eq!(shares["light"] + shares["heavy"], 10_000);
}

#[test]
fn the_order_of_bindings_does_not_matter_nor_does_a_snapshot_change_a_route() {
    let mut catalogue = of(ExchangeKind::ConsistentHash);
    for name in ["a", "b", "c", "d"] {
        declared(&mut catalogue, queue(name));
    }
    let mut other = catalogue.clone();
    for name in ["a", "b", "c", "d"] {
        apply(&mut catalogue, Command::Bind(to_queue("x", name, "2")));
    }
    for name in ["c", "a", "d", "b"] {
        apply(&mut other, Command::Bind(to_queue("x", name, "2")));
    }
    assert_eq!(shares(&catalogue, 500), shares(&other, 500));
    let restored = Catalogue::decode(&catalogue.encode()).unwrap();
    for i in 0..500 {
        let key = format!("k{i}");
        assert_eq!(by_key(&catalogue, &key), by_key(&other, &key));
        assert_eq!(by_key(&catalogue, &key), by_key(&restored, &key));
    }
}

proptest! {
    #[test]
    fn a_queue_that_comes_takes_its_share_and_moves_nothing_else(
        weights in prop::collection::vec(1_u32..5, 2..8),
        weight in 1_u32..5,
    ) {
        let mut catalogue = of(ExchangeKind::ConsistentHash);
        for (i, weight) in weights.iter().enumerate() {
            add(&mut catalogue, &format!("q{i}"), &weight.to_string());
        }
        let keys: Vec<String> = (0..1_000).map(|i| format!("key-{i}")).collect();
        let before: Vec<String> = keys.iter().map(|key| by_key(&catalogue, key)).collect();
        add(&mut catalogue, "new", &weight.to_string());
        let mut moved = 0_u32;
        for (key, before) in keys.iter().zip(&before) {
            let after = by_key(&catalogue, key);
            if after != *before {
                prop_assert_eq!(after, "new");
                moved += 1;
            }
        }
        let share = 1_000 * weight / (weights.iter().sum::<u32>() + weight);
        prop_assert!(moved > share / 2 && moved < share * 3 / 2 + 60, "{} moved, its share is {}", moved, share);
        apply(&mut catalogue, Command::Unbind(to_queue("x", "new", &weight.to_string())));
        let again: Vec<String> = keys.iter().map(|key| by_key(&catalogue, key)).collect();
        prop_assert_eq!(again, before);
    }
}

#[test]
fn a_weight_is_an_integer_from_1_to_10000() {
    let mut catalogue = of(ExchangeKind::ConsistentHash);
    declared(&mut catalogue, queue("q"));
    for (key, text) in [
        ("0", "406 The binding key must be greater than 0"),
        ("-3", "406 The binding key must be greater than 0"),
        ("10001", "406 The binding key must not exceed 10000"),
        ("x", "406 The binding key must be an integer: <<\"x\">>"),
        ("", "406 The binding key must be an integer: <<>>"),
    ] {
        assert_eq!(refused(&mut catalogue, Command::Bind(to_queue("x", "q", key))), text);
    }
    apply(&mut catalogue, Command::Bind(to_queue("x", "q", "10000")));
}

#[test]
fn a_hash_is_of_the_key_or_a_header_or_a_property_and_never_of_two() {
    let mut catalogue = world();
    let kind = ExchangeKind::ConsistentHash;
    let both = table([("hash-header", text("h")), ("hash-property", text("message_id"))]);
    assert_eq!(
        refusal(&mut catalogue, kind, both),
        "406 hash-header and hash-property are mutually exclusive"
    );
    let unknown = table([("hash-property", text("priority"))]);
    assert_eq!(refusal(&mut catalogue, kind, unknown), "406 Unsupported property: priority");

    let by_header = table([("hash-header", text("customer"))]);
    apply(&mut catalogue, declare(ExchangeRecord { arguments: by_header, ..exchange("x", kind) }));
    for i in 0..10 {
        add(&mut catalogue, &format!("q{i}"), "1");
    }
    let customer = |name: &str, key: &str| {
        let headers = table([("customer", text(name))]);
        one(&catalogue, RouteInput::new(&[key], &|| Some(headers.clone()))).unwrap()
    };
    assert_eq!(customer("ann", "a"), customer("ann", "b"));
    let customers: std::collections::BTreeSet<String> =
        (0..40).map(|i| customer(&format!("c{i}"), "a")).collect();
    assert!(customers.len() > 5, "{customers:?}");
    // Without the header all messages are alike.
    assert_eq!(by_key(&catalogue, "a"), by_key(&catalogue, "b"));

    let mut catalogue = world();
    let by_id = table([("hash-property", text("message_id"))]);
    apply(&mut catalogue, declare(ExchangeRecord { arguments: by_id, ..exchange("x", kind) }));
    for i in 0..10 {
        add(&mut catalogue, &format!("q{i}"), "1");
    }
    let with_id = |id: &str, key: &str| {
        let property = |property| (property == HashedProperty::MessageId).then(|| id.as_bytes().to_vec());
        one(&catalogue, RouteInput { property: &property, ..RouteInput::new(&[key], &|| None) }).unwrap()
    };
    assert_eq!(with_id("1", "a"), with_id("1", "b"));
    assert!((0..40).any(|i| with_id(&i.to_string(), "a") != with_id("1", "a")));
}

#[test]
fn a_declaration_with_another_hash_argument_is_another_exchange() {
    let mut catalogue = of(ExchangeKind::ConsistentHash);
    let arguments = table([("hash-header", text("h"))]);
    let again = ExchangeRecord { arguments, ..exchange("x", ExchangeKind::ConsistentHash) };
    assert_eq!(
        refused(&mut catalogue, declare(again)),
        "406 inequivalent arg 'hash-header' for exchange 'x' in vhost '/': received the value 'h' of type 'longstr' \
         but current is none"
    );
}

#[test]
fn a_modulus_hash_is_of_the_key_over_the_destinations() {
    let mut catalogue = of(ExchangeKind::ModulusHash);
    for i in 0..4 {
        add(&mut catalogue, &format!("q{i}"), "whatever");
        apply(&mut catalogue, Command::Bind(to_queue("x", &format!("q{i}"), "once more")));
    }
    let shares = shares(&catalogue, 4_000);
    assert_eq!(shares.len(), 4);
    assert!(shares.values().all(|share| (850..1_150).contains(share)), "{shares:?}");
    assert_eq!(by_key(&catalogue, "k"), by_key(&catalogue, "k"));
}

#[test]
fn random_goes_where_the_drawn_number_says_and_is_not_to_be_remembered() {
    let mut catalogue = of(ExchangeKind::Random);
    for name in ["a", "b", "c"] {
        add(&mut catalogue, name, "ignored");
    }
    let drawn = |number: u64| {
        let random = move || number;
        one(&catalogue, RouteInput { random: &random, ..RouteInput::new(&["k"], &|| None) }).unwrap()
    };
    assert_eq!([drawn(0), drawn(1), drawn(2), drawn(3)], ["a", "b", "c", "a"]);
    let mut set = RouteSet::default();
    catalogue.route("/", "x", RouteInput::new(&["k"], &|| None), &mut set).unwrap();
    assert!(set.varies());
    apply(&mut catalogue, Command::Unbind(to_queue("x", "b", "ignored")));
    let mut without = catalogue.clone();
    for name in ["a", "c"] {
        apply(&mut without, Command::Unbind(to_queue("x", name, "ignored")));
    }
    assert_eq!(one(&without, RouteInput::new(&["k"], &|| None)), None);
}

#[test]
fn local_random_takes_only_what_the_publishers_node_serves() {
    let mut catalogue = of(ExchangeKind::LocalRandom);
    for (name, home) in [("a1", 1), ("b1", 1), ("a2", 2)] {
        apply(&mut catalogue, Command::DeclareQueue(transient(name, home)));
        apply(&mut catalogue, Command::Bind(to_queue("x", name, "")));
    }
    let from = |node: u64, number: u64| {
        let random = move || number;
        let is_local = move |host| host == QueueHost::Node(NodeId(node));
        one(
            &catalogue,
            RouteInput { random: &random, is_local: &is_local, ..RouteInput::new(&["k"], &|| None) },
        )
    };
    assert_eq!([from(1, 0), from(1, 1), from(1, 2)].map(Option::unwrap), ["a1", "b1", "a1"]);
    assert_eq!((from(2, 7).as_deref(), from(3, 7)), (Some("a2"), None));
}

#[test]
fn local_random_is_bound_without_a_key_to_classic_queues_only() {
    let mut catalogue = of(ExchangeKind::LocalRandom);
    let arguments = table([("x-queue-type", text("quorum"))]);
    apply(&mut catalogue, Command::DeclareQueue(DeclareQueue { arguments, ..queue("quorum") }));
    declared(&mut catalogue, queue("classic"));
    for (binding, text) in [
        (to_queue("x", "classic", "k"), "406 Non empty binding 'k' key not permitted"),
        (to_queue("x", "quorum", ""), "406 Queue type quorum not valid for this exchange type"),
        (to_queue("x", "nowhere", ""), "406 Destination not found"),
        (to_exchange("x", "amq.fanout", ""), "406 Destination not found"),
    ] {
        assert_eq!(refused(&mut catalogue, Command::Bind(binding)), text);
    }
    apply(&mut catalogue, Command::Bind(to_queue("x", "classic", "")));
}

#[test]
fn the_default_type_of_a_vhost_is_stored_with_durable_queues_declared_without_one() {
    let mut catalogue = world();
    let metadata = warren_catalogue::VhostMetadata {
        default_queue_type: "quorum".to_owned(),
        ..warren_catalogue::VhostMetadata::default()
    };
    declared(&mut catalogue, queue("before"));
    apply(&mut catalogue, Command::SetVhostMetadata { vhost: "/".to_owned(), metadata });
    declared(&mut catalogue, queue("durable"));
    declared(&mut catalogue, transient("transient", 1));
    let arguments = table([("x-queue-type", text("classic"))]);
    declared(&mut catalogue, DeclareQueue { arguments: arguments.clone(), ..queue("told") });
    let stored =
        |name: &str| catalogue.queue("/", name).unwrap().arguments.inner().get("x-queue-type").cloned();
    assert_eq!(stored("durable"), Some(text("quorum")));
    assert_eq!((stored("transient"), stored("told")), (Some(text("classic")), Some(text("classic"))));
    // Declared again, with and without the type that they have, and what was there before.
    for name in ["before", "durable", "told"] {
        assert!(!apply(&mut catalogue.clone(), Command::DeclareQueue(queue(name))).created);
    }
    let other = DeclareQueue { arguments, ..queue("durable") };
    assert_eq!(
        refused(&mut catalogue, Command::DeclareQueue(other)),
        "406 inequivalent arg 'x-queue-type' for queue 'durable' in vhost '/': received 'classic' but current is 'quorum'"
    );
}
