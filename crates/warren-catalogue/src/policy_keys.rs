//! The settings that a policy may make: what their values may be, which queues know them, and how a user's, an
//! operator's and an argument's come together.

use warren_types::{AMQPValue, AmqpError, FieldTable, ReplyCode};

use crate::arguments::{LOCATORS, OVERFLOWS, RETRIES, STRATEGIES, bytes, check_max_age, integer, term};
use crate::names::refuse;
use crate::topology::ALTERNATE_EXCHANGE;

/// What a value may be.
#[derive(Clone, Copy)]
enum Check {
    Integer(i64, i64),
    Text,
    Anything,
    OneOf(&'static [&'static str]),
    Age,
}

/// Which of two values counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The first: an operator's before a user's, an argument before a policy's.
    First,
    /// The second.
    Second,
    Min,
    Max,
    /// The smaller, unless one is negative, which means none: then the greater.
    MinOrNone,
}

struct Key {
    name: &'static str,
    /// How texts call it.
    thing: &'static str,
    check: Check,
    /// The queue types that know it: `c`, `q`, `s`.
    types: &'static str,
    /// How an operator's comes together with a user's; `None`: operators may not set it.
    operator: Option<Rule>,
    /// How an argument comes together with a policy's.
    argument: Rule,
}

const MAX: i64 = i64::MAX;

const fn key(
    name: &'static str,
    thing: &'static str,
    check: Check,
    types: &'static str,
    operator: Option<Rule>,
    argument: Rule,
) -> Key {
    Key { name, thing, check, types, operator, argument }
}

const KEYS: &[Key] = {
    use Check::{Age, Anything, Integer, OneOf, Text};
    use Rule::{First, Max, Min, MinOrNone, Second};
    &[
        key("message-ttl", "message TTL", Integer(0, MAX), "cq", Some(Min), Min),
        key("expires", "queue expiry", Integer(1, MAX), "cq", Some(Min), Min),
        key("max-length", "maximum length", Integer(0, MAX), "cq", Some(Min), Min),
        key("max-length-bytes", "maximum length in bytes", Integer(0, MAX), "cqs", Some(Min), Min),
        key("overflow", "overflow value", OneOf(OVERFLOWS), "cq", Some(First), First),
        key("dead-letter-exchange", "dead letter exchange name", Text, "cq", None, First),
        key("dead-letter-routing-key", "dead letter routing key", Text, "cq", None, First),
        key("dead-letter-strategy", "dead letter strategy", OneOf(STRATEGIES), "q", None, First),
        key("delivery-limit", "delivery limit", Integer(i64::MIN, MAX), "q", Some(MinOrNone), MinOrNone),
        key("delayed-retry-type", "delayed retry type", OneOf(RETRIES), "q", Some(First), Second),
        key("delayed-retry-min", "delayed retry minimum", Integer(0, MAX), "q", Some(Max), Min),
        key("delayed-retry-max", "delayed retry maximum", Integer(0, MAX), "q", Some(Min), Min),
        // RabbitMQ has it for quorum queues only since 4.3; ours all have it.
        key("consumer-timeout", "consumer timeout", Integer(0, MAX), "cq", None, Min),
        key(
            "consumer-disconnected-timeout",
            "consumer disconnected timeout",
            Integer(0, MAX),
            "q",
            None,
            Min,
        ),
        key("target-group-size", "target group size", Integer(1, MAX), "q", Some(Max), Second),
        key("queue-leader-locator", "queue leader locator value", OneOf(LOCATORS), "cqs", None, Second),
        key("initial-cluster-size", "cluster size", Integer(0, MAX), "s", None, Second),
        key("max-age", "max age", Age, "s", None, Second),
        key("stream-max-segment-size-bytes", "segment size", Integer(0, 3_000_000_000), "s", None, Second),
        key(
            "stream-filter-size-bytes",
            "filter size. Valid range is 16-255",
            Integer(16, 255),
            "s",
            None,
            Second,
        ),
        key("queue-version", "queue version", Integer(1, 2), "c", Some(First), First),
        key("queue-mode", "queue mode", OneOf(&["default", "lazy"]), "c", None, First),
        key("max-in-memory-length", "maximum length in memory", Integer(0, MAX), "q", Some(Min), Min),
        key("max-in-memory-bytes", "maximum length in memory in bytes", Integer(0, MAX), "q", Some(Min), Min),
        // What asked for copies before RabbitMQ 4: here every queue has them. So that a 3.x broker's definitions can be taken over.
        // Kept, as the parameters that they name; nothing is federated.
        key("federation-upstream", "upstream", Text, "", None, First),
        key("federation-upstream-set", "upstream set", Text, "", None, First),
        key("federation-upstream-pattern", "upstream pattern", Text, "", None, First),
        key("ha-mode", "mirroring mode", OneOf(&["all", "exactly", "nodes"]), "", None, First),
        key("ha-params", "mirroring parameter", Anything, "", None, First),
        key("ha-sync-mode", "synchronisation mode", OneOf(&["manual", "automatic"]), "", None, First),
        key("ha-sync-batch-size", "synchronisation batch size", Integer(1, MAX), "", None, First),
        key("ha-promote-on-shutdown", "promotion", OneOf(&["always", "when-synced"]), "", None, First),
        key("ha-promote-on-failure", "promotion", OneOf(&["always", "when-synced"]), "", None, First),
        key(ALTERNATE_EXCHANGE, "alternate exchange name", Text, "", None, First),
    ]
};

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Is this what a policy may say?
///
/// # Errors
/// 406 `Validation failed` and what is wrong.
pub(crate) fn check_definition(definition: &FieldTable, operator: bool) -> Result<(), AmqpError> {
    let failed = |reason: String| {
        Err(refuse(ReplyCode::PreconditionFailed, format!("Validation failed\n\n{reason}\n")))
    };
    if definition.inner().is_empty() {
        return failed("no policy provided".to_owned());
    }
    for (name, value) in definition.inner() {
        let key = find(name.as_str()).filter(|key| !operator || key.operator.is_some());
        let Some(key) = key else {
            return failed(format!(
                "[{{<<\"{name}\">>,{}}}] are not recognised policy settings",
                term(value)
            ));
        };
        let text = || bytes(value).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let valid = match key.check {
            Check::Integer(min, max) => integer(value).is_some_and(|value| (min..=max).contains(&value)),
            Check::Text => text().is_some(),
            Check::Anything => true,
            Check::OneOf(words) => text().is_some_and(|text| words.contains(&text)),
            Check::Age => check_max_age(value, definition).is_ok(),
        };
        if !valid {
            return failed(format!("{} is not a valid {}", term(value), key.thing));
        }
    }
    let number = |name: &str| definition.inner().get(name).and_then(integer);
    let retries = definition.inner().get("delayed-retry-type").and_then(bytes);
    let (min, max) = (number("delayed-retry-min"), number("delayed-retry-max"));
    if retries.is_some_and(|retries| retries != b"disabled") && min.is_none() {
        return failed("delayed-retry-type needs delayed-retry-min".to_owned());
    }
    if min.zip(max).is_some_and(|(min, max)| max < min) {
        return failed("delayed-retry-max is smaller than delayed-retry-min".to_owned());
    }
    Ok(())
}

/// Whether queues of a type take a policy: not when it says anything that they do not know.
pub(crate) fn suits(definition: &FieldTable, queue_type: &str) -> bool {
    definition.inner().keys().all(|name| {
        // What is for exchanges is nothing to any queue.
        find(name.as_str()).is_none_or(|key| {
            key.types.is_empty() || queue_type.chars().next().is_some_and(|letter| key.types.contains(letter))
        })
    })
}

/// A user's and an operator's policy together.
pub(crate) fn merge(user: Option<&FieldTable>, operator: Option<&FieldTable>) -> FieldTable {
    let mut merged = user.cloned().unwrap_or_default();
    for (name, value) in operator.into_iter().flat_map(FieldTable::inner) {
        let rule = find(name.as_str()).and_then(|key| key.operator).unwrap_or(Rule::First);
        let value = match merged.inner().get(name) {
            Some(users) => pick(rule, value, users).clone(),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

/// A queue's arguments as if what the policy says had been declared.
pub(crate) fn with_policy(arguments: &FieldTable, policy: &FieldTable, queue_type: &str) -> FieldTable {
    let mut effective = arguments.clone();
    for (name, value) in policy.inner() {
        let Some(key) = find(name.as_str()).filter(|key| !key.types.is_empty()) else { continue };
        let argument = format!("x-{name}");
        let rule = match (key.name, queue_type) {
            ("overflow", "quorum") | ("max-length-bytes", "stream") => Rule::Second,
            _ => key.argument,
        };
        let value = match arguments.inner().get(argument.as_str()) {
            Some(declared) => pick(rule, declared, value).clone(),
            None => value.clone(),
        };
        effective.insert(argument.into(), value);
    }
    effective
}

fn pick<'a>(rule: Rule, first: &'a AMQPValue, second: &'a AMQPValue) -> &'a AMQPValue {
    // What is no number cannot be compared: the first one then.
    let (Some(one), Some(other)) = (integer(first), integer(second)) else {
        return if rule == Rule::Second { second } else { first };
    };
    let takes_first = match rule {
        Rule::First => true,
        Rule::Second => false,
        Rule::Min => one <= other,
        Rule::Max => one >= other,
        Rule::MinOrNone if one < 0 || other < 0 => one >= other,
        Rule::MinOrNone => one <= other,
    };
    if takes_first { first } else { second }
}
