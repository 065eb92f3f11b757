//! The headers table of a message, walked without building it. Knows only shapes.

use crate::frame::DeliveryCounts;
use bytes::{BufMut, Bytes, BytesMut};
use warren_types::table::{self, TableError};
use warren_types::{AMQPValue, FieldTable};

use super::{HEADERS, KINDS, Kind, bit, length_of, split_flags};

/// Checks the entries of a table (without its length), `depth` levels deep at most. Allocates nothing.
pub(super) fn check(entries: &[u8], depth: usize) -> Result<(), TableError> {
    let mut rest = entries;
    while !rest.is_empty() {
        let (key, after) = split_key(rest)?;
        std::str::from_utf8(key).map_err(|_| TableError::KeyNotUtf8)?;
        rest = skip_value(after, depth)?;
    }
    Ok(())
}

fn split_key(rest: &[u8]) -> Result<(&[u8], &[u8]), TableError> {
    let (length, after) = rest.split_first().ok_or(TableError::Truncated)?;
    after.split_at_checked(usize::from(*length)).ok_or(TableError::Truncated)
}

/// Checks the value at the front of `rest` and returns what follows it.
fn skip_value(rest: &[u8], depth: usize) -> Result<&[u8], TableError> {
    let (tag, rest) = rest.split_first().ok_or(TableError::Truncated)?;
    let length = match tag {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' | b'U' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' | b'A' | b'F' => {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(TableError::Truncated)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (inner, after) = after.split_at_checked(length).ok_or(TableError::Truncated)?;
            match tag {
                b'A' | b'F' if depth == 0 => return Err(TableError::TooDeep),
                b'F' => check(inner, depth - 1)?,
                b'A' => {
                    let mut values = inner;
                    while !values.is_empty() {
                        values = skip_value(values, depth - 1)?;
                    }
                }
                _ => {}
            }
            return Ok(after);
        }
        other => return Err(TableError::UnknownTag(*other)),
    };
    rest.get(length..).ok_or(TableError::Truncated)
}

/// The first value of that key.
pub(super) fn find(entries: &[u8], wanted: &str) -> Option<AMQPValue> {
    let mut rest = entries;
    while !rest.is_empty() {
        let (key, after) = split_key(rest).ok()?;
        let next = skip_value(after, table::MAX_DEPTH).ok()?;
        if key == wanted.as_bytes() {
            // As a table of this entry alone.
            let entry = rest.get(..rest.len() - next.len())?;
            let decoded = table::decode_bare(entry).ok()?;
            return decoded.inner().get(wanted).cloned();
        }
        rest = next;
    }
    None
}

/// The properties with `x-acquired-count` and `x-delivery-count` in their headers, as RabbitMQ adds them to what was
/// handed out before.
pub(crate) fn with_counts(properties: &[u8], counts: DeliveryCounts) -> Bytes {
    let mut counted = Bytes::copy_from_slice(properties);
    for (header, count) in [("x-acquired-count", counts.acquired), ("x-delivery-count", counts.failed)] {
        if count > 0 {
            counted = rewrite(&counted, header, Some(&AMQPValue::LongLongInt(count.into())));
        }
    }
    counted
}

/// The properties with every header of that key replaced by one of that value, or removed. What is not well-formed
/// stays as it is.
pub(super) fn rewrite(properties: &[u8], key: &str, value: Option<&AMQPValue>) -> Bytes {
    try_rewrite(properties, key, value).unwrap_or_else(|| Bytes::copy_from_slice(properties))
}

fn try_rewrite(properties: &[u8], key: &str, value: Option<&AMQPValue>) -> Option<Bytes> {
    let (flags, list) = if properties.is_empty() { (0, properties) } else { split_flags(properties)? };
    let mut before = 0;
    for (index, kind) in KINDS.iter().enumerate().take(HEADERS) {
        if flags & bit(index) != 0 {
            before += length_of(*kind, list.get(before..)?)?;
        }
    }
    let (head, rest) = list.split_at_checked(before)?;
    let (old, tail) = if flags & bit(HEADERS) == 0 {
        (&[][..], rest)
    } else {
        let (table, tail) = rest.split_at_checked(length_of(Kind::Table, rest)?)?;
        (table.get(4..)?, tail)
    };
    let mut entries = Vec::with_capacity(old.len() + 32);
    let mut rest = old;
    while !rest.is_empty() {
        let (name, after) = split_key(rest).ok()?;
        let next = skip_value(after, table::MAX_DEPTH).ok()?;
        if name != key.as_bytes() {
            entries.extend_from_slice(rest.get(..rest.len() - next.len())?);
        }
        rest = next;
    }
    if let Some(value) = value {
        let mut one = FieldTable::default();
        one.insert(warren_types::table::ShortString::try_new(key).ok()?, value.clone());
        let mut encoded = Vec::new();
        table::encode(&one, &mut encoded);
        entries.extend_from_slice(encoded.get(4..)?);
    }
    let mut out = BytesMut::with_capacity(2 + head.len() + 4 + entries.len() + tail.len());
    out.put_u16(flags | bit(HEADERS));
    out.put_slice(head);
    out.put_u32(u32::try_from(entries.len()).ok()?);
    out.put_slice(&entries);
    out.put_slice(tail);
    Some(out.freeze())
}
