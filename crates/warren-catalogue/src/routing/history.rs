//! Exchanges of type `x-recent-history` route as a fanout, and keep their last messages for whoever is bound later.
//!
//! What is kept is in a queue that the broker makes with the exchange: a stream without a name, on a shard as any durable
//! queue, so that the metadata group carries none of it. A publish goes there as to the queues that are bound.

use warren_types::table::ShortString;
use warren_types::{AMQPValue, AmqpError, FieldTable, ReplyCode};

use crate::arguments::{QUEUE_TYPE, integer, term};
use crate::names::refuse;

/// How many messages are kept.
pub(crate) const LENGTH: &str = "x-recent-history-length";
/// As many, unless the exchange says otherwise.
pub(crate) const LENGTH_DEFAULT: u64 = 20;
/// The type of the queue that keeps them: clients cannot declare one.
pub(crate) const HISTORY_TYPE: &str = "recent-history";
/// A message with this header is not kept.
const NO_STORE: &str = "x-recent-history-no-store";
/// Bodies that are kept, together; the last one always is. RabbitMQ has no such limit, and everything in memory.
const BYTES_MAX: i64 = 256 << 20;

/// Checks how many messages an exchange is to keep.
///
/// # Errors
/// 406 for what is no positive number of a signed type.
pub(crate) fn check(arguments: &FieldTable) -> Result<(), AmqpError> {
    let Some(value) = arguments.inner().get(LENGTH) else { return Ok(()) };
    let signed = match value {
        AMQPValue::ShortShortInt(_)
        | AMQPValue::ShortInt(_)
        | AMQPValue::LongInt(_)
        | AMQPValue::LongLongInt(_) => integer(value),
        _ => None,
    };
    if signed.is_some_and(|length| length > 0) {
        return Ok(());
    }
    let text = format!("Invalid argument {}, '{LENGTH}' must be a positive integer", term(value));
    Err(refuse(ReplyCode::PreconditionFailed, text))
}

/// Whether a message with these headers is kept.
pub(crate) fn keeps(headers: &FieldTable) -> bool {
    headers.inner().get(NO_STORE) != Some(&AMQPValue::Boolean(true))
}

/// The arguments of the queue that keeps an exchange's last messages.
pub(crate) fn queue_arguments(exchange: &FieldTable) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut put = |key: &str, value: AMQPValue| {
        if let Ok(key) = ShortString::try_new(key) {
            arguments.insert(key, value);
        }
    };
    put(QUEUE_TYPE, AMQPValue::LongString(HISTORY_TYPE.into()));
    put("x-max-length-bytes", AMQPValue::LongLongInt(BYTES_MAX));
    if let Some(length) = exchange.inner().get(LENGTH) {
        put(LENGTH, length.clone());
    }
    arguments
}
