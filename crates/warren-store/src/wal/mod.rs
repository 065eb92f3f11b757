//! The log of all groups: segments of a fixed size that are written from front to back, one fsync a batch, and used
//! again. RocksDB's own log would copy each body twice more, sum it up in software, and could not use files again without
//! a recovery mode that forgets votes.
//!
//! Rules that recovery rests on: a batch is written only when the one before is on disk; a segment's header, with the hard
//! state of every group, is on disk before the first batch; a segment goes only when nothing in it is needed, oldest
//! first, and the log has said so (`Dropped`) before. A group that is rarely purged does not hold old segments for ever: where less
//! than half of the log is alive, the oldest segment's entries are copied to its end (`Moved`).

mod files;
mod format;
mod groups;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use warren_types::{GroupId, LogIndex, NodeId, Term};

pub(crate) use self::files::DiskDir;
pub use self::files::{LogDir, LogFile};
use self::format::{Batch, HEAD_BYTES, PAGE_BYTES, SegmentHeader};
pub(crate) use self::format::{Head, Kind};
pub(crate) use self::groups::Group;
use self::groups::{Groups, Place};
use crate::simulation::{self, Planted};
use crate::{LogEntry, StoreError};

/// Payloads below it are copied next to their heads: cheaper than a part of its own in the system call.
const COPIED_BYTES: usize = 2 << 10;
/// Segments below which nothing is copied to make room.
const FEW_SEGMENTS: usize = 5;
/// Least that is copied with a batch while an old segment is being emptied.
const MOVE_BYTES: u64 = 1 << 20;

/// Kept free at a segment's end, to say where the log goes on: more than a batch of one record without a payload.
const END_BYTES: u64 = 128;

/// The log of all groups of a node.
pub(crate) struct Wal {
    dir: Box<dyn LogDir>,
    segment_bytes: u64,
    log: u64,
    shared: Mutex<Shared>,
    pen: Mutex<Pen>,
}

/// What readers need. Everything in it is on disk.
struct Shared {
    groups: Groups,
    segments: BTreeMap<u64, Arc<dyn LogFile>>,
}

/// Where the next batch goes.
struct Pen {
    segment: u64,
    file: Arc<dyn LogFile>,
    offset: u64,
    /// The next batch's number.
    batch: u64,
    /// A batch follows the last one that holds something: damage to that would be noticed.
    sealed: bool,
    /// Entries of the oldest segment that are to be copied.
    moving: Vec<(GroupId, u64)>,
    /// Heads and small payloads of the batch that is being made.
    scratch: Vec<u8>,
}

enum Part {
    Scratch(Range<usize>),
    Payload(Bytes),
}

/// A record of a batch that is being made.
pub(crate) type Record = (Head, Bytes);

/// Entries of a group as they were at one moment: their segments stay while this lives.
pub(crate) struct FrozenLog {
    group: GroupId,
    places: BTreeMap<u64, (Place, Arc<dyn LogFile>)>,
}

impl Wal {
    /// Reads what is there and begins a new segment.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; [`StoreError::DamagedLog`] where something that was on disk is not any more.
    pub(crate) fn open(dir: Box<dyn LogDir>, segment_bytes: u64, new_log: u64) -> Result<Self, StoreError> {
        let found = recover::recover(&*dir)?;
        let log = found.log.unwrap_or(new_log);
        let shared = Shared { groups: found.groups, segments: found.segments };
        let mut header = SegmentHeader {
            segment: found.newest + 1,
            size: 0,
            log,
            oldest: oldest(&shared).unwrap_or(found.newest + 1),
            previous_end: found.end,
            batch: found.batch,
            groups: shared.groups.headers(),
        };
        let (file, offset) = begin(&*dir, &mut header, segment_bytes, 0)?;
        let wal = Self {
            dir,
            segment_bytes,
            log,
            pen: Mutex::new(Pen {
                segment: header.segment,
                file: Arc::clone(&file),
                offset,
                batch: found.batch,
                sealed: true,
                moving: Vec::new(),
                scratch: Vec::new(),
            }),
            shared: Mutex::new(shared),
        };
        wal.shared.lock().segments.insert(header.segment, file);
        Ok(wal)
    }

    /// The number that this log was made with.
    pub(crate) fn id(&self) -> u64 {
        self.log
    }

    /// A group as it is on disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if entries are missing.
    pub(crate) fn group(&self, group: GroupId) -> Result<Group, StoreError> {
        let shared = self.shared.lock();
        let found = shared.groups.groups.get(&group);
        if let Some(index) = found.and_then(Group::missing) {
            return Err(StoreError::Damaged { group, index: LogIndex(index) });
        }
        let hard = |found: &Group| Group {
            vote: found.vote.clone(),
            committed: found.committed.clone(),
            purged: found.purged.clone(),
            first: found.first,
            next: found.next,
            places: BTreeMap::new(),
        };
        Ok(found.map(hard).unwrap_or_default())
    }

    /// Writes records as one batch and waits until it is on disk. Returns the bytes written. The only caller is the log
    /// writer's thread; after an error it must not be called again.
    ///
    /// # Errors
    /// [`StoreError::Disk`]: what is on disk is unknown.
    pub(crate) fn write(&self, records: &[Record]) -> Result<u64, StoreError> {
        let mut pen = self.pen.lock();
        let own = records.iter().map(|(_, payload)| room_of(payload)).sum::<u64>();
        let mut first = self.copies(&mut pen, own.max(MOVE_BYTES))?;
        let dropped = self.needless();
        if let Some(oldest) = dropped {
            first.push((Head::of(Kind::Dropped, GroupId::METADATA, oldest), Bytes::new()));
        }
        let bytes = first.iter().map(|(_, payload)| room_of(payload)).sum::<u64>() + own;
        if pen.offset.saturating_add(Batch::room(bytes)).saturating_add(END_BYTES) > pen.file.size() {
            self.turn_over(&mut pen, bytes)?;
        }
        let places = put(&mut pen, first.iter().chain(records), bytes)?;
        if !simulation::is_planted(Planted::SkipSync) {
            pen.file.sync().map_err(StoreError::io("sync its log"))?;
        }
        pen.sealed = false;
        if pen.scratch.capacity() > 4 << 20 {
            pen.scratch = Vec::new();
        }
        let mut shared = self.shared.lock();
        for ((head, payload), place) in first.iter().chain(records).zip(places) {
            shared.groups.apply(head, place, payload);
        }
        let gone: Vec<u64> = match dropped {
            Some(oldest) => shared.segments.range(..oldest).map(|(number, _)| *number).collect(),
            None => Vec::new(),
        };
        for number in gone {
            let file = shared.segments.remove(&number);
            // Readers take the file under this lock, so nobody can begin to read it any more.
            let unread = file.is_none_or(|file| Arc::strong_count(&file) == 1);
            self.dir.retire(number, unread).map_err(StoreError::io("remove a file of its log"))?;
        }
        Ok(Batch::room(bytes))
    }

    /// Writes an empty batch after the last one, so that damage to that one cannot pass for a write that was cut off. It is
    /// on disk when this returns: what is written next counts on it, and would without it be taken for what follows damage.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub(crate) fn seal(&self) -> Result<(), StoreError> {
        let mut pen = self.pen.lock();
        let at = pen.offset.next_multiple_of(PAGE_BYTES);
        if pen.sealed {
            return Ok(());
        }
        pen.sealed = true;
        if at.saturating_add(Batch::room(0)).saturating_add(END_BYTES) > pen.file.size() {
            // The next segment's header says where this one ends.
            return self.turn_over(&mut pen, 0);
        }
        pen.offset = at;
        put(&mut pen, std::iter::empty(), 0)?;
        pen.file.sync().map_err(StoreError::io("sync its log"))
    }

    /// True while [`Wal::seal`] has something to do.
    pub(crate) fn is_unsealed(&self) -> bool {
        !self.pen.lock().sealed
    }

    /// Entries `from..to` while their payloads fit into `max_bytes`, at least one. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if one is not sound or not there; [`StoreError::Disk`].
    pub(crate) fn read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let mut used = 0_usize;
        let mut wanted = Vec::new();
        let mut expected = from;
        {
            let shared = self.shared.lock();
            let places = shared.groups.groups.get(&group).map(|found| found.places.range(from..to));
            for (index, place) in places.into_iter().flatten() {
                used = used.saturating_add(place.length as usize);
                if *index != expected || (used > max_bytes && !wanted.is_empty()) {
                    break;
                }
                expected += 1;
                let file = shared.segments.get(&place.segment);
                let file = file.ok_or(StoreError::Damaged { group, index: LogIndex(*index) })?;
                wanted.push((*index, *place, Arc::clone(file)));
            }
        }
        if wanted.is_empty() || (expected < to && used <= max_bytes) {
            return Err(StoreError::Damaged { group, index: LogIndex(expected) });
        }
        wanted.into_iter().map(|(index, place, file)| read_entry(group, index, place, &*file)).collect()
    }

    /// The group's entries above `after` as they are now, on disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a segment is not there.
    pub(crate) fn freeze(&self, group: GroupId, after: u64) -> Result<FrozenLog, StoreError> {
        let shared = self.shared.lock();
        let mut places = BTreeMap::new();
        let found = shared.groups.groups.get(&group);
        for (index, place) in
            found.into_iter().flat_map(|found| found.places.range(after.saturating_add(1)..))
        {
            let file = shared.segments.get(&place.segment);
            let file = file.ok_or(StoreError::Damaged { group, index: LogIndex(*index) })?;
            places.insert(*index, (*place, Arc::clone(file)));
        }
        Ok(FrozenLog { group, places })
    }

    /// What is more than the newest segments of `bytes` together, or of `entries` needed entries: each group's last entry
    /// before them. The newest two segments are never too much.
    pub(crate) fn surplus(&self, bytes: u64, entries: u64) -> BTreeMap<GroupId, LogIndex> {
        let shared = self.shared.lock();
        let (mut size, mut needed) = (0_u64, 0_u64);
        let mut stays_from = u64::MAX;
        for (place, (number, file)) in shared.segments.iter().rev().enumerate() {
            size = size.saturating_add(file.size());
            needed += shared.groups.live.get(number).map_or(0, |live| live.entries);
            if place >= 2 && (size > bytes || needed > entries) {
                return shared.groups.last_before(stays_from);
            }
            stays_from = *number;
        }
        BTreeMap::new()
    }

    /// How many segments there are.
    #[cfg(test)]
    fn segments(&self) -> usize {
        self.shared.lock().segments.len()
    }

    /// Begins the next segment. Everything before it is on disk.
    fn turn_over(&self, pen: &mut Pen, bytes: u64) -> Result<(), StoreError> {
        let mut shared = self.shared.lock();
        let mut header = SegmentHeader {
            segment: pen.segment + 1,
            size: 0,
            log: self.log,
            oldest: oldest(&shared).unwrap_or(pen.segment + 1),
            previous_end: pen.offset,
            batch: pen.batch,
            groups: shared.groups.headers(),
        };
        // Readers of old entries wait meanwhile: once a segment.
        let (file, offset) = begin(&*self.dir, &mut header, self.segment_bytes, bytes)?;
        shared.segments.insert(header.segment, Arc::clone(&file));
        // Not synced: it reaches the disk in its time, and tells from then on that the new segment must be there.
        let next = (Head::of(Kind::Next, GroupId::METADATA, header.segment), Bytes::new());
        put(pen, std::iter::once(&next), HEAD_BYTES as u64)?;
        pen.batch = header.batch;
        (pen.segment, pen.file, pen.offset) = (header.segment, file, offset);
        Ok(())
    }

    /// The segment below which nothing is needed, if that is not the oldest.
    fn needless(&self) -> Option<u64> {
        let shared = self.shared.lock();
        let newest = *shared.segments.last_key_value()?.0;
        let needed = shared.segments.keys().copied().find(|number| shared.groups.is_needed(*number));
        let needed = needed.unwrap_or(newest);
        (Some(needed) > oldest(&shared)).then_some(needed)
    }

    /// What of the oldest segment goes with this batch, so that the segment can go.
    fn copies(&self, pen: &mut Pen, bytes: u64) -> Result<Vec<Record>, StoreError> {
        let mut copies = Vec::new();
        let mut files = Vec::new();
        {
            let shared = self.shared.lock();
            let Some((oldest, file)) = shared.segments.first_key_value() else { return Ok(copies) };
            if pen.moving.is_empty() {
                let alive = shared.groups.live_bytes();
                let size: u64 = shared.segments.values().map(|file| file.size()).sum();
                if shared.segments.len() <= FEW_SEGMENTS || alive.saturating_mul(2) > size {
                    return Ok(copies);
                }
                pen.moving = shared.groups.living(*oldest);
            }
            let mut left = bytes;
            while let Some((group, index)) = pen.moving.last().copied() {
                let place = shared.groups.groups.get(&group).and_then(|found| found.places.get(&index));
                if let Some(place) = place.filter(|place| place.segment == *oldest) {
                    let room = u64::from(place.length) + HEAD_BYTES as u64;
                    if room > left && !files.is_empty() {
                        break;
                    }
                    left = left.saturating_sub(room);
                    files.push((group, index, *place, Arc::clone(file)));
                }
                pen.moving.pop();
            }
        }
        for (group, index, place, file) in files {
            let entry = read_entry(group, index, place, &*file)?;
            let head = Head { kind: Kind::Moved, ..Head::entry(group, &entry) };
            copies.push((head, entry.payload));
        }
        Ok(copies)
    }
}

impl Head {
    /// A record that appends the entry.
    pub(crate) fn entry(group: GroupId, entry: &LogEntry) -> Self {
        Self {
            kind: Kind::Entry,
            entry_kind: entry.kind,
            group,
            index: entry.index.0,
            term: entry.term.0,
            node: entry.node.0,
        }
    }
}

impl FrozenLog {
    /// One entry. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not sound or was not there; [`StoreError::Disk`].
    pub(crate) fn read(&self, index: u64) -> Result<LogEntry, StoreError> {
        let damaged = StoreError::Damaged { group: self.group, index: LogIndex(index) };
        let (place, file) = self.places.get(&index).ok_or(damaged)?;
        read_entry(self.group, index, *place, &**file)
    }
}

fn oldest(shared: &Shared) -> Option<u64> {
    shared.segments.first_key_value().map(|(number, _)| *number)
}

fn room_of(payload: &Bytes) -> u64 {
    (HEAD_BYTES + payload.len()) as u64
}

/// Makes a segment and puts its header on disk; returns where its batches begin.
fn begin(
    dir: &dyn LogDir,
    header: &mut SegmentHeader,
    segment_bytes: u64,
    bytes: u64,
) -> Result<(Arc<dyn LogFile>, u64), StoreError> {
    let offset = header.encode().len() as u64;
    let size = segment_bytes.max(offset.saturating_add(Batch::room(bytes)).saturating_add(END_BYTES));
    header.size = size;
    let encoded = header.encode();
    let file = dir.create(header.segment, size).map_err(StoreError::io("make a file for its log"))?;
    let mut parts = [IoSlice::new(&encoded)];
    file.write(0, &mut parts).and_then(|()| file.sync()).map_err(StoreError::io("write its log"))?;
    Ok((file, offset))
}

/// Writes a batch at the pen; returns the place of each record.
fn put<'a>(
    pen: &mut Pen,
    records: impl Iterator<Item = &'a Record>,
    bytes: u64,
) -> Result<Vec<Place>, StoreError> {
    let too_large = || StoreError::Disk { what: "write its log", reason: "a batch of 4 GiB".to_owned() };
    let batch_bytes = u32::try_from(bytes).map_err(|_| too_large())?;
    pen.scratch.clear();
    pen.scratch.resize(format::BATCH_BYTES, 0);
    let (mut parts, mut places) = (Vec::new(), Vec::new());
    let mut copied = 0;
    let mut at = pen.offset + format::BATCH_BYTES as u64;
    for (head, payload) in records {
        let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
        places.push(Place { segment: pen.segment, offset: at, length });
        at += room_of(payload);
        pen.scratch.extend_from_slice(&head.encode(pen.segment, payload));
        if payload.len() < COPIED_BYTES {
            pen.scratch.extend_from_slice(payload);
        } else {
            parts.push(Part::Scratch(copied..pen.scratch.len()));
            parts.push(Part::Payload(payload.clone()));
            copied = pen.scratch.len();
        }
    }
    let end = pen.offset + Batch::room(bytes);
    let filling = usize::try_from(end.saturating_sub(at)).unwrap_or_default();
    pen.scratch.resize(pen.scratch.len() + filling, 0);
    parts.push(Part::Scratch(copied..pen.scratch.len()));
    let batch = Batch {
        number: pen.batch,
        bytes: batch_bytes,
        records: u32::try_from(places.len()).map_err(|_| too_large())?,
    };
    if let Some(start) = pen.scratch.first_chunk_mut::<{ format::BATCH_BYTES }>() {
        *start = batch.encode(pen.segment);
    }
    let mut slices: Vec<IoSlice<'_>> = parts
        .iter()
        .map(|part| match part {
            Part::Scratch(range) => pen.scratch.get(range.clone()).unwrap_or_default(),
            Part::Payload(payload) => payload,
        })
        .filter(|bytes| !bytes.is_empty())
        .map(IoSlice::new)
        .collect();
    pen.file.write(pen.offset, &mut slices).map_err(StoreError::io("write its log"))?;
    pen.offset = end;
    pen.batch += 1;
    Ok(places)
}

fn read_entry(group: GroupId, index: u64, place: Place, file: &dyn LogFile) -> Result<LogEntry, StoreError> {
    let mut bytes = vec![0; HEAD_BYTES + place.length as usize];
    match file.read(place.offset, &mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(StoreError::Damaged { group, index: LogIndex(index) });
        }
        Err(error) => return Err(StoreError::io("read its log")(error)),
    }
    let bytes = Bytes::from(bytes);
    let head = match Head::decode(place.segment, &bytes) {
        Some((head, length)) if length == place.length as usize => head,
        Some(_) | None => return Err(StoreError::Damaged { group, index: LogIndex(index) }),
    };
    let is_entry = matches!(head.kind, Kind::Entry | Kind::Moved);
    if !is_entry || head.group != group || head.index != index {
        return Err(StoreError::Damaged { group, index: LogIndex(index) });
    }
    Ok(LogEntry {
        index: LogIndex(index),
        term: Term(head.term),
        node: NodeId(head.node),
        kind: head.entry_kind,
        payload: bytes.slice(HEAD_BYTES..),
    })
}
