//! What dead-lettering changes on a message: `x-death` and its companions, exchange, routing key, expiration. Pure; knows no
//! queue but by name.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use warren_types::table::{self, ShortString};
use warren_types::{AMQPValue, FieldTable, Message, ShortStr};

use super::{EXPIRATION, HEADERS, KINDS, Properties, bit, length_of, split_flags};

/// Entries kept in `x-death`; a message that has died in more places forgets the oldest.
const DEATHS_MAX: usize = 256;

/// One death, and where the message goes.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// The queue that the message left.
    pub queue: &'a str,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: &'a str,
    /// Seconds since 1970.
    pub time: u64,
    /// The dead-letter exchange.
    pub exchange: &'a ShortStr,
    /// The dead-letter routing key; without one the message keeps its own, and those of `CC`.
    pub routing_key: Option<&'a ShortStr>,
}

/// A message ready for its dead-letter exchange.
#[derive(Clone, Debug)]
pub struct DeadMessage {
    /// The message, changed.
    pub message: Message,
    /// Routing keys besides its own.
    pub extra_keys: Vec<String>,
    /// Queue and whether it was rejected there; the latest death first.
    deaths: Vec<(Vec<u8>, bool)>,
    rejected: bool,
}

impl DeadMessage {
    /// Whether going to this queue would only turn it round in a circle: it has died there before, and nobody has rejected
    /// it since. A message that was rejected this time goes anywhere.
    #[must_use]
    pub fn would_cycle(&self, queue: &str) -> bool {
        if self.rejected {
            return false;
        }
        for (of, rejected) in &self.deaths {
            if *rejected {
                return false;
            }
            if of == queue.as_bytes() {
                return true;
            }
        }
        false
    }
}

/// The message as its dead-letter exchange gets it. Headers that are not well-formed are replaced.
#[must_use]
pub fn dead_letter(message: &Message, death: &Death<'_>) -> DeadMessage {
    let properties = Properties::new(&message.properties);
    let mut headers = properties.headers().unwrap_or_default().inner().clone();
    let mut keys: Vec<AMQPValue> = vec![text(message.routing_key.as_str())];
    let carbon_copies = strings(headers.get("CC"));
    keys.extend(carbon_copies.iter().map(|key| text(key)));

    let mut deaths = match headers.get("x-death") {
        Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().to_vec(),
        Some(_) | None => Vec::new(),
    };
    let same = |entry: &AMQPValue| is(entry, "queue", death.queue) && is(entry, "reason", death.reason);
    let entry = match deaths.iter().position(same) {
        Some(at) => counted(deaths.remove(at)),
        None => {
            let mut entry = BTreeMap::new();
            put(&mut entry, "count", AMQPValue::LongLongInt(1));
            put(&mut entry, "reason", text(death.reason));
            put(&mut entry, "queue", text(death.queue));
            put(&mut entry, "time", AMQPValue::Timestamp(death.time));
            put(&mut entry, "exchange", text(message.exchange.as_str()));
            put(&mut entry, "routing-keys", AMQPValue::FieldArray(keys.into()));
            if let Some(expiration) = properties.expiration() {
                put(&mut entry, "original-expiration", text(expiration));
            }
            AMQPValue::FieldTable(entry.into())
        }
    };
    deaths.insert(0, entry);
    deaths.truncate(DEATHS_MAX);
    let history =
        deaths.iter().filter_map(|entry| Some((bytes_of(entry, "queue")?, is(entry, "reason", "rejected"))));
    let history = history.collect();
    put(&mut headers, "x-death", AMQPValue::FieldArray(deaths.into()));

    let event = [("queue", death.queue), ("reason", death.reason), ("exchange", message.exchange.as_str())];
    let first = !headers.contains_key("x-first-death-reason");
    for (what, value) in event {
        if first {
            put(&mut headers, &format!("x-first-death-{what}"), text(value));
        }
        put(&mut headers, &format!("x-last-death-{what}"), text(value));
    }
    let (routing_key, extra_keys) = match death.routing_key {
        Some(key) => {
            // They would add routes again at the next death.
            headers.remove("CC");
            (key.clone(), Vec::new())
        }
        None => (message.routing_key.clone(), carbon_copies),
    };
    let message = Message {
        exchange: death.exchange.clone(),
        routing_key,
        properties: rebuilt(&message.properties, &headers.into()),
        body: message.body.clone(),
    };
    DeadMessage { message, extra_keys, deaths: history, rejected: death.reason == "rejected" }
}

/// The properties with these headers and no expiration.
fn rebuilt(properties: &[u8], headers: &FieldTable) -> Bytes {
    let (flags, mut rest) = split_flags(properties).unwrap_or_default();
    let mut torn = false;
    let mut kept = bit(HEADERS);
    let mut list = Vec::with_capacity(properties.len() + 256);
    for (index, kind) in KINDS.iter().enumerate() {
        let value = if flags & bit(index) == 0 || torn {
            None
        } else {
            let split = length_of(*kind, rest).and_then(|length| rest.split_at_checked(length));
            // Torn properties were never let in; if they come all the same, the rest is left out.
            torn = split.is_none();
            split.map(|(value, after)| {
                rest = after;
                value
            })
        };
        if index == HEADERS {
            table::encode(headers, &mut list);
        } else if let Some(value) = value
            && index != EXPIRATION
        {
            kept |= bit(index);
            list.extend_from_slice(value);
        }
    }
    let mut out = BytesMut::with_capacity(2 + list.len());
    out.put_u16(kept);
    out.put_slice(&list);
    out.freeze()
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn put(table: &mut BTreeMap<ShortString, AMQPValue>, key: &str, value: AMQPValue) {
    if let Ok(key) = ShortString::try_new(key) {
        table.insert(key, value);
    }
}

fn strings(value: Option<&AMQPValue>) -> Vec<String> {
    let Some(AMQPValue::FieldArray(values)) = value else { return Vec::new() };
    let string = |value: &AMQPValue| match value {
        AMQPValue::LongString(key) => String::from_utf8(key.as_bytes().to_vec()).ok(),
        _ => None,
    };
    values.as_slice().iter().filter_map(string).collect()
}

fn bytes_of(entry: &AMQPValue, key: &str) -> Option<Vec<u8>> {
    match entry {
        AMQPValue::FieldTable(entry) => match entry.inner().get(key)? {
            AMQPValue::LongString(value) => Some(value.as_bytes().to_vec()),
            _ => None,
        },
        _ => None,
    }
}

fn is(entry: &AMQPValue, key: &str, wanted: &str) -> bool {
    bytes_of(entry, key).is_some_and(|value| value == wanted.as_bytes())
}

/// The entry, once more.
fn counted(entry: AMQPValue) -> AMQPValue {
    let AMQPValue::FieldTable(entry) = entry else { return entry };
    let count = match entry.inner().get("count") {
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(AMQPValue::LongInt(count)) => i64::from(*count),
        Some(_) | None => 0,
    };
    let mut entry = entry.inner().clone();
    put(&mut entry, "count", AMQPValue::LongLongInt(count.saturating_add(1)));
    AMQPValue::FieldTable(entry.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::{PropertiesBuilder, check};

    fn short(text: &str) -> ShortStr {
        ShortStr::try_from(text).unwrap()
    }

    fn message(builder: &PropertiesBuilder) -> Message {
        Message {
            exchange: short("orders"),
            routing_key: short("eu"),
            properties: builder.build(),
            body: Bytes::from_static(b"m"),
        }
    }

    fn die(message: &Message, queue: &str, reason: &str, key: Option<&ShortStr>) -> DeadMessage {
        let dlx = short("dlx");
        let dead = dead_letter(message, &Death { queue, reason, time: 7, exchange: &dlx, routing_key: key });
        check(&dead.message.properties).unwrap();
        dead
    }

    fn deaths(message: &Message) -> Vec<FieldTable> {
        let Some(AMQPValue::FieldArray(deaths)) = Properties::new(&message.properties).header("x-death")
        else {
            panic!("no x-death")
        };
        deaths.as_slice().iter().map(|entry| entry.as_field_table().unwrap().clone()).collect()
    }

    fn header(message: &Message, key: &str) -> Option<AMQPValue> {
        Properties::new(&message.properties).header(key)
    }

    #[test]
    fn the_first_death_tells_where_the_message_came_from() {
        let builder = PropertiesBuilder {
            expiration: Some(short("100")),
            delivery_mode: Some(2),
            message_id: Some(short("id")),
            ..PropertiesBuilder::default()
        };
        let dead = die(&message(&builder), "q", "expired", None);
        assert_eq!((dead.message.exchange.as_str(), dead.message.routing_key.as_str()), ("dlx", "eu"));
        let properties = Properties::new(&dead.message.properties);
        assert_eq!((properties.expiration(), properties.delivery_mode()), (None, Some(2)));
        assert_eq!(properties.message_id(), Some("id"));
        let entries = deaths(&dead.message);
        let entry = entries[0].inner();
        assert_eq!(entries.len(), 1);
        assert_eq!(entry.get("count"), Some(&AMQPValue::LongLongInt(1)));
        assert_eq!(entry.get("queue"), Some(&text("q")));
        assert_eq!(entry.get("reason"), Some(&text("expired")));
        assert_eq!(entry.get("time"), Some(&AMQPValue::Timestamp(7)));
        assert_eq!(entry.get("exchange"), Some(&text("orders")));
        assert_eq!(entry.get("routing-keys"), Some(&AMQPValue::FieldArray(vec![text("eu")].into())));
        assert_eq!(entry.get("original-expiration"), Some(&text("100")));
        assert_eq!(header(&dead.message, "x-first-death-exchange"), Some(text("orders")));
        assert_eq!(header(&dead.message, "x-last-death-queue"), Some(text("q")));
    }

    #[test]
    fn a_repeated_death_is_counted_and_comes_first() {
        let first = die(&message(&PropertiesBuilder::default()), "q", "expired", None).message;
        let second = die(&first, "other", "rejected", None).message;
        let third = die(&second, "q", "expired", None).message;
        let entries = deaths(&third);
        let shown: Vec<_> =
            entries.iter().map(|entry| (entry.inner().get("queue"), entry.inner().get("count"))).collect();
        let (two, one) = (AMQPValue::LongLongInt(2), AMQPValue::LongLongInt(1));
        assert_eq!(shown, [(Some(&text("q")), Some(&two)), (Some(&text("other")), Some(&one))]);
        assert_eq!(header(&third, "x-first-death-queue"), Some(text("q")));
        assert_eq!(header(&second, "x-last-death-queue"), Some(text("other")));
        assert_eq!(header(&second, "x-last-death-exchange"), Some(text("dlx")));
    }

    #[test]
    fn copies_route_again_unless_a_key_is_given() {
        let mut headers = BTreeMap::new();
        put(&mut headers, "CC", AMQPValue::FieldArray(vec![text("a"), text("b")].into()));
        let builder = PropertiesBuilder { headers: Some(headers.into()), ..PropertiesBuilder::default() };
        let kept = die(&message(&builder), "q", "rejected", None);
        assert_eq!(kept.extra_keys, ["a", "b"]);
        let keys = AMQPValue::FieldArray(vec![text("eu"), text("a"), text("b")].into());
        assert_eq!(deaths(&kept.message)[0].inner().get("routing-keys"), Some(&keys));
        let key = short("dead");
        let replaced = die(&message(&builder), "q", "rejected", Some(&key));
        assert_eq!((replaced.message.routing_key.as_str(), replaced.extra_keys.len()), ("dead", 0));
        assert_eq!(header(&replaced.message, "CC"), None);
    }

    #[test]
    fn a_circle_ends_unless_somebody_rejected_the_message_in_it() {
        let first = die(&message(&PropertiesBuilder::default()), "a", "expired", None);
        assert!(first.would_cycle("a"));
        assert!(!first.would_cycle("b"));
        let second = die(&first.message, "b", "maxlen", None);
        assert!(second.would_cycle("a") && second.would_cycle("b"));
        let rejected = die(&second.message, "c", "rejected", None);
        assert!(!rejected.would_cycle("a"));
        let after = die(&rejected.message, "d", "expired", None);
        assert!(after.would_cycle("d") && !after.would_cycle("a"));
    }

    #[test]
    fn hostile_headers_are_survived() {
        let mut headers = BTreeMap::new();
        put(&mut headers, "x-death", AMQPValue::FieldArray(vec![text("no table"), AMQPValue::Void].into()));
        put(&mut headers, "CC", AMQPValue::LongInt(1));
        let builder = PropertiesBuilder { headers: Some(headers.into()), ..PropertiesBuilder::default() };
        let dead = die(&message(&builder), "q", "expired", None);
        assert!(dead.would_cycle("q"));
        let torn = Message { properties: Bytes::from_static(&[0x20, 0, 0xff]), ..Message::default() };
        let dlx = short("dlx");
        let death = Death { queue: "q", reason: "expired", time: 0, exchange: &dlx, routing_key: None };
        check(&dead_letter(&torn, &death).message.properties).unwrap();
    }
}
