//! Exchanges of type `x-recent-history`: how they route, what they keep, and what becomes of that.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_catalogue::{Catalogue, ExchangeKind, ExchangeRecord, queue_settings};
use warren_proto::catalogue::{ApplyTo, Command, PolicyRecord};
use warren_types::{AMQPValue, FieldTable, QueueId, QueueSettings, StreamSettings};
use world::*;

fn recent(arguments: FieldTable) -> ExchangeRecord {
    ExchangeRecord { arguments, ..exchange("news", ExchangeKind::RecentHistory) }
}

/// With one such exchange; the queue that keeps its history.
fn with_history(arguments: FieldTable) -> (Catalogue, QueueId) {
    let mut catalogue = world();
    apply(&mut catalogue, declare(recent(arguments)));
    let history = catalogue.history("/", "news").unwrap().id;
    (catalogue, history)
}

fn kept(catalogue: &Catalogue, exchange: &str, headers: &FieldTable) -> Vec<QueueId> {
    let mut set = RouteSet::default();
    let headers = || Some(headers.clone());
    catalogue.route("/", exchange, RouteInput::new(&["k"], &headers), &mut set).unwrap();
    assert!(set.varies(), "whether it is kept depends on the message");
    set.histories().map(|(_, queue)| queue).collect()
}

#[test]
fn it_routes_to_all_and_keeps_what_does_not_ask_to_be_forgotten() {
    let (mut catalogue, history) = with_history(none());
    assert_eq!(
        routed(&catalogue, "news", &["k"], &none()),
        [] as [&str; 0],
        "its history is no queue of anybody's"
    );
    assert_eq!(kept(&catalogue, "news", &none()), [history]);
    declared(&mut catalogue, queue("q"));
    apply(&mut catalogue, Command::Bind(to_queue("news", "q", "another")));
    assert_eq!(routed(&catalogue, "news", &["k"], &none()), ["q"]);
    let no_store = |value| table([("x-recent-history-no-store", value)]);
    assert_eq!(kept(&catalogue, "news", &no_store(AMQPValue::Boolean(true))), [] as [QueueId; 0]);
    for other in [AMQPValue::Boolean(false), text("true"), int(1)] {
        assert_eq!(kept(&catalogue, "news", &no_store(other)), [history]);
    }
}

#[test]
fn what_reaches_it_through_another_exchange_is_kept_too() {
    let (mut catalogue, history) = with_history(none());
    apply(&mut catalogue, declare(exchange("all", ExchangeKind::Fanout)));
    apply(&mut catalogue, Command::Bind(to_exchange("all", "news", "")));
    assert_eq!(kept(&catalogue, "all", &none()), [history]);
}

#[test]
fn its_length_is_a_positive_number_of_a_signed_type() {
    let length = |value| table([("x-recent-history-length", value)]);
    let refusals = [
        (int(0), "0"),
        (int(-3), "-3"),
        (text("5"), "<<\"5\">>"),
        (AMQPValue::Boolean(true), "true"),
        (AMQPValue::LongUInt(5), "5"),
    ];
    for (value, shown) in refusals {
        let expected =
            format!("406 Invalid argument {shown}, 'x-recent-history-length' must be a positive integer");
        assert_eq!(refused(&mut world(), declare(recent(length(value)))), expected);
    }
    for value in [int(7), AMQPValue::ShortShortInt(7), AMQPValue::ShortInt(7), AMQPValue::LongLongInt(7)] {
        assert_eq!(keeps(length(value)), 7);
    }
    assert_eq!(keeps(none()), 20);
}

fn settings_of(catalogue: &Catalogue, queue: QueueId) -> QueueSettings {
    queue_settings(&catalogue.effective_arguments(catalogue.queue_by_id(queue).unwrap()))
}

fn keeps(arguments: FieldTable) -> u64 {
    let (catalogue, history) = with_history(arguments);
    let settings = settings_of(&catalogue, history);
    let Some(StreamSettings { max_age_ms: None, max_messages: Some(count) }) = settings.stream else {
        panic!("{settings:?}");
    };
    count
}

#[test]
fn its_history_goes_with_it_however_it_goes() {
    let (mut deleted, history) = with_history(none());
    let delete = Command::DeleteExchange { vhost: "/".to_owned(), name: "news".to_owned(), if_unused: false };
    assert_eq!(apply(&mut deleted, delete).deleted_queues, [history]);

    let unused = |end: fn(&mut Catalogue) -> Vec<QueueId>| {
        let mut catalogue = world();
        apply(&mut catalogue, declare(ExchangeRecord { auto_delete: true, ..recent(none()) }));
        let history = catalogue.history("/", "news").unwrap().id;
        declared(&mut catalogue, exclusive("q", owner(1, 1, 1)));
        apply(&mut catalogue, Command::Bind(to_queue("news", "q", "")));
        assert!(end(&mut catalogue).contains(&history));
        assert_eq!(catalogue.queue_by_id(history), None);
        catalogue.check_invariants().unwrap();
    };
    unused(|catalogue| apply(catalogue, Command::Unbind(to_queue("news", "q", ""))).deleted_queues);
    unused(|catalogue| apply(catalogue, Command::ReleaseOwner { owner: owner(1, 1, 1) }).deleted_queues);
    unused(|catalogue| apply(catalogue, Command::DeleteVhost { name: "/".to_owned() }).deleted_queues);
}

#[test]
fn its_history_counts_for_no_limit_has_no_name_and_no_policy_changes_it() {
    let (mut catalogue, history) = with_history(none());
    let spec = catalogue.queue_by_id(history).unwrap().clone();
    assert_eq!(catalogue.queue("/", &spec.name), None);
    assert_eq!(routed(&catalogue, "", &[&spec.name], &none()), [] as [&str; 0]);
    let settings = settings_of(&catalogue, history);
    apply(
        &mut catalogue,
        Command::SetPolicy(PolicyRecord {
            vhost: "/".to_owned(),
            name: "all".to_owned(),
            operator: false,
            pattern: ".*".to_owned(),
            apply_to: ApplyTo::All,
            priority: 1,
            definition: table([("expires", int(1)), ("max-length-bytes", int(1))]),
        }),
    );
    assert_eq!(settings_of(&catalogue, history), settings);
}

#[test]
fn a_snapshot_keeps_exchange_and_history_together() {
    let (catalogue, history) = with_history(table([("x-recent-history-length", int(7))]));
    let restored = Catalogue::decode(&catalogue.encode()).unwrap();
    restored.check_invariants().unwrap();
    assert_eq!(restored.fingerprint(), catalogue.fingerprint());
    assert_eq!(kept(&restored, "news", &none()), [history]);
}

#[test]
fn declaring_it_again_makes_no_second_history() {
    let (mut catalogue, history) = with_history(none());
    apply(&mut catalogue, declare(recent(none())));
    assert_eq!(catalogue.history("/", "news").unwrap().id, history);
    assert_eq!(catalogue.queue_count(), 1);
}
