//! The bytes of the log's files. A segment is a header, then batches; a batch is a header, then records; a batch is
//! what one fsync made durable. Every part has its checksum, which also covers the segment's number: a file that is used
//! again for a later segment still holds the bytes of an earlier one, and those never pass.

use bytes::Bytes;
use warren_types::GroupId;

const SEGMENT_MAGIC: [u8; 8] = *b"WARRNLOG";
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"WBAT");
const VERSION: u32 = 1;
/// Batches begin at multiples of it.
pub(super) const ALIGN: u64 = 8;
/// A seal begins in the page after the batch that it seals: what zeroes the one leaves the other.
pub(super) const PAGE_BYTES: u64 = 4096;
/// What comes before a batch's records.
pub(super) const BATCH_BYTES: usize = 32;
/// What comes before a record's payload.
pub(super) const HEAD_BYTES: usize = 40;
/// What comes before a segment header's checksummed part.
pub(super) const PREFIX_BYTES: usize = 16;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry is appended.
    Entry,
    /// An entry of an old segment, copied so that the old one can go.
    Moved,
    /// The payload is the group's vote.
    Vote,
    /// The payload is what the group knows as committed.
    Committed,
    /// Entries from `index` on are removed.
    Truncate,
    /// Entries below `index` are removed; the payload is the caller's marker.
    Purge,
    /// Segments below `index` are not needed.
    Dropped,
    /// The log goes on in segment `index`: should that be gone, something is lost.
    Next,
    /// Everything of the group is removed but its vote.
    Forget,
}

impl Kind {
    fn wire(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Moved => 2,
            Self::Vote => 3,
            Self::Committed => 4,
            Self::Truncate => 5,
            Self::Purge => 6,
            Self::Dropped => 7,
            Self::Next => 8,
            Self::Forget => 9,
        }
    }

    fn of(wire: u8) -> Option<Self> {
        Some(match wire {
            1 => Self::Entry,
            2 => Self::Moved,
            3 => Self::Vote,
            4 => Self::Committed,
            5 => Self::Truncate,
            6 => Self::Purge,
            7 => Self::Dropped,
            8 => Self::Next,
            9 => Self::Forget,
            _ => return None,
        })
    }
}

/// A record without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// The entry's own kind.
    pub(crate) entry_kind: u8,
    pub(crate) group: GroupId,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) node: u64,
}

impl Head {
    /// A record that is no entry.
    pub(crate) fn of(kind: Kind, group: GroupId, index: u64) -> Self {
        Self { kind, entry_kind: 0, group, index, term: 0, node: 0 }
    }

    /// The bytes before the payload.
    pub(super) fn encode(&self, segment: u64, payload: &[u8]) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut at = Put { bytes: &mut bytes, at: 4 };
        at.put(&length.to_le_bytes());
        at.put(&[self.kind.wire(), self.entry_kind, 0, 0]);
        at.put(&self.group.0.to_le_bytes());
        at.put(&self.index.to_le_bytes());
        at.put(&self.term.to_le_bytes());
        at.put(&self.node.to_le_bytes());
        let crc = record_crc(segment, &bytes, payload);
        Put { bytes: &mut bytes, at: 0 }.put(&crc.to_le_bytes());
        bytes
    }

    /// The record at the beginning of `bytes`, if it is sound: its head and the payload's length.
    pub(super) fn decode(segment: u64, bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let mut from = Get(head);
        let crc = from.u32()?;
        let length = usize::try_from(from.u32()?).ok()?;
        let [kind, entry_kind, _, _] = from.take::<4>()?;
        let head_of = Self {
            kind: Kind::of(kind)?,
            entry_kind,
            group: GroupId(from.u32()?),
            index: from.u64()?,
            term: from.u64()?,
            node: from.u64()?,
        };
        let payload = rest.get(..length)?;
        (record_crc(segment, head, payload) == crc).then_some((head_of, length))
    }
}

fn record_crc(segment: u64, head: &[u8; HEAD_BYTES], payload: &[u8]) -> u32 {
    let (_, checked) = head.split_at(4);
    crate::checksum::crc(&[&segment.to_le_bytes(), checked, payload])
}

/// What comes before a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Batches are counted over all segments: one is written only when the one before is on disk.
    pub(super) number: u64,
    /// Bytes of the records.
    pub(super) bytes: u32,
    /// How many records.
    pub(super) records: u32,
}

impl Batch {
    pub(super) fn encode(&self, segment: u64) -> [u8; BATCH_BYTES] {
        let mut bytes = [0; BATCH_BYTES];
        let mut at = Put { bytes: &mut bytes, at: 0 };
        at.put(&BATCH_MAGIC.to_le_bytes());
        at.put(&self.records.to_le_bytes());
        at.put(&segment.to_le_bytes());
        at.put(&self.number.to_le_bytes());
        at.put(&self.bytes.to_le_bytes());
        let crc = crate::checksum::crc(&[bytes.split_at(BATCH_BYTES - 4).0]);
        Put { bytes: &mut bytes, at: BATCH_BYTES - 4 }.put(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(segment: u64, bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<BATCH_BYTES>()?;
        let mut from = Get(bytes);
        if from.u32()? != BATCH_MAGIC {
            return None;
        }
        let records = from.u32()?;
        let of = from.u64()?;
        let batch = Self { records, number: from.u64()?, bytes: from.u32()? };
        let crc = crate::checksum::crc(&[bytes.split_at(BATCH_BYTES - 4).0]);
        (of == segment && from.u32()? == crc).then_some(batch)
    }

    /// What it occupies, headers and filling included.
    pub(super) fn room(record_bytes: u64) -> u64 {
        (BATCH_BYTES as u64).saturating_add(record_bytes).next_multiple_of(ALIGN)
    }
}

/// What a group is at the start of a segment, beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) group: GroupId,
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<Bytes>,
}

/// The beginning of a segment: everything about older ones that is not an entry, so that they can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u64,
    /// The file has at least this size.
    pub(super) size: u64,
    /// Which log it belongs to.
    pub(super) log: u64,
    /// The oldest segment that must be there.
    pub(super) oldest: u64,
    /// Where the segment before ends: up to there every byte of it is on disk.
    pub(super) previous_end: u64,
    /// The number of the first batch.
    pub(super) batch: u64,
    pub(super) groups: Vec<GroupHeader>,
}

impl SegmentHeader {
    /// Filled up to a multiple of [`ALIGN`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        rest.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.segment, self.size, self.log, self.oldest, self.previous_end, self.batch] {
            rest.extend_from_slice(&number.to_le_bytes());
        }
        rest.extend_from_slice(&u32::try_from(self.groups.len()).unwrap_or(u32::MAX).to_le_bytes());
        for group in &self.groups {
            rest.extend_from_slice(&group.group.0.to_le_bytes());
            rest.extend_from_slice(&group.first.to_le_bytes());
            rest.extend_from_slice(&group.next.to_le_bytes());
            for value in [&group.vote, &group.committed, &group.purged] {
                let length = value.as_ref().map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap_or(0));
                rest.extend_from_slice(&length.to_le_bytes());
                rest.extend_from_slice(value.as_deref().unwrap_or_default());
            }
        }
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + rest.len() + 8);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&u32::try_from(rest.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&crate::checksum::crc(&[&rest]).to_le_bytes());
        bytes.extend_from_slice(&rest);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// The header at the beginning of `bytes`, if it is sound, and where the batches begin.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, u64)> {
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
        let mut from = Get(prefix);
        if from.take::<8>()? != SEGMENT_MAGIC {
            return None;
        }
        let (length, crc) = (usize::try_from(from.u32()?).ok()?, from.u32()?);
        let rest = rest.get(..length)?;
        if crate::checksum::crc(&[rest]) != crc {
            return None;
        }
        let mut from = Get(rest);
        if from.u32()? != VERSION {
            return None;
        }
        let mut header = Self {
            segment: from.u64()?,
            size: from.u64()?,
            log: from.u64()?,
            oldest: from.u64()?,
            previous_end: from.u64()?,
            batch: from.u64()?,
            groups: Vec::new(),
        };
        for _ in 0..from.u32()? {
            header.groups.push(GroupHeader {
                group: GroupId(from.u32()?),
                first: from.u64()?,
                next: from.u64()?,
                vote: from.optional()?,
                committed: from.optional()?,
                purged: from.optional()?,
            });
        }
        let end = (PREFIX_BYTES + length).next_multiple_of(8);
        Some((header, end as u64))
    }
}

struct Put<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Put<'_> {
    fn put(&mut self, value: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.at).zip(value) {
            *to = *from;
        }
        self.at += value.len();
    }
}

struct Get<'a>(&'a [u8]);

impl Get<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// The outer `None`: damaged.
    #[allow(clippy::option_option, reason = "the two say different things")]
    fn optional(&mut self) -> Option<Option<Bytes>> {
        let length = self.u32()?;
        if length == u32::MAX {
            return Some(None);
        }
        let (value, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(Bytes::copy_from_slice(value)))
    }
}
