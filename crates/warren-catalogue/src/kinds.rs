//! What each type of queue understands, as RabbitMQ has it. Asked before a command is proposed, and never when it is
//! applied: what earlier versions accepted must be accepted whenever their logs are read again.

use warren_proto::catalogue::DeclareQueue;
use warren_types::{AMQPValue, AmqpError, FieldTable, QueueSpec, ReplyCode};

use crate::arguments::{
    self, DEAD_LETTER_EXCHANGE, QUEUE_TYPE, check_name_argument, check_not_negative, checked_integer,
    integer, queue_type,
};
use crate::names::{queue_resource, refuse};

/// The type of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// What absence means.
    Classic,
    /// `x-queue-type` is `quorum`.
    Quorum,
    /// `x-queue-type` is `stream`.
    Stream,
}

const CLASSIC: &[&str] = &[
    "x-expires",
    "x-message-ttl",
    DEAD_LETTER_EXCHANGE,
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    QUEUE_TYPE,
    "x-queue-master-locator",
    "x-queue-leader-locator",
    // RabbitMQ had it on classic queues until 4.3; ours still have it.
    "x-consumer-timeout",
];

const QUORUM: &[&str] = &[
    DEAD_LETTER_EXCHANGE,
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    QUEUE_TYPE,
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
    "x-consumer-disconnected-timeout",
    "x-consumer-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
];

const STREAM: &[&str] = &[
    "x-max-length-bytes",
    QUEUE_TYPE,
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
];

/// An argument of ours that means nothing to a stream.
const DEDUPLICATION: &str = "x-message-deduplication";

const CONSUMERS_OF_QUEUES: &[&str] = &["x-priority", "x-consumer-timeout"];
const CONSUMERS_OF_STREAMS: &[&str] = &["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

impl QueueKind {
    /// The type of a queue with these arguments.
    #[must_use]
    pub fn of(arguments: &FieldTable) -> Self {
        match queue_type(arguments) {
            "quorum" => Self::Quorum,
            "stream" => Self::Stream,
            _ => Self::Classic,
        }
    }

    /// The type as RabbitMQ's texts name it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }

    /// The arguments that a queue of this type understands, in the order in which they are compared.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Classic => CLASSIC,
            Self::Quorum => QUORUM,
            Self::Stream => STREAM,
        }
    }

    fn is_foreign(self, key: &str) -> bool {
        let known = |key| [CLASSIC, QUORUM, STREAM].iter().any(|keys| keys.contains(&key));
        match self {
            Self::Stream if key == DEDUPLICATION => true,
            Self::Classic | Self::Quorum | Self::Stream => known(key) && !self.arguments().contains(&key),
        }
    }
}

/// What a node checks of a queue that does not exist, before it proposes it. `arguments` are those that it would be
/// stored with.
///
/// # Errors
/// 406, in this order: `invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}` for an argument of the
/// queue's type, `invalid arg 'x-expires' for queue 'q' in vhost '/' of queue type rabbit_stream_queue` for one of
/// another, `invalid property 'non-durable' for queue 'q' in vhost '/'` for a quorum queue or stream that is not durable,
/// shared and lasting.
pub fn check_new_queue(declare: &DeclareQueue, arguments: &FieldTable) -> Result<(), AmqpError> {
    let resource = || queue_resource(&declare.vhost, &declare.name);
    let refused = |text: String| Err(refuse(ReplyCode::PreconditionFailed, text));
    check_name_argument(arguments, DEAD_LETTER_EXCHANGE, &resource())?;
    if let Some(value) = arguments.inner().get(QUEUE_TYPE)
        && let Err(reason) = arguments::check_queue_type(value, arguments)
    {
        return refused(format!("invalid arg '{QUEUE_TYPE}' for {}: {reason}", resource()));
    }
    let kind = QueueKind::of(arguments);
    let checks = arguments::checks().filter(|(key, _)| !kind.is_foreign(key));
    for (key, check) in checks {
        let Some(value) = arguments.inner().get(key) else { continue };
        if let Err(reason) = check(value, arguments).and_then(|()| stricter(key, value)) {
            return refused(format!("invalid arg '{key}' for {}: {reason}", resource()));
        }
    }
    if let Some(key) = arguments.inner().keys().find(|key| kind.is_foreign(key.as_str())) {
        return refused(format!("invalid arg '{key}' for {} of queue type {}", resource(), kind.module()));
    }
    if kind == QueueKind::Classic {
        return Ok(());
    }
    let wrong = [
        ("auto-delete", declare.auto_delete),
        ("exclusive-owner", declare.exclusive.is_some()),
        ("non-durable", !declare.durable),
    ];
    match wrong.into_iter().find(|(_, wrong)| *wrong) {
        Some((property, _)) => refused(format!("invalid property '{property}' for {}", resource())),
        None => Ok(()),
    }
}

/// What is refused today and was let in once, or was refused in other words.
fn stricter(key: &str, value: &AMQPValue) -> Result<(), String> {
    match key {
        "x-max-age" => match arguments::bytes(value) {
            Some(age)
                if age.iter().take_while(|octet| octet.is_ascii_digit()).all(|digit| *digit == b'0') =>
            {
                Err("invalid_max_age".to_owned())
            }
            Some(_) | None => Ok(()),
        },
        "x-queue-leader-locator" if arguments::bytes(value) == Some(b"min-masters") => {
            Err("invalid_queue_locator_arg".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks what a consumer asks of a queue. Where a stream is read from is checked where it is read.
///
/// # Errors
/// 406 `invalid arg 'x-priority' for queue 'q' in vhost '/': "expected integer, got longstr"`, and `invalid arg
/// 'x-priority' for queue 'q' in vhost '/' of queue type rabbit_stream_queue`.
pub fn check_consumer_arguments(spec: &QueueSpec, arguments: &FieldTable) -> Result<(), AmqpError> {
    if arguments.inner().is_empty() {
        return Ok(());
    }
    let kind = QueueKind::of(&spec.arguments);
    let (own, foreign) = match kind {
        QueueKind::Stream => (CONSUMERS_OF_STREAMS, CONSUMERS_OF_QUEUES),
        QueueKind::Classic | QueueKind::Quorum => (CONSUMERS_OF_QUEUES, CONSUMERS_OF_STREAMS),
    };
    let resource = || queue_resource(&spec.vhost, &spec.name);
    for key in own {
        let Some(value) = arguments.inner().get(*key) else { continue };
        let checked = match *key {
            "x-priority" => checked_integer(value).map(drop),
            "x-consumer-timeout" => check_not_negative(value, arguments),
            _ => Ok(()),
        };
        if let Err(reason) = checked {
            let text = format!("invalid arg '{key}' for {}: {reason}", resource());
            return Err(refuse(ReplyCode::PreconditionFailed, text));
        }
    }
    match foreign.iter().find(|key| arguments.contains_key(key)) {
        Some(key) => {
            let text = format!("invalid arg '{key}' for {} of queue type {}", resource(), kind.module());
            Err(refuse(ReplyCode::PreconditionFailed, text))
        }
        None => Ok(()),
    }
}

/// `x-priority` of a consumer: any integer, 0 without it. Clients use small numbers; what does not fit is as high or as
/// low as can be.
#[must_use]
pub fn consumer_priority(arguments: &FieldTable) -> i32 {
    let number = arguments.inner().get("x-priority").and_then(integer).unwrap_or_default();
    i32::try_from(number).unwrap_or(if number > 0 { i32::MAX } else { i32::MIN })
}
