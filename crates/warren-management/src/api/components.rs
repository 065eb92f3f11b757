//! What parameters of components must look like, whose plugins are not here: who sets a wrong one hears it at once, as from
//! RabbitMQ, and not when it is moved to a broker that has the plugin.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Of what kind a value must be.
#[derive(Clone, Copy)]
enum Must {
    Be(Kind),
    BeOneOf(&'static [&'static str]),
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Truth,
    /// One URI or a list of them.
    Uris,
}

use Kind::{Number, Text, Truth, Uris};
use Must::{Be, BeOneOf};

const ACK_MODES: Must = BeOneOf(&["no-ack", "on-publish", "on-confirm"]);

/// What an upstream may have besides its `uri`, and an upstream of a set besides its name.
const UPSTREAM: &[(&str, Must)] = &[
    ("uri", Be(Uris)),
    ("exchange", Be(Text)),
    ("queue", Be(Text)),
    ("consumer-tag", Be(Text)),
    ("prefetch-count", Be(Number)),
    ("reconnect-delay", Be(Number)),
    ("max-hops", Be(Number)),
    ("expires", Be(Number)),
    ("message-ttl", Be(Number)),
    ("trust-user-id", Be(Truth)),
    ("ack-mode", ACK_MODES),
    ("resource-cleanup-mode", BeOneOf(&["default", "never"])),
    ("queue-type", BeOneOf(&["classic", "quorum"])),
    ("bind-nowait", Be(Truth)),
    ("channel-use-mode", BeOneOf(&["multiple", "single"])),
];

/// What every shovel may have; the rest depends on its protocols.
const SHOVEL: &[(&str, Must)] = &[
    ("src-uri", Be(Uris)),
    ("dest-uri", Be(Uris)),
    ("reconnect-delay", Be(Number)),
    ("ack-mode", ACK_MODES),
    ("src-queue", Be(Text)),
    ("src-exchange", Be(Text)),
    ("dest-queue", Be(Text)),
    ("dest-exchange", Be(Text)),
];

/// Looks at a value of a component.
///
/// # Errors
/// 400 with what is wrong with it, in RabbitMQ's words.
pub(super) fn check(component: &str, name: &str, value: &Value) -> Result<(), ApiError> {
    let wrong = match (component, value) {
        ("federation-upstream", Value::Object(upstream)) => {
            missing("uri", name, upstream).or_else(|| wrong_in(UPSTREAM, upstream))
        }
        ("shovel", Value::Object(shovel)) => missing("src-uri", name, shovel)
            .or_else(|| missing("dest-uri", name, shovel))
            .or_else(|| wrong_in(SHOVEL, shovel)),
        ("federation-upstream-set", Value::Array(set)) => set.iter().find_map(|one| match one {
            Value::Object(one) => missing("upstream", name, one).or_else(|| wrong_in(UPSTREAM, one)),
            other => Some(format!("{name} not a list {other}")),
        }),
        ("federation-upstream" | "shovel" | "federation-upstream-set", other) => {
            Some(format!("{name} not a list {other}"))
        }
        _ => None,
    };
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(ApiError::BadRequest(format!("Validation failed\n\n{wrong}\n"))),
    }
}

fn missing(key: &str, name: &str, object: &Map<String, Value>) -> Option<String> {
    (!object.contains_key(key)).then(|| format!("Key \"{key}\" not found in {name}"))
}

fn wrong_in(known: &[(&str, Must)], object: &Map<String, Value>) -> Option<String> {
    known.iter().find_map(|(key, must)| object.get(*key).and_then(|value| wrong(key, *must, value)))
}

fn wrong(key: &str, must: Must, value: &Value) -> Option<String> {
    let (fits, kind) = match must {
        Be(Text) => (value.is_string(), "binary"),
        Be(Number) => (value.is_number(), "a number"),
        Be(Truth) => (value.is_boolean(), "boolean"),
        Be(Uris) => {
            let list = value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
            (value.is_string() || list, "list")
        }
        BeOneOf(words) => {
            let Some(word) = value.as_str() else {
                return Some(format!("{key} should be binary, actually was {value}"));
            };
            let shown: Vec<String> = words.iter().map(|word| term(word)).collect();
            return (!words.contains(&word)).then(|| {
                format!("{key} should be one of [{}], actually was {}", shown.join(","), term(word))
            });
        }
    };
    let shown = value.as_str().map_or_else(|| value.to_string(), term);
    (!fits).then(|| format!("{key} should be {kind}, actually was {shown}"))
}

/// A text as RabbitMQ writes it in its terms.
fn term(text: &str) -> String {
    format!("<<\"{text}\">>")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn components_values_are_looked_at_as_by_their_plugins() {
        for (component, value, wrong) in [
            ("federation-upstream", json!({ "uri": "amqp://", "expires": 5, "ack-mode": "no-ack" }), ""),
            ("federation-upstream", json!({ "uri": ["amqp://a", "amqp://b"] }), ""),
            ("federation-upstream", json!({ "expires": 5 }), "Key \"uri\" not found in n"),
            (
                "federation-upstream",
                json!({ "uri": "amqp://", "expires": "5" }),
                "expires should be a number, actually was <<\"5\">>",
            ),
            (
                "federation-upstream",
                json!({ "uri": "amqp://", "ack-mode": "x" }),
                "ack-mode should be one of [<<\"no-ack\">>,<<\"on-publish\">>,<<\"on-confirm\">>], actually was \
                 <<\"x\">>",
            ),
            ("federation-upstream", json!(5), "n not a list 5"),
            ("federation-upstream-set", json!([{ "upstream": "u" }]), ""),
            ("federation-upstream-set", json!([{}]), "Key \"upstream\" not found in n"),
            ("shovel", json!({ "src-uri": "amqp://", "dest-uri": "amqp://", "src-queue": "q" }), ""),
            ("shovel", json!({ "src-uri": "amqp://" }), "Key \"dest-uri\" not found in n"),
        ] {
            let expected = match wrong {
                "" => Ok(()),
                wrong => Err(ApiError::BadRequest(format!("Validation failed\n\n{wrong}\n"))),
            };
            assert_eq!(check(component, "n", &value), expected, "{component} {value}");
        }
    }
}
