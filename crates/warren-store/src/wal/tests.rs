//! The log over a disk that forgets what was not synced, stops at any moment, and rots.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use warren_types::{GroupId, LogIndex, NodeId, Term};

use super::files::{LogDir, LogFile};
use super::{Head, Kind, Record, Wal};
use crate::{LogEntry, StoreError};

const SEGMENT: u64 = 16 << 10;
const SECTOR: usize = 512;

#[derive(Default)]
struct Disk {
    files: BTreeMap<u64, Arc<MemoryFile>>,
    /// Old contents, for new segments.
    spares: Vec<Vec<u8>>,
    /// Calls until the power fails; `None` is never.
    left: Option<usize>,
}

#[derive(Clone, Default)]
struct MemoryDir(Arc<Mutex<Disk>>);

struct MemoryFile {
    disk: MemoryDir,
    bytes: Mutex<Contents>,
}

#[derive(Clone, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync: where, what.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl MemoryDir {
    fn tick(&self) -> io::Result<()> {
        let mut disk = self.0.lock();
        match &mut disk.left {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The power comes back: of what was not synced, some sectors are there and some are not.
    fn after_power_cut(&self, mut keeps: impl FnMut() -> bool) -> Self {
        let copy = Self::default();
        let disk = self.0.lock();
        for (number, file) in &disk.files {
            let contents = file.bytes.lock().clone();
            let mut bytes = contents.durable;
            for (at, written) in contents.unsynced {
                for (number, sector) in written.chunks(SECTOR).enumerate() {
                    if keeps() {
                        let from = at + number * SECTOR;
                        bytes[from..from + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            copy.put(*number, bytes);
        }
        copy.0.lock().spares.clone_from(&disk.spares);
        drop(disk);
        copy
    }

    /// As the disk is, everything written.
    fn copy(&self) -> Self {
        let copy = Self::default();
        for (number, file) in &self.0.lock().files {
            copy.put(*number, file.bytes.lock().now.clone());
        }
        copy
    }

    fn put(&self, number: u64, bytes: Vec<u8>) {
        let contents = Contents { now: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        let file = MemoryFile { disk: self.clone(), bytes: Mutex::new(contents) };
        self.0.lock().files.insert(number, Arc::new(file));
    }
}

impl LogDir for MemoryDir {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().files.keys().copied().collect())
    }

    fn open(&self, number: u64) -> io::Result<Arc<dyn LogFile>> {
        let file = self.0.lock().files.get(&number).cloned();
        file.map(|file| file as Arc<dyn LogFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, number: u64, size: u64) -> io::Result<Arc<dyn LogFile>> {
        self.tick()?;
        let mut bytes = self.0.lock().spares.pop().unwrap_or_default();
        bytes.resize(bytes.len().max(size as usize), 0);
        self.put(number, bytes);
        self.open(number)
    }

    fn retire(&self, number: u64, unread: bool) -> io::Result<()> {
        self.tick()?;
        let mut disk = self.0.lock();
        let file = disk.files.remove(&number).expect("it is there");
        if unread {
            disk.spares.push(file.bytes.lock().now.clone());
        }
        Ok(())
    }
}

impl LogFile for MemoryFile {
    fn write(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let cut = self.disk.tick();
        let written: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut bytes = self.bytes.lock();
        let at = offset as usize;
        bytes.now[at..at + written.len()].copy_from_slice(&written);
        bytes.unsynced.push((at, written));
        cut
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock();
        let found = bytes.now.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.tick()?;
        let mut bytes = self.bytes.lock();
        bytes.durable = bytes.now.clone();
        bytes.unsynced.clear();
        Ok(())
    }

    fn size(&self) -> u64 {
        self.bytes.lock().now.len() as u64
    }
}

/// What the log should say of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<Bytes>,
    first: u64,
    next: u64,
    entries: BTreeMap<u64, LogEntry>,
}

type World = BTreeMap<GroupId, Model>;

#[derive(Clone, Debug)]
enum Step {
    Append { group: u32, count: u8, bytes: u16 },
    Vote { group: u32, vote: u8 },
    Truncate { group: u32, back: u8 },
    Purge { group: u32, keep: u8 },
    Forget { group: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let group = || 1_u32..4;
    prop_oneof![
        8 => (group(), 1_u8..4, prop_oneof![9 => 0_u16..300, 1 => 2000_u16..6000])
            .prop_map(|(group, count, bytes)| Step::Append { group, count, bytes }),
        2 => (group(), any::<u8>()).prop_map(|(group, vote)| Step::Vote { group, vote }),
        1 => (group(), 1_u8..4).prop_map(|(group, back)| Step::Truncate { group, back }),
        4 => (1_u32..3, 0_u8..3).prop_map(|(group, keep)| Step::Purge { group, keep }),
        1 => group().prop_map(|group| Step::Forget { group }),
    ]
}

/// Carries steps out on the model and says what the log is to write.
fn batch(world: &mut World, steps: &[Step], stamp: &mut u64) -> Vec<Record> {
    let mut records = Vec::new();
    for step in steps {
        *stamp += 1;
        match step {
            Step::Append { group, count, bytes } => {
                let group = GroupId(*group);
                let model = world.entry(group).or_default();
                for _ in 0..*count {
                    let entry = LogEntry {
                        index: LogIndex(model.next),
                        term: Term(*stamp),
                        node: NodeId(7),
                        kind: 0,
                        payload: vec![*stamp as u8; *bytes as usize].into(),
                    };
                    records.push((Head::entry(group, &entry), entry.payload.clone()));
                    model.entries.insert(model.next, entry);
                    model.next += 1;
                }
            }
            Step::Vote { group, vote } => {
                let group = GroupId(*group);
                let vote = Bytes::from(vec![*vote; 9]);
                world.entry(group).or_default().vote = Some(vote.clone());
                records.push((Head::of(Kind::Vote, group, 0), vote));
            }
            Step::Truncate { group, back } => {
                let group = GroupId(*group);
                let model = world.entry(group).or_default();
                let from = model.next.saturating_sub(u64::from(*back)).max(model.first);
                model.entries.split_off(&from);
                model.next = from;
                records.push((Head::of(Kind::Truncate, group, from), Bytes::new()));
            }
            Step::Purge { group, keep } => {
                let group = GroupId(*group);
                let model = world.entry(group).or_default();
                let first = model.next.saturating_sub(u64::from(*keep)).max(model.first);
                model.entries = model.entries.split_off(&first);
                model.first = first;
                let marker = Bytes::from(first.to_string());
                model.purged = Some(marker.clone());
                records.push((Head::of(Kind::Purge, group, first), marker));
            }
            Step::Forget { group } => {
                let group = GroupId(*group);
                let model = world.entry(group).or_default();
                *model = Model { vote: model.vote.take(), ..Model::default() };
                records.push((Head::of(Kind::Forget, group, 0), Bytes::new()));
            }
        }
    }
    // Of a group without a vote nothing is left.
    world.retain(|_, model| *model != Model::default());
    records
}

fn contents(wal: &Wal) -> Result<World, StoreError> {
    let mut world = World::new();
    for id in 1..4 {
        let group = wal.group(GroupId(id))?;
        let mut model = Model {
            vote: group.vote,
            committed: group.committed,
            purged: group.purged,
            first: group.first,
            next: group.next,
            entries: BTreeMap::new(),
        };
        if group.first < group.next {
            let entries = wal.read(GroupId(id), group.first, group.next, usize::MAX)?;
            model.entries = entries.into_iter().map(|entry| (entry.index.0, entry)).collect();
        }
        if model != Model::default() {
            world.insert(GroupId(id), model);
        }
    }
    Ok(world)
}

fn open(dir: &MemoryDir) -> Result<Wal, StoreError> {
    Wal::open(Box::new(dir.clone()), SEGMENT, 99)
}

fn tidy(world: &World) -> World {
    world
        .iter()
        .filter(|(_, model)| **model != Model::default())
        .map(|(id, model)| (*id, model.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn after_a_power_cut_at_any_call_the_log_is_what_was_promised_or_one_batch_more(
        batches in prop::collection::vec((prop::collection::vec(step(), 1..5), any::<bool>()), 1..60),
        cuts in prop::collection::vec((1_usize..40, any::<u64>()), 0..4),
    ) {
        let mut dir = MemoryDir::default();
        let mut wal = open(&dir).unwrap();
        let (mut world, mut stamp) = (World::new(), 0);
        let mut cuts = cuts.into_iter();
        let mut cut = cuts.next();
        dir.0.lock().left = cut.map(|(calls, _)| calls);
        for (steps, idle) in &batches {
            let before = world.clone();
            let records = batch(&mut world, steps, &mut stamp);
            let promised = wal.write(&records).is_ok();
            if promised && (!idle || wal.seal().is_ok()) {
                continue;
            }
            let mut seed = cut.map_or(1, |(_, seed)| seed) | 1;
            dir = dir.after_power_cut(|| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.is_multiple_of(2)
            });
            wal = open(&dir).unwrap();
            let found = contents(&wal).unwrap();
            if promised || found == tidy(&world) {
                prop_assert_eq!(&found, &tidy(&world));
            } else {
                prop_assert_eq!(&found, &tidy(&before));
                world = before;
            }
            cut = cuts.next();
            dir.0.lock().left = cut.map(|(calls, _)| calls);
        }
        dir.0.lock().left = None;
        prop_assert_eq!(contents(&wal).unwrap(), tidy(&world));
        prop_assert_eq!(contents(&open(&dir).unwrap()).unwrap(), tidy(&world));
    }

    #[test]
    fn damage_to_a_sealed_log_is_found_or_harmless(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..5), 1..40),
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        how in 0..4,
    ) {
        let dir = MemoryDir::default();
        let wal = open(&dir).unwrap();
        let (mut world, mut stamp) = (World::new(), 0);
        for steps in &batches {
            let records = batch(&mut world, steps, &mut stamp);
            wal.write(&records).unwrap();
        }
        wal.seal().unwrap();
        let image = dir.copy();
        let number = {
            let disk = image.0.lock();
            let numbers: Vec<u64> = disk.files.keys().copied().collect();
            *file.get(&numbers)
        };
        let mut bytes = image.0.lock().files[&number].bytes.lock().now.clone();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] ^= 1 << (at % 8),
            1 => {
                let at = at / 4096 * 4096;
                let end = (at + 4096).min(bytes.len());
                bytes[at..end].fill(0);
            }
            2 => bytes.truncate(at),
            _ => bytes.clear(),
        }
        if how == 3 {
            image.0.lock().files.remove(&number);
        } else {
            image.put(number, bytes);
        }
        // Where all of it is gone a new log begins, with a name of its own: the store finds that.
        let again = Wal::open(Box::new(image.clone()), SEGMENT, 100);
        match again.and_then(|wal| Ok((wal.id(), contents(&wal)?))) {
            Ok((id, found)) => prop_assert!(id != 99 || found == tidy(&world), "{:?}", found),
            Err(StoreError::DamagedLog { .. } | StoreError::Damaged { .. } | StoreError::Disk { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

fn append(wal: &Wal, group: u32, index: u64, bytes: usize) {
    let entry = LogEntry {
        index: LogIndex(index),
        term: Term(1),
        node: NodeId(1),
        kind: 0,
        payload: vec![index as u8; bytes].into(),
    };
    wal.write(&[(Head::entry(GroupId(group), &entry), entry.payload)]).unwrap();
}

#[test]
fn a_group_that_is_never_purged_does_not_hold_the_segments_of_others() {
    let dir = MemoryDir::default();
    let wal = open(&dir).unwrap();
    for index in 0..2000 {
        if index % 100 == 0 {
            append(&wal, 1, index / 100, 20);
        }
        append(&wal, 2, index, 200);
        let marker = Bytes::from_static(b"marker");
        wal.write(&[(Head::of(Kind::Purge, GroupId(2), index + 1), marker)]).unwrap();
    }
    assert!(wal.segments() <= super::FEW_SEGMENTS + 3, "{} segments", wal.segments());
    assert_eq!(wal.read(GroupId(1), 0, 20, usize::MAX).unwrap().len(), 20);
    let again = open(&dir).unwrap();
    assert_eq!(again.read(GroupId(1), 0, 20, usize::MAX).unwrap().len(), 20);
    assert_eq!(again.group(GroupId(2)).unwrap().first, 2000);
}

#[test]
fn frozen_entries_can_be_read_after_their_segment_is_gone() {
    let dir = MemoryDir::default();
    let wal = open(&dir).unwrap();
    append(&wal, 1, 5, 100);
    let frozen = wal.freeze(GroupId(1), 0).unwrap();
    wal.write(&[(Head::of(Kind::Purge, GroupId(1), 6), Bytes::new())]).unwrap();
    for index in 0..200 {
        append(&wal, 2, index, 200);
        wal.write(&[(Head::of(Kind::Purge, GroupId(2), index + 1), Bytes::new())]).unwrap();
    }
    assert!(!dir.0.lock().files.contains_key(&1), "the first segment is gone");
    assert_eq!(frozen.read(5).unwrap().payload.len(), 100);
    assert!(matches!(wal.read(GroupId(1), 5, 6, 0), Err(StoreError::Damaged { .. })));
}

#[test]
fn an_entry_larger_than_a_segment_has_a_segment_of_its_own() {
    let dir = MemoryDir::default();
    let wal = open(&dir).unwrap();
    append(&wal, 1, 0, 10 * SEGMENT as usize);
    append(&wal, 1, 1, 10);
    let again = open(&dir).unwrap();
    assert_eq!(again.read(GroupId(1), 0, 2, usize::MAX).unwrap()[0].payload.len(), 10 * SEGMENT as usize);
}

#[test]
fn a_seal_that_what_follows_counts_on_is_on_disk() {
    let dir = MemoryDir::default();
    let wal = open(&dir).unwrap();
    append(&wal, 1, 0, 10);
    wal.seal().unwrap();
    append(&wal, 1, 1, SEGMENT as usize);
    let again = open(&dir.after_power_cut(|| false)).unwrap();
    assert_eq!(again.read(GroupId(1), 0, 2, usize::MAX).unwrap().len(), 2);
}

#[test]
fn segments_without_a_batch_are_no_damage() {
    let dir = MemoryDir::default();
    for _ in 0..20 {
        drop(open(&dir).unwrap());
    }
    append(&open(&dir).unwrap(), 1, 0, 10);
    assert_eq!(open(&dir).unwrap().read(GroupId(1), 0, 1, 0).unwrap().len(), 1);
}

#[test]
fn the_log_is_too_long_from_the_bytes_or_entries_that_the_newest_segments_do_not_hold() {
    let dir = MemoryDir::default();
    let wal = open(&dir).unwrap();
    append(&wal, 3, 0, 10);
    assert!(wal.surplus(0, 0).is_empty(), "the newest two segments stay");
    for index in 0..400 {
        append(&wal, 1 + (index % 2) as u32, index / 2, 200);
    }
    let kept = |surplus: &BTreeMap<GroupId, LogIndex>| {
        let last = surplus.get(&GroupId(1)).expect("group 1 is everywhere").0;
        assert!(last.abs_diff(surplus[&GroupId(2)].0) <= 1, "groups that took turns go together");
        assert_eq!(surplus[&GroupId(3)], LogIndex(0));
        199 - last
    };
    assert!(wal.segments() > 6);
    assert!(wal.surplus(u64::MAX, u64::MAX).is_empty());
    // A segment of 16 KiB holds about 30 entries of each of the two.
    let (two, four) = (kept(&wal.surplus(0, u64::MAX)), kept(&wal.surplus(4 * SEGMENT, u64::MAX)));
    assert!(two < four && four <= 4 * 32, "{two} {four}");
    let few = kept(&wal.surplus(u64::MAX, 200));
    assert!((60..=100).contains(&few), "{few}");
    // What was purged is no longer counted.
    wal.write(&[(Head::of(Kind::Purge, GroupId(1), 200), Bytes::new())]).unwrap();
    assert!(!wal.surplus(u64::MAX, 200).contains_key(&GroupId(1)));
}
