//! What a queue reads from a message's properties (0-9-1 §4.2.6.1) without decoding them. Malformed ones read as if the
//! rest were absent; publishes were checked at their home.

use bytes::Bytes;
use warren_types::{AMQPValue, table};

/// Bits of the property flags, in the order of the list.
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;

/// The `expiration`, in milliseconds. Most messages have none: that costs a look at two bytes.
pub(crate) fn expiration_ms(properties: &Bytes) -> Option<u64> {
    let value = find(properties, EXPIRATION)?;
    let (length, rest) = value.split_first()?;
    std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?.trim_start_matches('+').parse().ok()
}

/// The `priority`.
pub(crate) fn priority(properties: &Bytes) -> Option<u8> {
    find(properties, PRIORITY)?.first().copied()
}

/// A header that is an integer of any width. Decodes all of them.
pub(crate) fn integer_header(properties: &Bytes, key: &str) -> Option<i64> {
    match header(properties, key)? {
        AMQPValue::ShortShortInt(v) => Some(v.into()),
        AMQPValue::ShortShortUInt(v) => Some(v.into()),
        AMQPValue::ShortInt(v) => Some(v.into()),
        AMQPValue::ShortUInt(v) => Some(v.into()),
        AMQPValue::LongInt(v) => Some(v.into()),
        AMQPValue::LongUInt(v) => Some(v.into()),
        AMQPValue::LongLongInt(v) => Some(v),
        AMQPValue::Boolean(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::ShortString(_)
        | AMQPValue::LongString(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::Timestamp(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}

/// A header. Decodes all of them.
pub(crate) fn header(properties: &Bytes, key: &str) -> Option<AMQPValue> {
    let (table, _) = table::decode_prefix(find(properties, HEADERS)?).ok()?;
    table.inner().get(key).cloned()
}

/// The list from a property's value on, if it is there.
fn find(properties: &Bytes, wanted: u16) -> Option<&[u8]> {
    let (flags, mut rest) = properties.split_first_chunk::<2>()?;
    let flags = u16::from_be_bytes(*flags);
    if flags & wanted == 0 {
        return None;
    }
    let before = [CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE, PRIORITY, CORRELATION_ID, REPLY_TO];
    for bit in before.into_iter().take_while(|bit| *bit != wanted).filter(|bit| flags & bit != 0) {
        let length = match bit {
            HEADERS => usize::try_from(u32::from_be_bytes(*rest.first_chunk::<4>()?)).ok()?.checked_add(4)?,
            DELIVERY_MODE | PRIORITY => 1,
            _ => usize::from(*rest.first()?) + 1,
        };
        rest = rest.get(length..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiration_is_found_behind_everything_that_may_come_before_it() {
        let mut list = Vec::new();
        list.extend(b"\x02ab");
        list.extend(b"\x00");
        list.extend([0, 0, 0, 3, 1, b'k', b'V']);
        list.extend([2, 9]);
        list.extend(b"\x01c\x01r");
        list.extend(b"\x0460000");
        let full = [&[0xff, 0][..], &list].concat();
        // The length says 4: only those digits belong to it.
        let full = Bytes::from(full);
        assert_eq!(expiration_ms(&full), Some(6000));
        assert_eq!(priority(&full), Some(9));
        assert_eq!(priority(&[&PRIORITY.to_be_bytes()[..], b"\x07"].concat().into()), Some(7));
        let alone = [&EXPIRATION.to_be_bytes()[..], b"\x03100"].concat();
        assert_eq!(expiration_ms(&alone.into()), Some(100));
    }

    #[test]
    fn absent_or_torn_it_is_none() {
        for bytes in [
            &b""[..],
            &[0, 0],
            &[1, 0],
            &[1, 0, 5, b'1'],
            &[0x21, 0, 0xff, 0xff, 0xff, 0xff],
            &[1, 0, 1, b'x'],
        ] {
            assert_eq!(expiration_ms(&Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
            assert_eq!(priority(&Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }
}
