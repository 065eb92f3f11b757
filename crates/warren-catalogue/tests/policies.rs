//! Policies: which one counts, what it comes to, and that exchanges follow at once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::{ApplyTo, Catalogue, ExchangeKind, ExchangeRecord, PolicyRecord};
use warren_proto::catalogue::{Command, DeclareQueue};
use warren_types::{AMQPValue, FieldTable};
use world::*;

fn policy(name: &str, pattern: &str, priority: i64, definition: FieldTable) -> PolicyRecord {
    PolicyRecord {
        vhost: "/".to_owned(),
        name: name.to_owned(),
        operator: false,
        pattern: pattern.to_owned(),
        apply_to: ApplyTo::All,
        priority,
        definition,
    }
}

fn set(catalogue: &mut Catalogue, policy: PolicyRecord) {
    catalogue.apply(&Command::SetPolicy(policy)).unwrap();
}

fn clear(catalogue: &mut Catalogue, name: &str) {
    let (vhost, name) = ("/".to_owned(), name.to_owned());
    catalogue.apply(&Command::ClearPolicy { vhost, name, operator: false }).unwrap();
}

fn with_queue(name: &str, arguments: FieldTable) -> Catalogue {
    let mut catalogue = formed(1, 1);
    catalogue.apply(&Command::DeclareQueue(DeclareQueue { arguments, ..queue(name) })).unwrap();
    catalogue
}

fn counting<'a>(catalogue: &'a Catalogue, queue: &str) -> (Option<&'a str>, Option<&'a str>, FieldTable) {
    let found = catalogue.queue_policy(catalogue.queue("/", queue).unwrap());
    (found.policy, found.operator_policy, found.definition)
}

#[test]
fn the_matching_policy_of_the_highest_priority_counts_alone() {
    let mut catalogue = with_queue("orders", none());
    assert_eq!(counting(&catalogue, "orders"), (None, None, none()));
    set(&mut catalogue, policy("low", "^ord", 0, table([("expires", int(1)), ("max-length", int(1))])));
    set(&mut catalogue, policy("high", "ers$", 1, table([("max-length", int(2))])));
    set(&mut catalogue, policy("other", "^x", 9, table([("max-length", int(3))])));
    assert_eq!(counting(&catalogue, "orders"), (Some("high"), None, table([("max-length", int(2))])));
    clear(&mut catalogue, "high");
    assert_eq!(counting(&catalogue, "orders").0, Some("low"));
    clear(&mut catalogue, "low");
    assert_eq!(counting(&catalogue, "orders").0, None);
}

#[test]
fn an_empty_pattern_matches_everything_and_kinds_are_told_apart() {
    let mut catalogue = with_queue("q", none());
    for (apply_to, counts) in [
        (ApplyTo::All, true),
        (ApplyTo::Queues, true),
        (ApplyTo::ClassicQueues, true),
        (ApplyTo::QuorumQueues, false),
        (ApplyTo::Streams, false),
        (ApplyTo::Exchanges, false),
    ] {
        set(&mut catalogue, PolicyRecord { apply_to, ..policy("p", "", 0, table([("expires", int(5))])) });
        assert_eq!(counting(&catalogue, "q").0.is_some(), counts, "{apply_to:?}");
    }
}

#[test]
fn a_policy_with_a_key_that_the_type_does_not_know_is_not_for_it_at_all() {
    let mut catalogue = with_queue("q", none());
    set(&mut catalogue, policy("p", "", 0, table([("delivery-limit", int(3)), ("max-length", int(1))])));
    assert_eq!(counting(&catalogue, "q").0, None);
    let quorum = table([("x-queue-type", text("quorum"))]);
    catalogue.apply(&Command::DeclareQueue(DeclareQueue { arguments: quorum, ..queue("r") })).unwrap();
    assert_eq!(counting(&catalogue, "r").0, Some("p"));
}

#[test]
fn the_smallest_of_argument_policy_and_operator_policy_is_the_limit() {
    let mut catalogue =
        with_queue("q", table([("x-max-length", int(7)), ("x-dead-letter-exchange", text("a"))]));
    let users = table([("max-length", int(10)), ("dead-letter-exchange", text("b")), ("expires", int(9))]);
    set(&mut catalogue, policy("p", "", 0, users));
    let operators = PolicyRecord { operator: true, ..policy("p", "", 0, table([("max-length", int(5))])) };
    set(&mut catalogue, operators);
    let (user, operator, definition) = counting(&catalogue, "q");
    assert_eq!((user, operator), (Some("p"), Some("p")));
    assert_eq!(definition.inner()["max-length"], int(5));
    assert_eq!(
        catalogue.effective_arguments(catalogue.queue("/", "q").unwrap()),
        table([("x-max-length", int(5)), ("x-dead-letter-exchange", text("a")), ("x-expires", int(9))])
    );
}

#[test]
fn exchanges_follow_a_policys_alternate_exchange_at_once_and_an_argument_wins() {
    let mut catalogue = with_queue("lost", none());
    catalogue.apply(&declare(exchange("x", ExchangeKind::Direct))).unwrap();
    let own = table([("alternate-exchange", text("amq.direct"))]);
    let own = ExchangeRecord { arguments: own, ..exchange("y", ExchangeKind::Direct) };
    catalogue.apply(&declare(own)).unwrap();
    catalogue.apply(&Command::Bind(to_queue("amq.fanout", "lost", ""))).unwrap();
    let found =
        |catalogue: &Catalogue, exchange: &str| !routed(catalogue, exchange, &["k"], &none()).is_empty();
    let before = catalogue.topology_revision("/");
    assert!(!found(&catalogue, "x"));
    set(&mut catalogue, policy("ae", "^[xyz]$", 0, table([("alternate-exchange", text("amq.fanout"))])));
    assert!(found(&catalogue, "x") && !found(&catalogue, "y"));
    assert!(catalogue.topology_revision("/") > before);
    // Also one that comes later, and after a restart.
    catalogue.apply(&declare(exchange("z", ExchangeKind::Topic))).unwrap();
    let restored = Catalogue::decode(&catalogue.encode()).unwrap();
    assert!(found(&catalogue, "z") && found(&restored, "z"));
    assert_eq!(restored.encode(), catalogue.encode());
    assert_eq!(restored.exchange_policy("/", "x").policy, Some("ae"));
    clear(&mut catalogue, "ae");
    assert!(!found(&catalogue, "x") && !found(&catalogue, "z"));
}

#[test]
fn what_is_no_policy_is_refused_and_changes_nothing() {
    let mut catalogue = formed(1, 1);
    let before = catalogue.encode();
    for (record, reason) in [
        (policy("p", "", 0, none()), "no policy provided"),
        (policy("p", "", 0, table([("max-length", int(-1))])), "-1 is not a valid maximum length"),
        (policy("p", "", 0, table([("expires", int(0))])), "0 is not a valid queue expiry"),
        (policy("p", "", 0, table([("message-ttl", text("x"))])), "<<\"x\">> is not a valid message TTL"),
        (policy("p", "", 0, table([("overflow", text("x"))])), "<<\"x\">> is not a valid overflow value"),
        (policy("p", "", 0, table([("k", int(1))])), "[{<<\"k\">>,1}] are not recognised policy settings"),
        (
            PolicyRecord {
                operator: true,
                ..policy("p", "", 0, table([("dead-letter-exchange", text("x"))]))
            },
            "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings",
        ),
    ] {
        let refused = catalogue.apply(&Command::SetPolicy(record)).unwrap_err();
        assert_eq!(refused.text, format!("Validation failed\n\n{reason}\n"));
    }
    let unclosed = policy("p", "a(?=b", 0, table([("expires", int(1))]));
    let refused = catalogue.apply(&Command::SetPolicy(unclosed)).unwrap_err();
    assert!(refused.text.starts_with("Validation failed\n\ninvalid regexp 'a(?=b'"), "{}", refused.text);
    let nowhere = PolicyRecord { vhost: "v".to_owned(), ..policy("p", "", 0, table([("expires", int(1))])) };
    assert_eq!(catalogue.apply(&Command::SetPolicy(nowhere)).unwrap_err().text, "vhost v not found");
    assert_eq!(catalogue.encode(), before);
}

#[test]
fn a_pattern_may_look_around_and_refer_back_as_perls_may() {
    for (pattern, matching, other) in [
        ("^(?!system\\.)", "orders", "system.a"),
        ("^(?!.*\\.private$).*", "a.public", "a.private"),
        ("^(.)\\1", "aa", "ab"),
        ("(?<=x)y$", "xy", "y"),
    ] {
        let mut catalogue = world();
        for name in [matching, other] {
            declared(&mut catalogue, queue(name));
        }
        set(&mut catalogue, policy("p", pattern, 0, table([("max-length", int(5))])));
        let policy_of = |name: &str| {
            let spec = catalogue.queue("/", name).unwrap();
            catalogue.effective_arguments(spec).contains_key("x-max-length")
        };
        assert!(policy_of(matching), "{pattern} matches {matching}");
        assert!(!policy_of(other), "{pattern} does not match {other}");
    }
}

#[test]
fn commands_and_snapshots_carry_policies_whole() {
    let definition = table([("max-length", AMQPValue::LongLongInt(5))]);
    for apply_to in ApplyTo::ALL {
        let record = PolicyRecord { apply_to, ..policy("p", "^a", -3, definition.clone()) };
        let command = Command::SetPolicy(record.clone());
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        let mut catalogue = formed(1, 1);
        assert!(catalogue.apply(&command).unwrap().created);
        let again = catalogue.apply(&command).unwrap();
        assert!(!again.created && again.revision == catalogue.revision());
        let restored = Catalogue::decode(&catalogue.encode()).unwrap();
        assert_eq!(restored.policies("/", false).collect::<Vec<_>>(), [&record]);
        assert_eq!(restored.policies("/", true).count(), 0);
    }
    let clear = Command::ClearPolicy { vhost: "/".to_owned(), name: "p".to_owned(), operator: true };
    assert_eq!(Command::decode(&clear.encode()), Ok(clear));
}
