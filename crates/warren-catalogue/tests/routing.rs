//! Where messages go: examples of every type, and generated bindings against a naive matcher.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod naive;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_catalogue::{BindingRecord, Catalogue, ExchangeKind, ExchangeRecord};
use warren_proto::catalogue::{Command, DeclareQueue};
use warren_types::{AMQPValue, FieldTable, NodeId, QueueHost, ShardId};
use world::*;

/// Queues `q0..` bound to an exchange, each with one key.
fn bound(exchange: &str, keys: &[&str]) -> Catalogue {
    let mut catalogue = world();
    for (i, key) in keys.iter().enumerate() {
        declared(&mut catalogue, queue(&format!("q{i}")));
        apply(&mut catalogue, Command::Bind(to_queue(exchange, &format!("q{i}"), key)));
    }
    catalogue
}

fn topic_matches(pattern: &str, key: &str) -> bool {
    !routed(&bound("amq.topic", &[pattern]), "amq.topic", &[key], &none()).is_empty()
}

#[test]
fn topic_patterns_match_word_by_word() {
    for (pattern, yes, no) in [
        ("a", &["a"][..], &["b", "", "a.a", "A"][..]),
        ("*", &["a", "*", "#"], &["", "a.b", "."]),
        ("#", &["", "a", "a.b", ".", "a.."], &[]),
        ("a.*", &["a.b", "a."], &["a", "a.b.c", "b.a"]),
        ("a.#", &["a", "a.b", "a.b.c", "a."], &["b", "", "ab"]),
        ("#.a.#", &["a", "x.a", "a.x", "x.a.y", "a.a.a"], &["", "x", "aa"]),
        ("*.#", &["a", "a.b", "."], &[""]),
        ("#.*", &["a", "a.b", "."], &[""]),
        ("", &[""], &["a", "."]),
        (".", &["."], &["", "a", ".."]),
        ("a..b", &["a..b"], &["a.b", "a.x.b"]),
        ("a.*.b", &["a..b", "a.x.b"], &["a.b"]),
        ("#.#", &["", "a", "a.b"], &[]),
        ("a*.b#", &["a*.b#"], &["ax.by", "a.b"]),
    ] {
        for key in yes {
            assert!(topic_matches(pattern, key), "{pattern} matches {key}");
        }
        for key in no {
            assert!(!topic_matches(pattern, key), "{pattern} does not match {key}");
        }
    }
}

#[test]
fn the_longest_keys_route_quickly_against_the_worst_patterns() {
    let words = |word: &str, count| vec![word; count].join(".");
    let worst = format!("#.{}.#.{}", words("a", 60), words("*", 60));
    let catalogue = bound("amq.topic", &[&worst, &words("*", 128), "#.a.#.b", "#.*.#.*"]);
    assert_eq!(routed(&catalogue, "amq.topic", &[&words("a", 128)], &none()), ["q0", "q1", "q3"]);
    assert_eq!(routed(&catalogue, "amq.topic", &[&".".repeat(255)], &none()), ["q3"]);
}

#[test]
fn direct_matches_the_whole_key_and_fanout_every_key() {
    let catalogue = bound("amq.direct", &["a", "a.b", "*", ""]);
    for (key, expected) in [("a", &["q0"][..]), ("*", &["q2"]), ("", &["q3"]), ("b", &[])] {
        assert_eq!(routed(&catalogue, "amq.direct", &[key], &none()), expected, "{key}");
    }
    let catalogue = bound("amq.fanout", &["a", "b"]);
    assert_eq!(routed(&catalogue, "amq.fanout", &["c"], &none()), ["q0", "q1"]);
}

#[test]
fn the_default_exchange_finds_queues_by_name_and_only_those_of_its_vhost() {
    let mut catalogue = bound("amq.fanout", &["", ""]);
    apply(&mut catalogue, Command::CreateVhost { name: "v".to_owned() });
    declared(&mut catalogue, DeclareQueue { vhost: "v".to_owned(), ..queue("there") });
    assert_eq!(routed(&catalogue, "", &["q1", "q0", "q1", "none", "there"], &none()), ["q0", "q1"]);
}

#[test]
fn a_queue_gets_one_copy_through_many_keys_bindings_and_exchanges() {
    let mut catalogue = bound("amq.topic", &["#"]);
    for key in ["a", "*", "a.#"] {
        apply(&mut catalogue, Command::Bind(to_queue("amq.topic", "q0", key)));
    }
    apply(&mut catalogue, Command::Bind(to_queue("amq.fanout", "q0", "")));
    apply(&mut catalogue, Command::Bind(to_exchange("amq.topic", "amq.fanout", "#")));
    assert_eq!(routed(&catalogue, "amq.topic", &["a", "b"], &none()), ["q0"]);
}

fn headers_bound(arguments: FieldTable) -> Catalogue {
    let mut catalogue = world();
    declared(&mut catalogue, queue("q"));
    apply(&mut catalogue, Command::Bind(BindingRecord { arguments, ..to_queue("amq.headers", "q", "") }));
    catalogue
}

#[test]
fn headers_bindings_match_all_or_any_of_their_arguments() {
    let one = || int(1);
    let matching = |arguments: &FieldTable, headers: FieldTable| {
        !routed(&headers_bound(arguments.clone()), "amq.headers", &["k"], &headers).is_empty()
    };
    let with = |mode: &str, entries: &[(&str, AMQPValue)]| {
        let mut arguments = table([("x-match", text(mode))]);
        for (key, value) in entries {
            arguments.insert((*key).into(), value.clone());
        }
        arguments
    };
    let absent = table([("a", one()), ("b", text("x"))]);
    assert!(matching(&absent, table([("a", one()), ("b", text("x")), ("c", one())])));
    assert!(!matching(&absent, table([("a", one())])));
    let any = with("any", &[("a", one()), ("b", text("x"))]);
    assert!(matching(&any, table([("b", text("x"))])));
    assert!(!matching(&any, table([("b", text("y"))])));
    assert!(matching(&with("all", &[]), none()));
    assert!(!matching(&with("any", &[]), table([("a", one())])));
    // Keys that begin with `x-` count only where the mode says so.
    let x = &[("x-k", one())];
    assert!(matching(&with("all", x), none()));
    assert!(!matching(&with("any", x), table([("x-k", one())])));
    assert!(!matching(&with("all-with-x", x), none()));
    assert!(matching(&with("all-with-x", x), table([("x-k", one())])));
    assert!(matching(&with("any-with-x", x), table([("x-k", one())])));
}

#[test]
fn header_values_are_compared_as_plain_values() {
    let long_string = || text("abc");
    let nested = || AMQPValue::FieldTable(table([("n", int(1))]));
    for (wanted, value, agrees) in [
        (int(1), AMQPValue::ShortShortInt(1), true),
        (int(1), AMQPValue::LongLongInt(1), true),
        (int(1), AMQPValue::ShortShortUInt(1), true),
        (int(1), AMQPValue::Double(1.0), false),
        (int(1), text("1"), false),
        (int(1), AMQPValue::Boolean(true), false),
        (AMQPValue::Float(1.5), AMQPValue::Double(1.5), true),
        (AMQPValue::Boolean(true), AMQPValue::Boolean(true), true),
        (AMQPValue::Boolean(true), AMQPValue::Boolean(false), false),
        (long_string(), long_string(), true),
        (long_string(), AMQPValue::ByteArray(b"abc".to_vec().into()), true),
        (long_string(), text("abcd"), false),
        (AMQPValue::Void, int(7), true),
        (AMQPValue::Void, AMQPValue::Void, true),
        (AMQPValue::Timestamp(5), AMQPValue::Timestamp(5), true),
        (nested(), nested(), true),
        (nested(), AMQPValue::FieldTable(none()), false),
    ] {
        let catalogue = headers_bound(table([("k", wanted.clone())]));
        let found = routed(&catalogue, "amq.headers", &[""], &table([("k", value.clone())]));
        assert_eq!(!found.is_empty(), agrees, "{wanted:?} against {value:?}");
    }
}

#[test]
fn a_route_says_whether_it_read_headers_and_reads_them_once() {
    let mut catalogue = bound("amq.direct", &["k"]);
    declared(&mut catalogue, queue("h"));
    for exchange in ["amq.headers", "amq.match"] {
        let binding =
            BindingRecord { arguments: table([("a", AMQPValue::Void)]), ..to_queue(exchange, "h", "") };
        apply(&mut catalogue, Command::Bind(binding));
        apply(&mut catalogue, Command::Bind(to_exchange("amq.fanout", exchange, "")));
    }
    let mut set = RouteSet::default();
    for (exchange, reads) in [("amq.fanout", 1), ("amq.direct", 0), ("", 0)] {
        let count = std::cell::Cell::new(0);
        let headers = || {
            count.set(count.get() + 1);
            None
        };
        catalogue.route("/", exchange, RouteInput::new(&["k"], &headers), &mut set).unwrap();
        assert_eq!(count.get(), reads, "{exchange}");
        assert_eq!(set.varies(), reads > 0, "{exchange}");
    }
}

#[test]
fn a_message_without_headers_matches_only_what_asks_for_none() {
    let mut set = RouteSet::default();
    for (arguments, found) in [(none(), 1), (table([("a", AMQPValue::Void)]), 0)] {
        let catalogue = headers_bound(arguments);
        let input = RouteInput::new(&[""], &|| None);
        catalogue.route("/", "amq.headers", input, &mut set).unwrap();
        assert_eq!(set.len(), found);
    }
}

#[test]
fn exchanges_bound_in_a_circle_are_each_visited_once() {
    let mut catalogue = world();
    for name in ["a", "b", "c"] {
        apply(&mut catalogue, declare(exchange(name, ExchangeKind::Fanout)));
        declared(&mut catalogue, queue(name));
        apply(&mut catalogue, Command::Bind(to_queue(name, name, "")));
    }
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("c", "c")] {
        apply(&mut catalogue, Command::Bind(to_exchange(from, to, "")));
    }
    for start in ["a", "b", "c"] {
        assert_eq!(routed(&catalogue, start, &["k"], &none()), ["a", "b", "c"]);
    }
}

#[test]
fn an_alternate_exchange_takes_what_matches_nothing_and_so_on() {
    let mut catalogue = world();
    let with = |name: &str, alternate: &str| ExchangeRecord {
        arguments: table([("alternate-exchange", text(alternate))]),
        ..exchange(name, ExchangeKind::Direct)
    };
    for exchange in [with("a", "b"), with("b", "a"), with("c", "a"), with("d", "missing"), with("e", "")] {
        apply(&mut catalogue, declare(exchange));
    }
    declared(&mut catalogue, queue("q"));
    apply(&mut catalogue, Command::Bind(to_queue("b", "q", "k")));
    let found = |exchange, key| routed(&catalogue, exchange, &[key], &none());
    assert_eq!(found("a", "k"), ["q"]);
    assert_eq!(found("c", "k"), ["q"]);
    assert!(found("a", "other").is_empty(), "alternates in a circle end");
    assert!(found("d", "k").is_empty());
    assert_eq!(found("e", "q"), ["q"], "the default exchange as the alternate");
}

#[test]
fn an_alternate_exchange_is_left_alone_when_a_binding_matches_even_one_that_leads_nowhere() {
    let mut catalogue = world();
    let arguments = table([("alternate-exchange", text("amq.fanout"))]);
    apply(&mut catalogue, declare(ExchangeRecord { arguments, ..exchange("x", ExchangeKind::Direct) }));
    declared(&mut catalogue, queue("q"));
    apply(&mut catalogue, Command::Bind(to_queue("amq.fanout", "q", "")));
    apply(&mut catalogue, Command::Bind(to_exchange("x", "amq.topic", "k")));
    assert!(routed(&catalogue, "x", &["k"], &none()).is_empty());
    assert_eq!(routed(&catalogue, "x", &["other"], &none()), ["q"]);
}

#[test]
fn what_does_not_exist_is_not_found_and_internal_exchanges_are_not_for_clients() {
    let catalogue = world();
    let mut set = RouteSet::default();
    let mut refused = |vhost, exchange| {
        let input = RouteInput::new(&["k"], &|| None);
        catalogue.route(vhost, exchange, input, &mut set).unwrap_err().reply_text()
    };
    assert_eq!(refused("/", "x"), "NOT_FOUND - no exchange 'x' in vhost '/'");
    assert_eq!(refused("v", "amq.topic"), "NOT_ALLOWED - vhost v not found");
    assert!(catalogue.check_publishable("/", "amq.topic").is_ok());
    assert_eq!(
        catalogue.check_publishable("/", "amq.rabbitmq.trace").unwrap_err().reply_text(),
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'"
    );
    assert_eq!(
        catalogue.check_publishable("/", "x").unwrap_err().reply_text(),
        "NOT_FOUND - no exchange 'x' in vhost '/'"
    );
}

#[test]
fn queues_come_ordered_by_host_and_what_was_found_before_is_forgotten() {
    let mut catalogue = world();
    let mut ids = Vec::new();
    for i in 0..8 {
        ids.push(declared(&mut catalogue, queue(&format!("q{i}"))));
        apply(&mut catalogue, Command::Bind(to_queue("amq.fanout", &format!("q{i}"), "")));
    }
    let id = declared(&mut catalogue, transient("t", 2));
    apply(&mut catalogue, Command::Bind(to_queue("amq.fanout", "t", "")));
    let mut set = RouteSet::default();
    let input = RouteInput::new(&["k"], &|| None);
    catalogue.route("/", "amq.fanout", input, &mut set).unwrap();
    let shard = |number| QueueHost::Shard(ShardId(number));
    let expected: Vec<_> = (0..4)
        .flat_map(|i| [(shard(i + 1), ids[i as usize]), (shard(i + 1), ids[i as usize + 4])])
        .chain([(QueueHost::Node(NodeId(2)), id)])
        .collect();
    assert_eq!(set.iter().collect::<Vec<_>>(), expected);
    catalogue.route("/", "amq.direct", input, &mut set).unwrap();
    assert!(set.is_empty());
}

fn key() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "", "*", "#"]), 0..5).prop_map(|words| words.join("."))
}

fn few_hashes(key: &str) -> bool {
    key.split('.').filter(|word| *word == "#").count() <= 2
}

fn value() -> impl Strategy<Value = AMQPValue> {
    select(vec![
        int(1),
        AMQPValue::LongLongInt(1),
        AMQPValue::Double(1.0),
        text("x"),
        AMQPValue::Void,
        AMQPValue::Boolean(true),
    ])
}

fn headers() -> impl Strategy<Value = FieldTable> {
    vec((select(vec!["h", "i", "x-j"]), value()), 0..3).prop_map(|entries| {
        let mut table = none();
        for (key, value) in entries {
            table.insert(key.into(), value);
        }
        table
    })
}

fn binding_arguments() -> impl Strategy<Value = FieldTable> {
    let mode = select(vec![None, Some("all"), Some("any"), Some("all-with-x"), Some("any-with-x")]);
    (mode, headers()).prop_map(|(mode, mut table)| {
        if let Some(mode) = mode {
            table.insert("x-match".into(), text(mode));
        }
        table
    })
}

const EXCHANGES: [&str; 5] = ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "auto"];

fn binding() -> impl Strategy<Value = BindingRecord> {
    let source = || select(EXCHANGES.to_vec());
    let destination = prop_oneof![
        3 => (0..5).prop_map(|i| to_queue("", &format!("q{i}"), "").destination),
        1 => source().prop_map(|name| to_exchange("", name, "").destination),
    ];
    (source(), destination, key(), binding_arguments()).prop_map(|(source, destination, key, arguments)| {
        BindingRecord { destination, arguments, ..to_queue(source, "", &key) }
    })
}

proptest! {
    #[test]
    fn topic_routes_agree_with_a_naive_matcher(patterns in vec(key(), 1..12), keys in vec(key(), 1..8)) {
        let mut catalogue = world();
        let patterns: Vec<_> = patterns.into_iter().filter(|pattern| few_hashes(pattern)).collect();
        for (i, pattern) in patterns.iter().enumerate() {
            declared(&mut catalogue, queue(&format!("q{i:02}")));
            apply(&mut catalogue, Command::Bind(to_queue("amq.topic", &format!("q{i:02}"), pattern)));
        }
        // Half of them go again: what is left must not notice.
        for (i, pattern) in patterns.iter().enumerate().filter(|(i, _)| i % 2 == 1) {
            apply(&mut catalogue, Command::Unbind(to_queue("amq.topic", &format!("q{i:02}"), pattern)));
        }
        for key in &keys {
            let expected: Vec<_> = patterns
                .iter()
                .enumerate()
                .filter(|(i, pattern)| i % 2 == 0 && naive::topic(pattern, key))
                .map(|(i, _)| format!("q{i:02}"))
                .collect();
            prop_assert_eq!(routed(&catalogue, "amq.topic", &[key], &none()), expected);
        }
    }

    #[test]
    fn routes_through_all_types_agree_with_a_naive_walk(
        bindings in vec(binding(), 0..24),
        unbound in vec(0_usize..24, 0..12),
        deleted in select(vec![None, Some("q0"), Some("q1")]),
        keys in vec(key(), 1..3),
        headers in headers(),
    ) {
        let mut catalogue = world();
        let alternate = table([("alternate-exchange", text("amq.topic"))]);
        let auto = ExchangeRecord { auto_delete: true, arguments: alternate, ..exchange("auto", ExchangeKind::Direct) };
        apply(&mut catalogue, declare(auto));
        (0..5).for_each(|i| { declared(&mut catalogue, queue(&format!("q{i}"))); });
        for binding in &bindings {
            // Some are refused: too many `#`, or an exchange that has gone.
            drop(catalogue.apply(&Command::Bind(binding.clone())));
        }
        for binding in unbound.iter().filter_map(|i| bindings.get(*i)) {
            apply(&mut catalogue, Command::Unbind(binding.clone()));
        }
        if let Some(id) = deleted.and_then(|name| catalogue.queue("/", name)).map(|queue| queue.id) {
            apply(&mut catalogue, Command::DeleteQueue { queue: id });
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for start in EXCHANGES {
            if catalogue.exchange("/", start).is_some() {
                let expected = naive::route(&catalogue, start, &keys, &headers);
                prop_assert_eq!(routed(&catalogue, start, &keys, &headers), expected);
            }
        }
    }
}
