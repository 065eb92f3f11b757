//! Routing as one would explain it: every binding is looked at.

use std::collections::BTreeSet;

use warren_catalogue::{BindingRecord, Catalogue, Destination, ExchangeKind};
use warren_types::{AMQPValue, FieldTable};

/// Does the pattern match the key?
pub(crate) fn topic(pattern: &str, key: &str) -> bool {
    let words = |key: &str| -> Vec<String> {
        if key.is_empty() { Vec::new() } else { key.split('.').map(str::to_owned).collect() }
    };
    let (pattern, key) = (words(pattern), words(key));
    // `table[i][j]`: the first i words of the pattern match the first j of the key.
    let mut table = vec![vec![false; key.len() + 1]; pattern.len() + 1];
    table[0][0] = true;
    for i in 1..=pattern.len() {
        for j in 0..=key.len() {
            table[i][j] = match pattern[i - 1].as_str() {
                "#" => table[i - 1][j] || (j > 0 && table[i][j - 1]),
                "*" => j > 0 && table[i - 1][j - 1],
                word => j > 0 && table[i - 1][j - 1] && key[j - 1] == word,
            };
        }
    }
    table[pattern.len()][key.len()]
}

// Of the values that the tests use: integers of any width are alike.
fn plain(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongInt(v) => format!("integer {v}"),
        AMQPValue::LongLongInt(v) => format!("integer {v}"),
        other => format!("{other:?}"),
    }
}

fn headers(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let get = |table: &FieldTable, key: &str| table.inner().get(key).cloned();
    let mode = match get(arguments, "x-match") {
        Some(AMQPValue::LongString(mode)) => String::from_utf8(mode.as_bytes().to_vec()).unwrap(),
        _ => "all".to_owned(),
    };
    let mut wanted = 0;
    let mut held = 0;
    for (key, value) in arguments {
        if key.as_str() == "x-match" || (key.as_str().starts_with("x-") && !mode.ends_with("-with-x")) {
            continue;
        }
        wanted += 1;
        if let Some(found) = get(headers, key.as_str())
            && (*value == AMQPValue::Void || plain(value) == plain(&found))
        {
            held += 1;
        }
    }
    if mode.starts_with("all") { held == wanted } else { held > 0 }
}

fn matches(kind: ExchangeKind, binding: &BindingRecord, keys: &[&str], table: &FieldTable) -> bool {
    match kind {
        ExchangeKind::Direct => keys.contains(&binding.routing_key.as_str()),
        ExchangeKind::Fanout | ExchangeKind::RecentHistory => true,
        ExchangeKind::Topic => keys.iter().any(|key| topic(&binding.routing_key, key)),
        ExchangeKind::Headers => headers(&binding.arguments, table),
        // One of them: whoever compares asks `chooses`.
        ExchangeKind::ConsistentHash
        | ExchangeKind::ModulusHash
        | ExchangeKind::Random
        | ExchangeKind::LocalRandom => true,
        // It routes as another type, which `routing` tests.
        ExchangeKind::DelayedMessage => false,
    }
}

/// Whether any exchange of the virtual host `/` sends a message to one of its destinations only: then what [`route`]
/// finds is where it may go.
#[allow(dead_code, reason = "not every suite has such exchanges")]
pub(crate) fn chooses(catalogue: &Catalogue) -> bool {
    catalogue.exchanges("/").any(|exchange| match exchange.kind {
        ExchangeKind::Direct
        | ExchangeKind::Fanout
        | ExchangeKind::Topic
        | ExchangeKind::Headers
        | ExchangeKind::RecentHistory
        | ExchangeKind::DelayedMessage => false,
        ExchangeKind::ConsistentHash
        | ExchangeKind::ModulusHash
        | ExchangeKind::Random
        | ExchangeKind::LocalRandom => true,
    })
}

/// The names of the queues in the virtual host `/` that a message goes to, in order.
pub(crate) fn route(catalogue: &Catalogue, start: &str, keys: &[&str], headers: &FieldTable) -> Vec<String> {
    let bindings: Vec<BindingRecord> = catalogue.bindings("/").collect();
    let mut queues = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut next = vec![start.to_owned()];
    while let Some(name) = next.pop() {
        if name.is_empty() {
            queues.extend(
                keys.iter().filter(|key| catalogue.queue("/", key).is_some()).map(|key| (*key).to_owned()),
            );
            continue;
        }
        let Some(exchange) = catalogue.exchange("/", &name) else { continue };
        if !seen.insert(name.clone()) {
            continue;
        }
        let mut matched = false;
        for binding in bindings.iter().filter(|binding| binding.source == name) {
            if matches(exchange.kind, binding, keys, headers) {
                matched = true;
                match &binding.destination {
                    Destination::Queue(name) => drop(queues.insert(name.clone())),
                    Destination::Exchange(name) => next.push(name.clone()),
                }
            }
        }
        if !matched
            && let Some(AMQPValue::LongString(name)) = exchange.arguments.inner().get("alternate-exchange")
        {
            next.push(String::from_utf8(name.as_bytes().to_vec()).unwrap());
        }
    }
    queues.into_iter().collect()
}
