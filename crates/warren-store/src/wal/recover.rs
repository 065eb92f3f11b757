//! What is on disk after a start. A batch that is not whole at the very end was never confirmed and is forgotten; the
//! same anywhere else is damage, and the log refuses to open: what was promised may be gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::files::{LogDir, LogFile};
use super::format::{ALIGN, BATCH_BYTES, Batch, HEAD_BYTES, Head, Kind, PAGE_BYTES, SegmentHeader};
use super::groups::{Groups, Place};
use crate::StoreError;

/// What was found.
pub(super) struct Found {
    pub(super) groups: Groups,
    pub(super) segments: BTreeMap<u64, Arc<dyn LogFile>>,
    /// Which log this is; `None` when there was none.
    pub(super) log: Option<u64>,
    pub(super) newest: u64,
    /// Where the newest segment's last whole batch ends.
    pub(super) end: u64,
    /// The next batch's number.
    pub(super) batch: u64,
}

/// A segment whose header is sound.
struct Segment {
    file: Arc<dyn LogFile>,
    header: SegmentHeader,
    /// Where its batches begin.
    begin: u64,
}

type Record = (Head, Place, Bytes);

fn damaged(segment: u64, offset: u64, what: &'static str) -> StoreError {
    StoreError::DamagedLog { segment, offset, what }
}

/// Reads the log's directory. Files that are not needed any more are removed.
///
/// # Errors
/// [`StoreError::Disk`] and [`StoreError::DamagedLog`].
pub(super) fn recover(dir: &dyn LogDir) -> Result<Found, StoreError> {
    let mut numbers = dir.list().map_err(StoreError::io("list its log"))?;
    numbers.sort_unstable();
    let Some(newest) = newest(dir, &mut numbers)? else {
        return Ok(Found {
            groups: Groups::default(),
            segments: BTreeMap::new(),
            log: None,
            newest: 0,
            end: 0,
            batch: 1,
        });
    };
    // What is read may be in the page cache only; from here on it is taken for durable.
    newest.file.sync().map_err(StoreError::io("sync its log"))?;
    let number = newest.header.segment;
    let (last, end, batch) = open_end(&newest)?;
    let dropped = last.iter().filter(|(head, ..)| head.kind == Kind::Dropped).map(|(head, ..)| head.index);
    let oldest = dropped.fold(newest.header.oldest, u64::max).min(number);
    let mut segments = Vec::new();
    for wanted in oldest..number {
        let segment = if numbers.binary_search(&wanted).is_ok() { load(dir, wanted)? } else { None };
        segments
            .push(segment.ok_or_else(|| damaged(wanted, 0, "it is missing, or its header is not sound"))?);
    }
    segments.push(newest);
    let log = segments.first().map(|segment| segment.header.log);
    let before = segments.first_mut().map(|segment| std::mem::take(&mut segment.header.groups));
    let mut groups = Groups::restore(before.unwrap_or_default());
    let mut last = Some(last);
    for pair in segments.windows(2) {
        let [segment, after] = pair else { continue };
        if after.header.log != segment.header.log {
            return Err(damaged(after.header.segment, 0, "it belongs to another log"));
        }
        for (head, place, payload) in closed(segment, after.header.previous_end, after.header.batch)? {
            groups.apply(&head, place, &payload);
        }
    }
    for (head, place, payload) in last.take().unwrap_or_default() {
        groups.apply(&head, place, &payload);
    }
    for old in numbers.iter().filter(|found| **found < oldest) {
        dir.retire(*old, true).map_err(StoreError::io("remove a file of its log"))?;
    }
    let segments = segments.into_iter().map(|segment| (segment.header.segment, segment.file)).collect();
    Ok(Found { groups, segments, log, newest: number, end, batch })
}

/// The last segment that was made whole, and takes it from `numbers`. One that was not is removed: only the last can be
/// so, and nothing was written to it.
fn newest(dir: &dyn LogDir, numbers: &mut Vec<u64>) -> Result<Option<Segment>, StoreError> {
    let Some(last) = numbers.pop() else { return Ok(None) };
    if let Some(segment) = load(dir, last)? {
        return Ok(Some(segment));
    }
    let file = dir.open(last).map_err(StoreError::io("open its log"))?;
    if is_batch_after(&contents(&*file)?, last, 0, 0) {
        return Err(damaged(last, 0, "its header is not sound"));
    }
    dir.retire(last, true).map_err(StoreError::io("remove a file of its log"))?;
    let Some(before) = numbers.pop() else { return Ok(None) };
    load(dir, before)?.map(Some).ok_or_else(|| damaged(before, 0, "its header is not sound"))
}

/// The segment, if its header is sound.
fn load(dir: &dyn LogDir, number: u64) -> Result<Option<Segment>, StoreError> {
    let file = dir.open(number).map_err(StoreError::io("open its log"))?;
    // Headers are small; one of very many groups is read by the second try.
    for bytes in [64 << 10, u64::MAX] {
        let size = file.size().min(bytes);
        let mut start = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        file.read(0, &mut start).map_err(StoreError::io("read its log"))?;
        if let Some((header, begin)) = SegmentHeader::decode(&start) {
            let whole = header.segment == number && file.size() >= header.size;
            return Ok(whole.then_some(Segment { file, header, begin }));
        }
    }
    Ok(None)
}

fn contents(file: &dyn LogFile) -> Result<Bytes, StoreError> {
    let mut bytes = vec![0; usize::try_from(file.size()).unwrap_or(usize::MAX)];
    file.read(0, &mut bytes).map_err(StoreError::io("read its log"))?;
    Ok(bytes.into())
}

/// The records of the newest segment, where they end, and the number of the batch that comes next.
fn open_end(segment: &Segment) -> Result<(Vec<Record>, u64, u64), StoreError> {
    let bytes = contents(&*segment.file)?;
    let number = segment.header.segment;
    let (mut at, mut batch) = (segment.begin, segment.header.batch);
    let mut records = Vec::new();
    while let Some(end) = read_next(&bytes, number, at, batch, &mut records) {
        (at, batch) = (end, batch + 1);
    }
    // A batch is written when the one before it is on disk. So the last may be torn, but nothing can follow it.
    if is_batch_after(&bytes, number, at, batch) {
        return Err(damaged(number, at, "a batch is not sound, and others follow it"));
    }
    if usize::try_from(at)
        .is_ok_and(|at| bytes.get(at..).is_some_and(|rest| Batch::decode(number, rest).is_some()))
    {
        tracing::warn!(
            segment = number,
            offset = at,
            "the last write before this start did not reach the disk and is dropped"
        );
    }
    if records.iter().any(|(head, ..)| head.kind == Kind::Next) {
        return Err(damaged(number.saturating_add(1), 0, "it is missing, or its header is not sound"));
    }
    Ok((records, at, batch))
}

/// The records of a segment that another follows: it is whole up to `end`.
fn closed(segment: &Segment, end: u64, next_batch: u64) -> Result<Vec<Record>, StoreError> {
    let bytes = contents(&*segment.file)?;
    let number = segment.header.segment;
    let (mut at, mut batch) = (segment.begin, segment.header.batch);
    let mut records = Vec::new();
    while at < end && batch < next_batch {
        match read_next(&bytes, number, at, batch, &mut records) {
            Some(next) => (at, batch) = (next, batch + 1),
            None => return Err(damaged(number, at, "a batch is not sound")),
        }
    }
    if (at, batch) != (end, next_batch) {
        return Err(damaged(number, at, "its end is not where it was"));
    }
    Ok(records)
}

/// Reads the batch of that number at `at`, or the seal of that number in the next page; returns where it ends.
fn read_next(bytes: &Bytes, segment: u64, at: u64, number: u64, records: &mut Vec<Record>) -> Option<u64> {
    let seal = || {
        let at = at.next_multiple_of(PAGE_BYTES);
        let batch = Batch::decode(segment, bytes.get(usize::try_from(at).ok()?..)?)?;
        (batch.number == number && batch.records == 0).then_some(at + Batch::room(0))
    };
    read_batch(bytes, segment, at, number, records).or_else(seal)
}

/// Reads the batch of that number at `at`, whole or not at all; returns where it ends.
fn read_batch(bytes: &Bytes, segment: u64, at: u64, number: u64, records: &mut Vec<Record>) -> Option<u64> {
    let begin = usize::try_from(at).ok()?;
    let batch = Batch::decode(segment, bytes.get(begin..)?)?;
    if batch.number != number {
        return None;
    }
    let mut from = begin + BATCH_BYTES;
    let to = from.checked_add(usize::try_from(batch.bytes).ok()?)?;
    let known = records.len();
    let mut read = || {
        while from < to {
            let (head, length) = Head::decode(segment, bytes.get(from..to)?)?;
            let place = Place { segment, offset: from as u64, length: u32::try_from(length).ok()? };
            let payload = from + HEAD_BYTES..from + HEAD_BYTES + length;
            let payload = match head.kind {
                // Only its place is kept.
                Kind::Entry | Kind::Moved | Kind::Truncate | Kind::Dropped | Kind::Next | Kind::Forget => {
                    Bytes::new()
                }
                Kind::Vote | Kind::Committed | Kind::Purge => Bytes::copy_from_slice(bytes.get(payload)?),
            };
            records.push((head, place, payload));
            from += HEAD_BYTES + length;
        }
        (records.len() - known == usize::try_from(batch.records).ok()?).then_some(())
    };
    if read().is_none() {
        records.truncate(known);
        return None;
    }
    Some(at + Batch::room(u64::from(batch.bytes)))
}

/// Whether a batch with a number above `number` begins at or after `at`.
fn is_batch_after(bytes: &Bytes, segment: u64, at: u64, number: u64) -> bool {
    let step = usize::try_from(ALIGN).unwrap_or(8);
    let begin = usize::try_from(at).unwrap_or(usize::MAX);
    (begin..bytes.len()).step_by(step).any(|at| {
        let batch = bytes.get(at..).and_then(|rest| Batch::decode(segment, rest));
        batch.is_some_and(|batch| batch.number > number)
    })
}
