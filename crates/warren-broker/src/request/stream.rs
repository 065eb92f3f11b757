//! What is different where a queue is a stream: how it is consumed, and what cannot be done with it.

use warren_amqp::Consume;
use warren_catalogue::{age_ms, erlang_term, is_stream};
use warren_proto::session::{StreamFilter, StreamOffset};
use warren_types::table::type_name;
use warren_types::{AMQPValue, AckMode, AmqpError, FieldTable, QueueSpec, ReplyCode, UnixMillis};

use crate::clock;

/// Where a consumer begins to read; `None` where the queue is no stream.
///
/// # Errors
/// 540 with automatic acknowledgement; 406 without a prefetch, or for an `x-stream-offset` that is none.
pub(super) fn offset(consume: &Consume, spec: &QueueSpec) -> Result<Option<StreamOffset>, AmqpError> {
    if !is_stream(&spec.arguments) {
        return Ok(None);
    }
    let offset = match consume.arguments.inner().get("x-stream-offset") {
        None => StreamOffset::Next,
        Some(value) => parse(value, clock::now()).ok_or_else(|| {
            let text = format!(
                "invalid arg 'x-stream-offset' for {}: {{invalid_stream_offset_arg,{{{},{}}}}}",
                resource(spec),
                type_name(value),
                erlang_term(value)
            );
            AmqpError::new(ReplyCode::PreconditionFailed, text)
        })?,
    };
    if consume.ack_mode == AckMode::Automatic {
        let text = format!("automatic acknowledgement not supported by stream {}", resource(spec));
        return Err(AmqpError::new(ReplyCode::NotImplemented, text));
    }
    if consume.prefetch == 0 {
        let text = format!("consumer prefetch count is not set for stream {}", resource(spec));
        return Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
    }
    Ok(Some(offset))
}

/// `x-stream-filter`, a string or several, and `x-stream-match-unfiltered`. What is neither is no filter, as RabbitMQ has it.
pub(super) fn filter(arguments: &FieldTable) -> Option<StreamFilter> {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(text.as_bytes().to_vec()),
        _ => None,
    };
    let values = match arguments.inner().get("x-stream-filter")? {
        AMQPValue::FieldArray(values) => values.as_slice().iter().filter_map(text).collect(),
        other => vec![text(other)?],
    };
    let unfiltered = arguments.inner().get("x-stream-match-unfiltered") == Some(&AMQPValue::Boolean(true));
    Some(StreamFilter { values, unfiltered })
}

/// # Errors
/// 540 for a stream, where `what` does not work.
pub(crate) fn refuse(what: &str, spec: &QueueSpec) -> Result<(), AmqpError> {
    if !is_stream(&spec.arguments) {
        return Ok(());
    }
    let text = format!("{what} not supported by stream queues {}", resource(spec));
    Err(AmqpError::new(ReplyCode::NotImplemented, text))
}

/// A word, a number, a time in seconds, or how far back.
fn parse(value: &AMQPValue, now: UnixMillis) -> Option<StreamOffset> {
    // Before the first is the first.
    let offset = |number: i64| Some(StreamOffset::Offset(u64::try_from(number).unwrap_or_default()));
    match value {
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()).ok()? {
            "first" => Some(StreamOffset::First),
            "last" => Some(StreamOffset::Last),
            "next" => Some(StreamOffset::Next),
            interval => {
                let back = age_ms(interval)?;
                Some(StreamOffset::Since(UnixMillis(now.0.saturating_sub(back))))
            }
        },
        AMQPValue::Timestamp(seconds) => Some(StreamOffset::Since(UnixMillis(seconds.saturating_mul(1000)))),
        AMQPValue::ShortShortInt(v) => offset((*v).into()),
        AMQPValue::ShortShortUInt(v) => offset((*v).into()),
        AMQPValue::ShortInt(v) => offset((*v).into()),
        AMQPValue::ShortUInt(v) => offset((*v).into()),
        AMQPValue::LongInt(v) => offset((*v).into()),
        AMQPValue::LongUInt(v) => offset((*v).into()),
        AMQPValue::LongLongInt(v) => offset(*v),
        AMQPValue::Boolean(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::ShortString(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}

fn resource(spec: &QueueSpec) -> String {
    format!("queue '{}' in vhost '{}'", spec.name, spec.vhost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_word_a_number_a_time_or_how_far_back() {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let now = UnixMillis(1_000_000);
        for (value, wanted) in [
            (text("first"), Some(StreamOffset::First)),
            (text("last"), Some(StreamOffset::Last)),
            (text("next"), Some(StreamOffset::Next)),
            (AMQPValue::LongInt(7), Some(StreamOffset::Offset(7))),
            (AMQPValue::LongLongInt(0), Some(StreamOffset::Offset(0))),
            (AMQPValue::Timestamp(5), Some(StreamOffset::Since(UnixMillis(5000)))),
            (text("1m"), Some(StreamOffset::Since(UnixMillis(940_000)))),
            (text("1Y"), Some(StreamOffset::Since(UnixMillis(0)))),
            (text("zzz"), None),
            (AMQPValue::LongInt(-1), Some(StreamOffset::Offset(0))),
            (AMQPValue::Boolean(true), None),
        ] {
            assert_eq!(parse(&value, now), wanted, "{value:?}");
        }
    }
}
