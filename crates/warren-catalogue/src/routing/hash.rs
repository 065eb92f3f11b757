//! `x-consistent-hash`: each message to one destination, chosen by a hash of its routing key, of a header or of a
//! property, in proportion to the destinations' weights (RabbitMQ's plugin of that name; the binding key is the weight).
//!
//! The choice is by weighted rendezvous: every destination draws a number from the message's hash and its own identity,
//! and the best one wins. What comes or goes moves only its own share, in whatever order it was bound: that order is not
//! in a snapshot, and all nodes must choose alike. Integers only, for the same reason.

use std::collections::BTreeMap;

use warren_types::{AMQPValue, AmqpError, FieldTable, ReplyCode};

use super::{HashedProperty, Target};
use crate::arguments::{bytes, plain, term};
use crate::names::refuse;
use crate::topology::BindingKey;

const HASH_HEADER: &str = "hash-header";
const HASH_PROPERTY: &str = "hash-property";
const WEIGHT_MAX: i64 = 10_000;

/// The same number for the same parts on every node and in every version: FNV-1a, then stirred.
pub(super) fn stable_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // Where a part ends matters: `a`, `b` is not `ab`.
        hash = (hash ^ 0x1ff).wrapping_mul(0x0100_0000_01b3);
    }
    stir(hash)
}

// Every bit of the number changes about half of the result's (the finalizer of SplitMix64).
fn stir(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum HashOn {
    #[default]
    RoutingKeys,
    Header(String),
    Property(HashedProperty),
}

impl HashOn {
    /// # Errors
    /// 406 `hash-header and hash-property are mutually exclusive`, `Unsupported property: …`.
    pub(super) fn parse(arguments: &FieldTable) -> Result<Self, AmqpError> {
        let invalid = |text: String| Err(refuse(ReplyCode::PreconditionFailed, text));
        match (arguments.inner().get(HASH_HEADER), arguments.inner().get(HASH_PROPERTY)) {
            (None, None) => Ok(Self::RoutingKeys),
            (Some(_), Some(_)) => invalid("hash-header and hash-property are mutually exclusive".to_owned()),
            (Some(header), None) => Ok(Self::Header(plain(header))),
            (None, Some(property)) => match bytes(property) {
                Some(b"message_id") => Ok(Self::Property(HashedProperty::MessageId)),
                Some(b"correlation_id") => Ok(Self::Property(HashedProperty::CorrelationId)),
                Some(b"timestamp") => Ok(Self::Property(HashedProperty::Timestamp)),
                Some(_) | None => invalid(format!("Unsupported property: {}", plain(property))),
            },
        }
    }

    /// The hash of a header's value; without one all messages are alike.
    pub(super) fn of_header(value: Option<&AMQPValue>) -> u64 {
        match value {
            Some(value) => stable_hash([b"value".as_slice(), plain(value).as_bytes()]),
            None => stable_hash([b"undefined".as_slice()]),
        }
    }

    /// As [`Self::of_header`], of a property.
    pub(super) fn of_property(value: Option<&[u8]>) -> u64 {
        match value {
            Some(value) => stable_hash([b"value".as_slice(), value]),
            None => stable_hash([b"undefined".as_slice()]),
        }
    }
}

/// The destinations of an exchange with their weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsistentHash {
    pub(super) on: HashOn,
    targets: BTreeMap<Target, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    identity: u64,
    /// Of several bindings to one destination the lightest counts, whichever came first.
    weights: BTreeMap<u32, u32>,
}

impl ConsistentHash {
    pub(super) fn new(arguments: &FieldTable) -> Self {
        // What was declared is valid.
        Self { on: HashOn::parse(arguments).unwrap_or_default(), targets: BTreeMap::new() }
    }

    /// # Errors
    /// 406 for a binding key that is no weight from 1 to 10,000.
    pub(super) fn insert(&mut self, key: &BindingKey) -> Result<(), AmqpError> {
        let weight = weight(&key.routing_key)?;
        let entry = self
            .targets
            .entry(key.target.clone())
            .or_insert_with(|| Entry { identity: identity(&key.target), weights: BTreeMap::new() });
        *entry.weights.entry(weight).or_default() += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &BindingKey) {
        let (Ok(weight), Some(entry)) = (weight(&key.routing_key), self.targets.get_mut(&key.target)) else {
            return;
        };
        if let Some(count) = entry.weights.get_mut(&weight) {
            *count -= 1;
            if *count == 0 {
                entry.weights.remove(&weight);
            }
        }
        if entry.weights.is_empty() {
            self.targets.remove(&key.target);
        }
    }

    pub(super) fn pick(&self, hash: u64) -> Option<&Target> {
        let mut best: Option<(&Target, u64, u64)> = None;
        for (target, entry) in &self.targets {
            let weight = entry.weights.keys().next().copied().map_or(1, u64::from);
            let cost = cost(stir(hash ^ entry.identity));
            // cost / weight, compared without dividing; below 2^38 times 10,000.
            if best.is_none_or(|(_, other, weight_of_other)| cost * weight_of_other < other * weight) {
                best = Some((target, cost, weight));
            }
        }
        best.map(|(target, ..)| target)
    }
}

fn weight(key: &str) -> Result<u32, AmqpError> {
    let invalid = |text: String| Err(refuse(ReplyCode::PreconditionFailed, text));
    match key.parse::<i64>() {
        Err(_) => {
            let key = term(&AMQPValue::LongString(key.into()));
            invalid(format!("The binding key must be an integer: {key}"))
        }
        Ok(..=0) => invalid("The binding key must be greater than 0".to_owned()),
        Ok(weight) if weight > WEIGHT_MAX => invalid(format!("The binding key must not exceed {WEIGHT_MAX}")),
        Ok(weight) => Ok(u32::try_from(weight).unwrap_or(1)),
    }
}

fn identity(target: &Target) -> u64 {
    match target {
        Target::Queue(queue) => stable_hash([b"queue".as_slice(), &queue.0.to_be_bytes()]),
        Target::Exchange(name) => stable_hash([b"exchange".as_slice(), name.as_bytes()]),
    }
}

// The negative logarithm, to base 2, of the number as a fraction of 2^64; with 32 binary places. For a uniform number it is
// distributed exponentially, and the least of such costs, each divided by its weight, is each one's in proportion to
// its weight.
fn cost(number: u64) -> u64 {
    let number = number | 1;
    let shift = number.leading_zeros();
    let whole = u64::from(63 - shift);
    // Between 1 and 2, with 31 binary places: each squaring gives one place of the logarithm.
    let mut mantissa = (number << shift) >> 32;
    let mut places = 0_u64;
    for bit in (8..32).rev() {
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            places |= 1 << bit;
        }
    }
    (64 << 32) - ((whole << 32) | places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_the_negative_logarithm() {
        for (number, expected) in
            [(1_u64 << 63, 1.0_f64), (1 << 62, 2.0), (3 << 62, 0.415_037), (1, 64.0), (u64::MAX, 0.0)]
        {
            #[allow(clippy::cast_precision_loss, reason = "a test of a rounded number")]
            let found = cost(number) as f64 / (1_u64 << 32) as f64;
            assert!((found - expected).abs() < 1e-5, "{number}: {found}");
        }
    }

    #[test]
    fn hashes_never_change() {
        // All nodes, whatever their version, must send a key to the same queue.
        assert_eq!(stable_hash([b"a".as_slice()]), 0x2c45_9687_a86e_4e45);
        assert_ne!(stable_hash([b"ab".as_slice()]), stable_hash([b"a".as_slice(), b"b"]));
    }
}
