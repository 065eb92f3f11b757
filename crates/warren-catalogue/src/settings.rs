//! A queue's arguments become the settings that its leader acts on.

use std::sync::Arc;

use warren_types::{
    AMQPValue, Deduplication, DelayedRetry, FieldTable, Overflow, QueueSettings, Retried, StreamSettings,
};

use crate::arguments::{QUEUE_TYPE, age_ms, bytes, integer, is_stream};
use crate::routing::history;

/// Failed deliveries that a message of a quorum queue survives unless something else is asked for.
const QUORUM_DELIVERY_LIMIT: u64 = 20;

/// Where a message's key is, and how many keys a queue remembers, unless it says otherwise.
const DEDUPLICATION_HEADER: &str = "x-deduplication-header";
const DEDUPLICATION_SIZE: u64 = 1024;

/// What validated arguments ask for. What is not of its type is ignored, as no declaration lets it in.
#[must_use]
pub fn queue_settings(arguments: &FieldTable) -> QueueSettings {
    let table = arguments.inner();
    if table.is_empty() {
        return QueueSettings::default();
    }
    let number = |key: &str| table.get(key).and_then(integer).and_then(|value| u64::try_from(value).ok());
    let text = |key: &str| table.get(key).and_then(bytes).and_then(|value| std::str::from_utf8(value).ok());
    let quorum = text(QUEUE_TYPE) == Some("quorum");
    let overflow = match text("x-overflow") {
        Some("reject-publish") => Overflow::RejectPublish,
        // A quorum queue takes the word and drops the head.
        Some("reject-publish-dlx") if !quorum => Overflow::RejectPublishDeadLetter,
        Some(_) | None => Overflow::DropHead,
    };
    let delivery_limit = match table.get("x-delivery-limit").map(integer) {
        Some(Some(limit)) => u64::try_from(limit).ok(),
        Some(None) | None => quorum.then_some(QUORUM_DELIVERY_LIMIT),
    };
    let which = match text("x-delayed-retry-type") {
        Some("all") => Some(Retried::All),
        Some("failed") => Some(Retried::Failed),
        Some("returned") => Some(Retried::Returned),
        Some(_) | None => None,
    };
    let min_ms = number("x-delayed-retry-min").unwrap_or_default();
    let max_ms = number("x-delayed-retry-max").unwrap_or(min_ms);
    let rests = quorum && min_ms > 0 && max_ms > 0;
    QueueSettings {
        message_ttl_ms: number("x-message-ttl"),
        expires_ms: number("x-expires"),
        max_length: number("x-max-length"),
        max_length_bytes: number("x-max-length-bytes"),
        overflow,
        dead_letter_exchange: text("x-dead-letter-exchange").map(Arc::from),
        dead_letter_routing_key: text("x-dead-letter-routing-key").map(Arc::from),
        // With drop-head RabbitMQ falls back to at-most-once.
        keeps_dead_letters: quorum
            && overflow == Overflow::RejectPublish
            && text("x-dead-letter-strategy") == Some("at-least-once"),
        delivery_limit,
        delayed_retry: which.filter(|_| rests).map(|which| DelayedRetry { which, min_ms, max_ms }),
        max_priority: number("x-max-priority").and_then(|value| u8::try_from(value).ok()),
        strict_levels: quorum,
        deduplication: (table.get("x-message-deduplication") == Some(&AMQPValue::Boolean(true))).then(|| {
            Deduplication {
                header: Arc::from(text("x-deduplication-header").unwrap_or(DEDUPLICATION_HEADER)),
                size: number("x-cache-size").unwrap_or(DEDUPLICATION_SIZE),
                ttl_ms: number("x-cache-ttl"),
            }
        }),
        stream: match text(QUEUE_TYPE) {
            Some(history::HISTORY_TYPE) => {
                let max_messages = number(history::LENGTH).or(Some(history::LENGTH_DEFAULT));
                Some(StreamSettings { max_age_ms: None, max_messages })
            }
            _ => is_stream(arguments).then(|| StreamSettings {
                max_age_ms: text("x-max-age").and_then(age_ms),
                max_messages: None,
            }),
        },
        single_active_consumer: table.get("x-single-active-consumer") == Some(&AMQPValue::Boolean(true)),
        active_by_priority: quorum,
    }
}

#[cfg(test)]
mod tests {
    use warren_types::table::ShortString;

    use super::*;

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (key, value) in entries {
            table.insert(ShortString::try_new(*key).unwrap(), value.clone());
        }
        table
    }

    #[test]
    fn no_arguments_ask_for_nothing() {
        assert_eq!(queue_settings(&FieldTable::default()), QueueSettings::default());
    }

    #[test]
    fn every_argument_finds_its_setting() {
        let settings = queue_settings(&table(&[
            ("x-message-ttl", AMQPValue::LongInt(5)),
            ("x-expires", AMQPValue::LongLongInt(6)),
            ("x-max-length", AMQPValue::ShortShortInt(7)),
            ("x-max-length-bytes", AMQPValue::LongUInt(8)),
            ("x-overflow", AMQPValue::LongString("reject-publish-dlx".into())),
            ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
            ("x-dead-letter-routing-key", AMQPValue::LongString("k".into())),
            ("x-delivery-limit", AMQPValue::LongInt(3)),
            ("x-max-priority", AMQPValue::LongInt(9)),
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ]));
        let expected = QueueSettings {
            message_ttl_ms: Some(5),
            expires_ms: Some(6),
            max_length: Some(7),
            max_length_bytes: Some(8),
            overflow: Overflow::RejectPublishDeadLetter,
            dead_letter_exchange: Some("".into()),
            dead_letter_routing_key: Some("k".into()),
            keeps_dead_letters: false,
            delivery_limit: Some(3),
            delayed_retry: None,
            max_priority: Some(9),
            strict_levels: false,
            deduplication: None,
            stream: None,
            single_active_consumer: true,
            active_by_priority: false,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_stream_keeps_messages_for_an_age() {
        let stream = ("x-queue-type", AMQPValue::LongString("stream".into()));
        let age = |age: &str| {
            let age = ("x-max-age", AMQPValue::LongString(age.into()));
            queue_settings(&table(&[stream.clone(), age])).stream.unwrap().max_age_ms
        };
        assert_eq!(queue_settings(&table(std::slice::from_ref(&stream))).stream.unwrap().max_age_ms, None);
        assert_eq!(age("90s"), Some(90_000));
        assert_eq!(age("2h"), Some(7_200_000));
        assert_eq!(age("1Y"), Some(365 * 86_400_000));
        assert_eq!(age("1M"), Some(30 * 86_400_000));
        assert_eq!(age("99999999999999999999D"), None);
    }

    #[test]
    fn deduplication_has_a_header_a_size_and_perhaps_a_time() {
        let on = ("x-message-deduplication", AMQPValue::Boolean(true));
        let deduplication = |more: &[(&str, AMQPValue)]| {
            let mut entries = vec![on.clone()];
            entries.extend(more.iter().cloned());
            queue_settings(&table(&entries)).deduplication.unwrap()
        };
        let usual = Deduplication { header: "x-deduplication-header".into(), size: 1024, ttl_ms: None };
        assert_eq!(deduplication(&[]), usual);
        let other = deduplication(&[
            ("x-deduplication-header", AMQPValue::LongString("id".into())),
            ("x-cache-size", AMQPValue::LongInt(7)),
            ("x-cache-ttl", AMQPValue::LongInt(8)),
        ]);
        assert_eq!(other, Deduplication { header: "id".into(), size: 7, ttl_ms: Some(8) });
        assert_eq!(
            queue_settings(&table(&[("x-message-deduplication", AMQPValue::Boolean(false))])).deduplication,
            None
        );
    }

    #[test]
    fn what_comes_back_to_a_quorum_queue_rests_if_that_is_asked_for() {
        let rests = |kind: &str, entries: &[(&str, AMQPValue)]| {
            let mut all = vec![("x-queue-type", AMQPValue::LongString(kind.into()))];
            all.extend(entries.iter().cloned());
            queue_settings(&table(&all)).delayed_retry
        };
        let which = |word: &str| ("x-delayed-retry-type", AMQPValue::LongString(word.into()));
        let min = ("x-delayed-retry-min", AMQPValue::LongInt(100));
        let max = ("x-delayed-retry-max", AMQPValue::LongInt(300));
        let retry = |which, max_ms| Some(DelayedRetry { which, min_ms: 100, max_ms });
        assert_eq!(rests("quorum", &[which("all"), min.clone(), max.clone()]), retry(Retried::All, 300));
        assert_eq!(rests("quorum", &[which("failed"), min.clone()]), retry(Retried::Failed, 100));
        assert_eq!(rests("quorum", &[which("returned"), min.clone()]), retry(Retried::Returned, 100));
        assert_eq!(rests("quorum", &[which("disabled"), min.clone(), max.clone()]), None);
        assert_eq!(rests("quorum", &[which("all"), max]), None, "for how long?");
        assert_eq!(rests("classic", &[which("all"), min]), None);
    }

    #[test]
    fn a_quorum_queue_gives_up_after_20_failures_unless_told_otherwise() {
        let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
        let limit = |more: &[(&str, AMQPValue)]| {
            let mut entries = vec![quorum.clone()];
            entries.extend(more.iter().cloned());
            queue_settings(&table(&entries)).delivery_limit
        };
        assert_eq!(limit(&[]), Some(20));
        assert_eq!(limit(&[("x-delivery-limit", AMQPValue::LongInt(-1))]), None);
        assert_eq!(limit(&[("x-delivery-limit", AMQPValue::LongString("many".into()))]), Some(20));
        assert_eq!(limit(&[("x-delivery-limit", AMQPValue::LongInt(0))]), Some(0));
    }
}
