//! What arguments may be: types as RabbitMQ names them, values as it compares and prints them, and the checks of a
//! queue's `x-` arguments with its texts. Every argument is taken on every queue type: one engine serves them all.

use std::fmt::Write as _;

pub(crate) use warren_types::table::{integer, type_name};
use warren_types::{AMQPValue, AmqpError, FieldTable, ReplyCode};

use crate::names::{exchange_resource, queue_resource, refuse};
use crate::topology::ALTERNATE_EXCHANGE;

pub(crate) const QUEUE_TYPE: &str = "x-queue-type";
pub(crate) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// What may be done where a queue is full.
pub(crate) const OVERFLOWS: &[&str] = &["drop-head", "reject-publish", "reject-publish-dlx"];
/// How dead letters may be handed over.
pub(crate) const STRATEGIES: &[&str] = &["at-most-once", "at-least-once"];
/// What rests before it is delivered again.
pub(crate) const RETRIES: &[&str] = &["disabled", "all", "failed", "returned"];
/// Where a queue's first leader may be.
pub(crate) const LOCATORS: &[&str] = &["client-local", "balanced", "random", "least-leaders", "min-masters"];

/// Longest time to live, in milliseconds: ten years.
const EXPIRY_MAX_MS: i64 = 315_360_000_000;
/// Highest priority.
const PRIORITY_MAX: i64 = 255;
/// Most keys that a queue remembers: they are in its leader's memory.
const CACHE_SIZE_MAX: i64 = 1_000_000;
/// Largest stream segment, in bytes.
const SEGMENT_MAX_BYTES: i64 = 3_000_000_000;

fn float(value: &AMQPValue) -> Option<f64> {
    match value {
        AMQPValue::Float(v) => Some((*v).into()),
        AMQPValue::Double(v) => Some(*v),
        _ => None,
    }
}

/// Whether a queue with these arguments is a stream.
#[must_use]
pub fn is_stream(arguments: &FieldTable) -> bool {
    arguments.inner().get(QUEUE_TYPE).and_then(bytes) == Some(b"stream")
}

/// An age as streams have it: a number and one of `Y M D h m s`, in milliseconds.
#[must_use]
pub fn age_ms(age: &str) -> Option<u64> {
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let seconds = match unit {
        "Y" => 365 * 86_400,
        "M" => 30 * 86_400,
        "D" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let number: u64 = number.bytes().all(|digit| digit.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(seconds * 1000)
}

/// The bytes of a string or byte array.
pub(crate) fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::ShortString(v) => Some(v.as_str().as_bytes()),
        AMQPValue::LongString(v) => Some(v.as_bytes()),
        AMQPValue::ByteArray(v) => Some(v.as_slice()),
        _ => None,
    }
}

/// A queue's type by its arguments: classic is what absence means.
pub(crate) fn queue_type(arguments: &FieldTable) -> &str {
    let declared = arguments.inner().get(QUEUE_TYPE).and_then(bytes);
    match declared.and_then(|declared| std::str::from_utf8(declared).ok()) {
        None | Some("" | "undefined") => "classic",
        Some(declared) => declared,
    }
}

/// Equal as plain values: widths of integers and floats do not matter, 1 and 1.0 differ.
pub(crate) fn same_value(a: &AMQPValue, b: &AMQPValue) -> bool {
    // A timestamp is a plain number too.
    let number = |value: &AMQPValue| match value {
        AMQPValue::Timestamp(v) => Some(i128::from(*v)),
        other => integer(other).map(i128::from),
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => return a == b,
        (Some(_), None) | (None, Some(_)) => return false,
        (None, None) => {}
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (bytes(a), bytes(b)) {
        return a == b;
    }
    a == b
}

/// Equal as arguments: as [`same_value`], but a string is no byte array and a number no timestamp.
pub(crate) fn same_argument(a: &AMQPValue, b: &AMQPValue) -> bool {
    let class = |value: &AMQPValue| {
        if integer(value).is_some() {
            "int"
        } else if float(value).is_some() {
            "float"
        } else {
            type_name(value)
        }
    };
    class(a) == class(b) && same_value(a, b)
}

/// A value as RabbitMQ's texts print plain ones: strings bare, the rest as Erlang terms.
pub(crate) fn plain(value: &AMQPValue) -> String {
    match bytes(value) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => term(value),
    }
}

/// A value as an Erlang term.
#[must_use]
pub fn term(value: &AMQPValue) -> String {
    match value {
        AMQPValue::Boolean(v) => v.to_string(),
        AMQPValue::Float(v) => decimal(f64::from(*v)),
        AMQPValue::Double(v) => decimal(*v),
        AMQPValue::DecimalValue(v) => format!("{{{},{}}}", v.scale, v.value),
        AMQPValue::Timestamp(v) => v.to_string(),
        AMQPValue::FieldArray(values) => {
            let typed = |value| format!("{{{},{}}}", type_name(value), term(value));
            format!("[{}]", values.as_slice().iter().map(typed).collect::<Vec<_>>().join(","))
        }
        AMQPValue::FieldTable(table) => {
            let entry = |(key, value): (&warren_types::table::ShortString, &AMQPValue)| {
                format!("{{<<\"{key}\">>,{},{}}}", type_name(value), term(value))
            };
            format!("[{}]", table.into_iter().map(entry).collect::<Vec<_>>().join(","))
        }
        AMQPValue::Void => "undefined".to_owned(),
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) | AMQPValue::ByteArray(_) => {
            binary(bytes(value).unwrap_or_default())
        }
        AMQPValue::ShortShortInt(_)
        | AMQPValue::ShortShortUInt(_)
        | AMQPValue::ShortInt(_)
        | AMQPValue::ShortUInt(_)
        | AMQPValue::LongInt(_)
        | AMQPValue::LongUInt(_)
        | AMQPValue::LongLongInt(_) => integer(value).unwrap_or_default().to_string(),
    }
}

// Erlang prints a float with a point always.
fn decimal(value: f64) -> String {
    format!("{value:?}")
}

fn binary(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<<>>".to_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            let suffix = if text.is_ascii() { "" } else { "/utf8" };
            format!("<<\"{escaped}\"{suffix}>>")
        }
        Ok(_) | Err(_) => {
            let mut text = String::from("<<");
            for (place, byte) in bytes.iter().enumerate() {
                let comma = if place == 0 { "" } else { "," };
                // Writing to a string cannot fail.
                let _written = write!(text, "{comma}{byte}");
            }
            text + ">>"
        }
    }
}

/// A name in an argument must be a string.
pub(crate) fn check_name_argument(
    arguments: &FieldTable,
    key: &str,
    resource: &str,
) -> Result<(), AmqpError> {
    match arguments.inner().get(key) {
        None | Some(AMQPValue::LongString(_) | AMQPValue::ShortString(_)) => Ok(()),
        Some(other) => Err(refuse(
            ReplyCode::PreconditionFailed,
            format!("invalid type '{}' for arg '{key}' in {resource}", type_name(other)),
        )),
    }
}

/// Checks the arguments of a new exchange.
pub(crate) fn validate_exchange_arguments(
    vhost: &str,
    name: &str,
    arguments: &FieldTable,
) -> Result<(), AmqpError> {
    check_name_argument(arguments, ALTERNATE_EXCHANGE, &exchange_resource(vhost, name))
}

/// How an argument's value is checked; the error is the reason as RabbitMQ prints it.
pub(crate) type Check = fn(&AMQPValue, &FieldTable) -> Result<(), String>;

/// The arguments that are checked when a queue is declared, in the order of the checks. Any other is stored and otherwise
/// ignored.
const KNOWN: &[(&str, Check)] = &[
    ("x-expires", check_expires),
    ("x-message-ttl", check_expiry),
    (DEAD_LETTER_EXCHANGE, check_string),
    ("x-dead-letter-routing-key", check_dead_letter_routing_key),
    ("x-dead-letter-strategy", |value, _| one_of(value, STRATEGIES, "invalid_dlx_strategy")),
    ("x-max-length", check_not_negative),
    ("x-max-length-bytes", check_not_negative),
    ("x-max-in-memory-length", check_not_negative),
    ("x-max-in-memory-bytes", check_not_negative),
    ("x-max-priority", check_priority),
    ("x-overflow", |value, _| one_of(value, OVERFLOWS, "invalid_overflow")),
    ("x-queue-mode", accept),
    ("x-queue-version", check_version),
    ("x-single-active-consumer", check_bool),
    (QUEUE_TYPE, check_queue_type),
    ("x-max-age", check_max_age),
    ("x-stream-max-segment-size-bytes", check_not_negative),
    ("x-stream-filter-size-bytes", check_not_negative),
    ("x-initial-cluster-size", check_positive),
    ("x-quorum-initial-group-size", check_positive),
    ("x-queue-leader-locator", |value, _| one_of(value, LOCATORS, "invalid_queue_locator_arg")),
    ("x-delivery-limit", accept),
    ("x-consumer-timeout", check_not_negative),
    ("x-consumer-disconnected-timeout", check_not_negative),
];

/// Checks a queue's arguments: types and ranges of those that are known, in RabbitMQ's order.
///
/// # Errors
/// 406 `invalid arg 'x-…' for queue 'q' in vhost '/': <reason>`, and for a dead-letter exchange that is no string
/// `invalid type 'long' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'`.
pub fn validate_queue_arguments(vhost: &str, name: &str, arguments: &FieldTable) -> Result<(), AmqpError> {
    if arguments.inner().is_empty() {
        return Ok(());
    }
    let resource = queue_resource(vhost, name);
    check_name_argument(arguments, DEAD_LETTER_EXCHANGE, &resource)?;
    for (key, check) in KNOWN {
        if let Some(value) = arguments.inner().get(*key) {
            check(value, arguments).map_err(|reason| {
                refuse(ReplyCode::PreconditionFailed, format!("invalid arg '{key}' for {resource}: {reason}"))
            })?;
        }
    }
    let size = |key| arguments.inner().get(key).and_then(integer);
    if size("x-stream-max-segment-size-bytes").is_some_and(|size| size > SEGMENT_MAX_BYTES) {
        let text = "Exceeded max value for x-stream-max-segment-size-bytes";
        return Err(refuse(ReplyCode::PreconditionFailed, text));
    }
    if size("x-stream-filter-size-bytes").is_some_and(|size| !(16..=255).contains(&size)) {
        return Err(refuse(ReplyCode::PreconditionFailed, "Invalid value for x-stream-filter-size-bytes"));
    }
    Ok(())
}

/// Arguments that came to mean something only after catalogues of earlier versions had taken any value of them.
const LATER: &[(&str, Check)] = &[
    ("x-message-deduplication", check_bool),
    ("x-deduplication-header", check_string),
    ("x-cache-size", check_cache_size),
    ("x-cache-ttl", check_expires),
    ("x-delayed-retry-type", |value, _| one_of(value, RETRIES, "invalid_delayed_retry_type")),
    ("x-delayed-retry-min", check_not_negative),
    ("x-delayed-retry-max", check_not_negative),
];

/// All checks of a new queue's arguments, in their order.
pub(crate) fn checks() -> impl Iterator<Item = (&'static str, Check)> {
    KNOWN.iter().chain(LATER).copied()
}

fn accept(_: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    Ok(())
}

pub(crate) fn checked_integer(value: &AMQPValue) -> Result<i64, String> {
    integer(value).ok_or_else(|| format!("\"expected integer, got {}\"", type_name(value)))
}

pub(crate) fn check_not_negative(value: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    match checked_integer(value)? {
        negative @ ..0 => Err(format!("{{value_negative,{negative}}}")),
        0.. => Ok(()),
    }
}

fn check_positive(value: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    match checked_integer(value)? {
        negative @ ..0 => Err(format!("{{value_negative,{negative}}}")),
        0 => Err("{value_zero,0}".to_owned()),
        1.. => Ok(()),
    }
}

fn check_expiry(value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
    check_not_negative(value, arguments)?;
    match checked_integer(value)? {
        large if large > EXPIRY_MAX_MS => Err(format!("{{value_too_large,{large}}}")),
        _ => Ok(()),
    }
}

fn check_expires(value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
    if checked_integer(value)? == 0 {
        return Err("{value_zero,0}".to_owned());
    }
    check_expiry(value, arguments)
}

fn check_priority(value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
    check_not_negative(value, arguments)?;
    match checked_integer(value)? {
        large if large > PRIORITY_MAX => Err(format!("{{max_value_exceeded,{large}}}")),
        _ => Ok(()),
    }
}

fn check_cache_size(value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
    check_positive(value, arguments)?;
    match checked_integer(value)? {
        large if large > CACHE_SIZE_MAX => Err(format!("{{max_value_exceeded,{large}}}")),
        _ => Ok(()),
    }
}

fn check_version(value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
    check_not_negative(value, arguments)?;
    match checked_integer(value)? {
        2 => Ok(()),
        other => Err(format!("\"unsupported queue version '{other}'\"")),
    }
}

fn unacceptable(value: &AMQPValue) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value))
}

fn text(value: &AMQPValue) -> Result<&[u8], String> {
    match value {
        AMQPValue::LongString(_) | AMQPValue::ShortString(_) => Ok(bytes(value).unwrap_or_default()),
        other => Err(unacceptable(other)),
    }
}

fn check_string(value: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    text(value).map(|_| ())
}

fn check_bool(value: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    match value {
        AMQPValue::Boolean(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

fn one_of(value: &AMQPValue, allowed: &[&str], reason: &str) -> Result<(), String> {
    let text = text(value)?;
    if allowed.iter().any(|allowed| allowed.as_bytes() == text) { Ok(()) } else { Err(reason.to_owned()) }
}

fn check_dead_letter_routing_key(value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
    text(value)?;
    if arguments.contains_key(DEAD_LETTER_EXCHANGE) {
        Ok(())
    } else {
        Err("routing_key_but_no_dlx_defined".to_owned())
    }
}

pub(crate) fn check_queue_type(value: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    match text(value)? {
        b"classic" | b"quorum" | b"stream" | b"" | b"undefined" => Ok(()),
        other => Err(format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(other))),
    }
}

pub(crate) fn check_max_age(value: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    match text(value)?.split_last() {
        Some((b'Y' | b'M' | b'D' | b'h' | b'm' | b's', number @ [_, ..]))
            if number.iter().all(u8::is_ascii_digit) =>
        {
            Ok(())
        }
        Some(_) | None => Err("invalid_max_age".to_owned()),
    }
}
