//! Exchanges of type `x-delayed-message`: how they route, and what they must say of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::{ExchangeKind, ExchangeRecord};
use warren_proto::catalogue::Command;
use warren_types::FieldTable;
use world::*;

fn delayed(arguments: FieldTable) -> ExchangeRecord {
    ExchangeRecord { arguments, ..exchange("later", ExchangeKind::DelayedMessage) }
}

#[test]
fn it_routes_as_the_type_that_it_names() {
    for (inner, key) in [("direct", "a.b"), ("topic", "a.*"), ("fanout", "anything")] {
        let mut catalogue = world();
        apply(&mut catalogue, declare(delayed(table([("x-delayed-type", text(inner))]))));
        declared(&mut catalogue, queue("q"));
        apply(&mut catalogue, Command::Bind(to_queue("later", "q", key)));
        assert_eq!(routed(&catalogue, "later", &["a.b"], &none()), ["q"], "{inner}");
    }
}

#[test]
fn it_must_name_a_type_and_not_its_own() {
    let arguments = [
        none(),
        table([("x-delayed-type", int(1))]),
        table([("x-delayed-type", text("nonsense"))]),
        table([("x-delayed-type", text("x-delayed-message"))]),
    ];
    for arguments in arguments {
        let refusal = refused(&mut world(), declare(delayed(arguments)));
        assert!(refusal.contains("'x-delayed-type' must be an existing exchange type"), "{refusal}");
    }
}
