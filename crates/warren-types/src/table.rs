//! Field tables on the wire (0-9-1 §4.2.5.5, in RabbitMQ's dialect of type tags), bounded against hostile input.

use std::collections::BTreeMap;

pub use amq_protocol_types::{
    AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString,
};

/// Deepest nesting of tables and arrays that is read. Clients nest two or three deep; without a bound a hostile
/// table overflows the stack.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are not a field table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The bytes end inside a value.
    #[error("the field table ends inside a value")]
    Truncated,
    /// A tag that RabbitMQ's dialect does not have.
    #[error("unknown field table type tag {0:#04x}")]
    UnknownTag(u8),
    /// A key that is not UTF-8.
    #[error("a field table key is not UTF-8")]
    KeyNotUtf8,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("field tables nested more than 64 deep")]
    TooDeep,
    /// Bytes are left over after the table.
    #[error("bytes follow the field table")]
    TrailingBytes,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], TableError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(TableError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TableError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(TableError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn long(&mut self) -> Result<&'a [u8], TableError> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        self.take(length)
    }

    fn entries(&mut self, depth: usize) -> Result<FieldTable, TableError> {
        let mut entries = BTreeMap::new();
        while !self.0.is_empty() {
            let [length] = self.array()?;
            let key = std::str::from_utf8(self.take(length.into())?).map_err(|_| TableError::KeyNotUtf8)?;
            let key = ShortString::try_new(key).map_err(|_| TableError::Truncated)?;
            let value = self.value(depth)?;
            // RabbitMQ keeps duplicates and looks up the first.
            entries.entry(key).or_insert(value);
        }
        Ok(FieldTable::from(entries))
    }

    fn value(&mut self, depth: usize) -> Result<AMQPValue, TableError> {
        let [tag] = self.array()?;
        Ok(match tag {
            b't' => AMQPValue::Boolean(self.array::<1>()? != [0]),
            b'b' => AMQPValue::ShortShortInt(i8::from_be_bytes(self.array()?)),
            b'B' => AMQPValue::ShortShortUInt(u8::from_be_bytes(self.array()?)),
            b's' | b'U' => AMQPValue::ShortInt(i16::from_be_bytes(self.array()?)),
            b'u' => AMQPValue::ShortUInt(u16::from_be_bytes(self.array()?)),
            b'I' => AMQPValue::LongInt(i32::from_be_bytes(self.array()?)),
            b'i' => AMQPValue::LongUInt(u32::from_be_bytes(self.array()?)),
            b'l' | b'L' => AMQPValue::LongLongInt(i64::from_be_bytes(self.array()?)),
            b'f' => AMQPValue::Float(f32::from_be_bytes(self.array()?)),
            b'd' => AMQPValue::Double(f64::from_be_bytes(self.array()?)),
            b'D' => {
                let [scale] = self.array()?;
                AMQPValue::DecimalValue(DecimalValue { scale, value: u32::from_be_bytes(self.array()?) })
            }
            b'S' => AMQPValue::LongString(LongString::from(self.long()?)),
            b'x' => AMQPValue::ByteArray(ByteArray::from(self.long()?.to_vec())),
            b'T' => AMQPValue::Timestamp(u64::from_be_bytes(self.array()?)),
            b'V' => AMQPValue::Void,
            b'A' | b'F' if depth >= MAX_DEPTH => return Err(TableError::TooDeep),
            b'A' => {
                let mut inner = Reader(self.long()?);
                let mut values = Vec::new();
                while !inner.0.is_empty() {
                    values.push(inner.value(depth + 1)?);
                }
                AMQPValue::FieldArray(FieldArray::from(values))
            }
            b'F' => AMQPValue::FieldTable(Reader(self.long()?).entries(depth + 1)?),
            other => return Err(TableError::UnknownTag(other)),
        })
    }
}

/// Reads a table with its 4-byte length in front; nothing may follow it.
///
/// # Errors
/// [`TableError`]; the connection it came from gets 502.
pub fn decode(bytes: &[u8]) -> Result<FieldTable, TableError> {
    let (table, rest) = decode_prefix(bytes)?;
    if rest.is_empty() { Ok(table) } else { Err(TableError::TrailingBytes) }
}

/// Reads a table with its 4-byte length in front and returns what follows it.
///
/// # Errors
/// As [`decode`], but trailing bytes are fine.
pub fn decode_prefix(bytes: &[u8]) -> Result<(FieldTable, &[u8]), TableError> {
    let mut reader = Reader(bytes);
    let table = Reader(reader.long()?).entries(0)?;
    Ok((table, reader.0))
}

/// Reads a table without a length in front, as AMQPLAIN's response has it.
///
/// # Errors
/// As [`decode`].
pub fn decode_bare(bytes: &[u8]) -> Result<FieldTable, TableError> {
    Reader(bytes).entries(0)
}

/// Appends the table with its 4-byte length in front. Tables over 4 GiB do not occur: they come from frames.
pub fn encode(table: &FieldTable, out: &mut Vec<u8>) {
    with_length(out, |out| {
        for (key, value) in table {
            let key = key.as_str().as_bytes();
            out.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(key);
            encode_value(value, out);
        }
    });
}

fn with_length(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(prefix) = out.get_mut(start..start + 4) {
        prefix.copy_from_slice(&length.to_be_bytes());
    }
}

fn encode_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    with_length(out, |out| out.extend_from_slice(bytes));
}

fn encode_fixed<const N: usize>(tag: u8, bytes: [u8; N], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn encode_value(value: &AMQPValue, out: &mut Vec<u8>) {
    match value {
        AMQPValue::Boolean(v) => encode_fixed(b't', [u8::from(*v)], out),
        AMQPValue::ShortShortInt(v) => encode_fixed(b'b', v.to_be_bytes(), out),
        AMQPValue::ShortShortUInt(v) => encode_fixed(b'B', v.to_be_bytes(), out),
        AMQPValue::ShortInt(v) => encode_fixed(b's', v.to_be_bytes(), out),
        AMQPValue::ShortUInt(v) => encode_fixed(b'u', v.to_be_bytes(), out),
        AMQPValue::LongInt(v) => encode_fixed(b'I', v.to_be_bytes(), out),
        AMQPValue::LongUInt(v) => encode_fixed(b'i', v.to_be_bytes(), out),
        AMQPValue::LongLongInt(v) => encode_fixed(b'l', v.to_be_bytes(), out),
        AMQPValue::Float(v) => encode_fixed(b'f', v.to_be_bytes(), out),
        AMQPValue::Double(v) => encode_fixed(b'd', v.to_be_bytes(), out),
        AMQPValue::DecimalValue(v) => {
            encode_fixed(b'D', [v.scale], out);
            out.extend_from_slice(&v.value.to_be_bytes());
        }
        // RabbitMQ's dialect has no short strings in tables.
        AMQPValue::ShortString(v) => encode_bytes(b'S', v.as_str().as_bytes(), out),
        AMQPValue::LongString(v) => encode_bytes(b'S', v.as_bytes(), out),
        AMQPValue::ByteArray(v) => encode_bytes(b'x', v.as_slice(), out),
        AMQPValue::Timestamp(v) => encode_fixed(b'T', v.to_be_bytes(), out),
        AMQPValue::Void => out.push(b'V'),
        AMQPValue::FieldArray(values) => {
            out.push(b'A');
            with_length(out, |out| values.as_slice().iter().for_each(|value| encode_value(value, out)));
        }
        AMQPValue::FieldTable(table) => {
            out.push(b'F');
            encode(table, out);
        }
    }
}

/// The name that RabbitMQ prints for a value's type.
#[must_use]
pub fn type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}

/// An integer of any width.
#[must_use]
pub fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(v) => Some((*v).into()),
        AMQPValue::ShortShortUInt(v) => Some((*v).into()),
        AMQPValue::ShortInt(v) => Some((*v).into()),
        AMQPValue::ShortUInt(v) => Some((*v).into()),
        AMQPValue::LongInt(v) => Some((*v).into()),
        AMQPValue::LongUInt(v) => Some((*v).into()),
        AMQPValue::LongLongInt(v) => Some(*v),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_survives_a_round_trip() {
        let mut inner = FieldTable::default();
        inner.insert("n".into(), AMQPValue::Void);
        let mut table = FieldTable::default();
        for (key, value) in [
            ("t", AMQPValue::Boolean(true)),
            ("b", AMQPValue::ShortShortInt(-1)),
            ("B", AMQPValue::ShortShortUInt(200)),
            ("s", AMQPValue::ShortInt(-300)),
            ("u", AMQPValue::ShortUInt(300)),
            ("I", AMQPValue::LongInt(-70_000)),
            ("i", AMQPValue::LongUInt(70_000)),
            ("l", AMQPValue::LongLongInt(-5_000_000_000)),
            ("f", AMQPValue::Float(1.5)),
            ("d", AMQPValue::Double(-2.25)),
            ("D", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
            ("S", AMQPValue::LongString("text".into())),
            ("x", AMQPValue::ByteArray(vec![0, 255].into())),
            ("T", AMQPValue::Timestamp(1_700_000_000)),
            ("A", AMQPValue::FieldArray(vec![AMQPValue::LongInt(1), AMQPValue::Void].into())),
            ("F", AMQPValue::FieldTable(inner)),
        ] {
            table.insert(key.into(), value);
        }
        let mut bytes = Vec::new();
        encode(&table, &mut bytes);
        assert_eq!(decode(&bytes), Ok(table));
    }

    #[test]
    fn nesting_a_hundred_thousand_deep_is_refused_without_harm() {
        let mut bytes = Vec::new();
        for left in (0..100_000_u32).rev() {
            bytes.extend_from_slice(&(left * 6).to_be_bytes());
            if left > 0 {
                bytes.extend_from_slice(&[0, b'F']);
            }
        }
        assert_eq!(decode(&bytes), Err(TableError::TooDeep));
    }

    #[test]
    fn every_prefix_of_a_table_is_refused() {
        let mut table = FieldTable::default();
        table.insert("key".into(), AMQPValue::LongString("value".into()));
        let mut bytes = Vec::new();
        encode(&table, &mut bytes);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "prefix of {end}");
        }
    }
}
