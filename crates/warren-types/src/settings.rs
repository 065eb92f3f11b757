//! What a queue's `x-` arguments (and policies) ask of its leader.

use std::sync::Arc;

/// What happens when a queue is at its length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The oldest ready messages make room.
    #[default]
    DropHead,
    /// New messages are refused: their publisher gets `basic.nack`.
    RejectPublish,
    /// As `RejectPublish`, and the refused message is dead-lettered.
    RejectPublishDeadLetter,
}

/// Which messages a queue takes for repeated (`x-message-deduplication`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplication {
    /// The header with a message's key (`x-deduplication-header`).
    pub header: Arc<str>,
    /// How many keys are remembered (`x-cache-size`).
    pub size: u64,
    /// Milliseconds for which one is (`x-cache-ttl`).
    pub ttl_ms: Option<u64>,
}

/// Which of the messages that come back rest before they are delivered again (`x-delayed-retry-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// All of them.
    All,
    /// Those whose delivery has failed.
    Failed,
    /// Those whose delivery has not.
    Returned,
}

/// How long they rest: the longer, the more often their delivery has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRetry {
    /// Which ones.
    pub which: Retried,
    /// Milliseconds for the first failure, and for each more (`x-delayed-retry-min`).
    pub min_ms: u64,
    /// Milliseconds at most (`x-delayed-retry-max`).
    pub max_ms: u64,
}

/// What a stream keeps (`x-queue-type` is `stream`), beside `x-max-length-bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSettings {
    /// Milliseconds after which a message may go (`x-max-age`).
    pub max_age_ms: Option<u64>,
    /// Most messages: it is the history of an exchange (`x-recent-history-length`).
    pub max_messages: Option<u64>,
}

/// The settings of one queue; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Milliseconds that a message may stay (`x-message-ttl`).
    pub message_ttl_ms: Option<u64>,
    /// Milliseconds that the queue may stay unused (`x-expires`).
    pub expires_ms: Option<u64>,
    /// Most ready messages (`x-max-length`).
    pub max_length: Option<u64>,
    /// Most body bytes of ready messages (`x-max-length-bytes`).
    pub max_length_bytes: Option<u64>,
    /// What happens beyond either (`x-overflow`).
    pub overflow: Overflow,
    /// Where dead messages go; the empty name is the default exchange (`x-dead-letter-exchange`).
    pub dead_letter_exchange: Option<Arc<str>>,
    /// Their routing key; else they keep their own (`x-dead-letter-routing-key`).
    pub dead_letter_routing_key: Option<Arc<str>>,
    /// Where they go nowhere, or are refused, they stay and are tried again (`x-dead-letter-strategy` is `at-least-once`).
    pub keeps_dead_letters: bool,
    /// Most failed deliveries that a message survives (`x-delivery-limit`).
    pub delivery_limit: Option<u64>,
    /// What comes back rests for a while.
    pub delayed_retry: Option<DelayedRetry>,
    /// The highest priority that is told apart (`x-max-priority`).
    pub max_priority: Option<u8>,
    /// Without it: 32 priorities nevertheless, and 4 for a message that has none (`x-queue-type` is `quorum`).
    pub strict_levels: bool,
    /// Messages with a key that was there before are dropped.
    pub deduplication: Option<Deduplication>,
    /// It is a stream.
    pub stream: Option<StreamSettings>,
    /// One consumer at a time (`x-single-active-consumer`).
    pub single_active_consumer: bool,
    /// And that is one of the highest priority (`x-queue-type` is `quorum`).
    pub active_by_priority: bool,
}
