//! Exchanges of type `x-delayed-message` route as the type that they name; that their messages come later is nothing that
//! routing knows.

use warren_proto::catalogue::{ExchangeKind, ExchangeRecord};
use warren_types::{AmqpError, ReplyCode};

use crate::arguments::bytes;
use crate::names::refuse;

const DELAYED_TYPE: &str = "x-delayed-type";

/// The type by which the exchange routes.
pub(crate) fn inner_kind(exchange: &ExchangeRecord) -> ExchangeKind {
    match exchange.kind {
        ExchangeKind::DelayedMessage => named(exchange).unwrap_or(ExchangeKind::DelayedMessage),
        other => other,
    }
}

/// Checks that an exchange with delays says how it routes.
///
/// # Errors
/// 406 without the name of another type in `x-delayed-type`.
pub(crate) fn check(exchange: &ExchangeRecord) -> Result<(), AmqpError> {
    if exchange.kind != ExchangeKind::DelayedMessage || named(exchange).is_some() {
        return Ok(());
    }
    let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    Err(refuse(ReplyCode::PreconditionFailed, text))
}

fn named(exchange: &ExchangeRecord) -> Option<ExchangeKind> {
    let name = std::str::from_utf8(bytes(exchange.arguments.inner().get(DELAYED_TYPE)?)?).ok()?;
    let routes = |kind: &ExchangeKind| match kind {
        // What it would remember is not what its queues get.
        ExchangeKind::DelayedMessage | ExchangeKind::RecentHistory => false,
        ExchangeKind::Direct
        | ExchangeKind::Fanout
        | ExchangeKind::Topic
        | ExchangeKind::Headers
        | ExchangeKind::ConsistentHash
        | ExchangeKind::ModulusHash
        | ExchangeKind::Random
        | ExchangeKind::LocalRandom => true,
    };
    ExchangeKind::parse(name).ok().filter(routes)
}
