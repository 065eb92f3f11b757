//! What the arguments of each method look like, checked before anything parses them: truncation, trailing bytes,
//! UTF-8, table nesting. Knows no meaning.

use warren_types::FieldTable;
use warren_types::table::{self, TableError};

use crate::error::MethodId;

/// Why bytes are not the arguments of their method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The bytes end inside an argument.
    #[error("the arguments end early")]
    Truncated,
    /// Bytes are left over.
    #[error("bytes follow the arguments")]
    Trailing,
    /// A short string that is not UTF-8.
    #[error("Malformed UTF-8 in shortstr")]
    NotUtf8,
    /// A malformed table.
    #[error(transparent)]
    Table(#[from] TableError),
}

#[derive(Clone, Copy)]
enum Argument {
    Fixed(usize),
    ShortString,
    LongString,
    Table,
}

use Argument::{Fixed, LongString, ShortString, Table};

const BITS: Argument = Fixed(1);
const OCTET: Argument = Fixed(1);
const SHORT: Argument = Fixed(2);
const LONG: Argument = Fixed(4);
const LONG_LONG: Argument = Fixed(8);

/// The arguments of a method, `None` for a method that 0-9-1 (with RabbitMQ's extensions) does not have. Neighbouring
/// bits share an octet.
fn arguments(id: MethodId) -> Option<&'static [Argument]> {
    Some(match (id.class, id.method) {
        (10, 10) => &[OCTET, OCTET, Table, LongString, LongString],
        (10, 11) => &[Table, ShortString, LongString, ShortString],
        (10, 20 | 21) | (20, 11) => &[LongString],
        (10, 30 | 31) => &[SHORT, LONG, SHORT],
        (10, 40) => &[ShortString, ShortString, BITS],
        (10, 41 | 60) | (20, 10) | (60, 21 | 31 | 72) => &[ShortString],
        (10, 50) | (20, 40) => &[SHORT, ShortString, SHORT, SHORT],
        (10, 51 | 61 | 71) | (20, 41) => &[],
        (10, 70) => &[LongString, ShortString],
        (20, 20 | 21) | (60, 100 | 110) | (85, 10) => &[BITS],
        (30, 10) | (60, 30) => &[ShortString, BITS],
        (30, 11) => &[SHORT],
        (40, 10) | (60, 20) => &[SHORT, ShortString, ShortString, BITS, Table],
        (40, 11 | 21 | 31 | 51) | (50, 21 | 51) | (60, 11 | 111) | (85, 11) => &[],
        (40, 20) | (50, 30 | 40) | (60, 70) => &[SHORT, ShortString, BITS],
        (40, 30 | 40) | (50, 20) => &[SHORT, ShortString, ShortString, ShortString, BITS, Table],
        (50, 10) => &[SHORT, ShortString, BITS, Table],
        (50, 11) => &[ShortString, LONG, LONG],
        (50, 31 | 41) => &[LONG],
        (50, 50) => &[SHORT, ShortString, ShortString, ShortString, Table],
        (60, 10) => &[LONG, SHORT, BITS],
        (60, 40) => &[SHORT, ShortString, ShortString, BITS],
        (60, 50) => &[SHORT, ShortString, ShortString, ShortString],
        (60, 60) => &[ShortString, LONG_LONG, BITS, ShortString, ShortString],
        (60, 71) => &[LONG_LONG, BITS, ShortString, ShortString, LONG],
        (60, 80 | 90 | 120) => &[LONG_LONG, BITS],
        (90, 10 | 11 | 20 | 21 | 30 | 31) => &[],
        _ => return None,
    })
}

/// True when the method exists.
pub(crate) fn is_known(id: MethodId) -> bool {
    arguments(id).is_some()
}

/// The table among a method's arguments: what it says and which bytes it is.
pub(crate) struct FoundTable {
    pub(crate) table: FieldTable,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Checks that `bytes` are the arguments of that method, which exists, and decodes the table among them. No method
/// has two.
///
/// # Errors
/// [`ShapeError`]; 502 for a table, else 501.
pub(crate) fn check(id: MethodId, bytes: &[u8]) -> Result<Option<FoundTable>, ShapeError> {
    let mut found = None;
    let mut rest = bytes;
    for argument in arguments(id).unwrap_or_default() {
        match argument {
            Fixed(length) => take(&mut rest, *length)?,
            ShortString => {
                let length = rest.first().copied().ok_or(ShapeError::Truncated)?;
                let text = rest.get(1..=usize::from(length)).ok_or(ShapeError::Truncated)?;
                std::str::from_utf8(text).map_err(|_| ShapeError::NotUtf8)?;
                take(&mut rest, usize::from(length) + 1)?;
            }
            LongString => {
                let length = rest.first_chunk::<4>().copied().ok_or(ShapeError::Truncated)?;
                take(&mut rest, (u32::from_be_bytes(length) as usize).saturating_add(4))?;
            }
            Table => {
                let start = bytes.len() - rest.len();
                let (table, after) = table::decode_prefix(rest)?;
                found = Some(FoundTable { table, start, end: bytes.len() - after.len() });
                rest = after;
            }
        }
    }
    if rest.is_empty() { Ok(found) } else { Err(ShapeError::Trailing) }
}

fn take(rest: &mut &[u8], length: usize) -> Result<(), ShapeError> {
    *rest = rest.get(length..).ok_or(ShapeError::Truncated)?;
    Ok(())
}
