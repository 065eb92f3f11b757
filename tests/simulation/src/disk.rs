//! A disk below a node's log: it forgets what was not synced when the power goes, and can be slow, full or broken.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use parking_lot::Mutex;
use warren_store::simulation::{LogDir, LogFile};

use crate::chance::Chance;

/// What is written or lost as a whole.
const SECTOR: usize = 512;
/// Files that are used again, with what is in them.
const SPARES: usize = 2;

/// A machine's disk; it outlives the node's process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

struct State {
    files: BTreeMap<u64, Contents>,
    spares: Vec<Vec<u8>>,
    /// Removed while somebody read them.
    unlinked: BTreeMap<u64, Contents>,
    /// Which start of the machine has its files open.
    life: u64,
    /// Calls until the power goes.
    calls_left: Option<u64>,
    dark: bool,
    /// No call succeeds that would make data durable.
    broken: bool,
    full: bool,
    chance: Chance,
}

#[derive(Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync: where, what.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    pub(crate) fn new(chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            spares: Vec::new(),
            unlinked: BTreeMap::new(),
            life: 0,
            calls_left: None,
            dark: false,
            broken: false,
            full: false,
            chance,
        })))
    }

    /// The directory as the next process sees it; those before can do nothing any more.
    pub(crate) fn directory(&self) -> Box<dyn LogDir> {
        let mut state = self.0.lock();
        state.life += 1;
        state.dark = false;
        state.calls_left = None;
        state.unlinked.clear();
        Box::new(Directory { disk: self.clone(), life: state.life })
    }

    /// The process is gone; the system writes what it was given.
    pub(crate) fn process_died(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        for contents in state.files.values_mut() {
            contents.sync();
        }
    }

    /// Another disk is put in its place.
    pub(crate) fn replace(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        state.files.clear();
        state.spares.clear();
        state.unlinked.clear();
    }

    /// The power is gone: of what was not synced, some sectors are there and some are not.
    pub(crate) fn power_cut(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        let State { files, chance, .. } = &mut *state;
        // All, nothing, the first ones, or any of them: each is what some disk does.
        let habit = chance.within(0, 4);
        for contents in files.values_mut() {
            let mut stopped = false;
            for (at, written) in std::mem::take(&mut contents.unsynced) {
                for (number, sector) in written.chunks(SECTOR).enumerate() {
                    stopped |= habit == 2 && chance.permille(300);
                    let keeps = match habit {
                        0 => false,
                        1 => true,
                        2 => !stopped,
                        _ => chance.permille(500),
                    };
                    if keeps {
                        put(&mut contents.durable, at + number * SECTOR, sector);
                    }
                }
            }
            contents.now.clone_from(&contents.durable);
        }
    }

    /// The power goes within so many calls.
    pub(crate) fn doom(&self, calls: u64) {
        self.0.lock().calls_left = Some(calls);
    }

    /// Whether the power has gone in the middle of a call.
    pub(crate) fn is_dark(&self) -> bool {
        self.0.lock().dark
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.0.lock().broken = broken;
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    fn call(&self, life: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.life != life || state.dark {
            return Err(io::Error::other("the process is gone"));
        }
        if let Some(left) = &mut state.calls_left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => {
                    state.dark = true;
                    return Err(io::Error::other("no power"));
                }
            }
        }
        Ok(())
    }
}

impl Contents {
    fn sync(&mut self) {
        for (at, written) in std::mem::take(&mut self.unsynced) {
            put(&mut self.durable, at, &written);
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
    let end = at.saturating_add(written.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(written);
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

struct Directory {
    disk: Disk,
    life: u64,
}

struct File {
    disk: Disk,
    life: u64,
    number: u64,
    size: u64,
}

impl LogDir for Directory {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.disk.0.lock().files.keys().copied().collect())
    }

    fn open(&self, number: u64) -> io::Result<Arc<dyn LogFile>> {
        let state = self.disk.0.lock();
        let contents = state.files.get(&number).ok_or(io::ErrorKind::NotFound)?;
        let size = contents.now.len() as u64;
        Ok(Arc::new(File { disk: self.disk.clone(), life: self.life, number, size }))
    }

    fn create(&self, number: u64, size: u64) -> io::Result<Arc<dyn LogFile>> {
        self.disk.call(self.life)?;
        {
            let mut state = self.disk.0.lock();
            if state.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if state.broken {
                return Err(io::Error::other("the disk is broken"));
            }
            let mut bytes = state.spares.pop().unwrap_or_default();
            bytes.resize(bytes.len().max(place(size)), 0);
            let contents = Contents { durable: bytes.clone(), now: bytes, unsynced: Vec::new() };
            state.files.insert(number, contents);
        }
        self.open(number)
    }

    fn retire(&self, number: u64, unread: bool) -> io::Result<()> {
        self.disk.call(self.life)?;
        let mut state = self.disk.0.lock();
        let contents = state.files.remove(&number).ok_or(io::ErrorKind::NotFound)?;
        if !unread {
            state.unlinked.insert(number, contents);
        } else if state.spares.len() < SPARES {
            state.spares.push(contents.now);
        }
        Ok(())
    }
}

impl LogFile for File {
    fn write(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let allowed = self.disk.call(self.life);
        let mut state = self.disk.0.lock();
        if state.life != self.life {
            return allowed;
        }
        let written: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let contents = state.files.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        put(&mut contents.now, place(offset), &written);
        contents.unsynced.push((place(offset), written));
        allowed
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.disk.0.lock();
        let found = state.files.get(&self.number).or_else(|| state.unlinked.get(&self.number));
        let contents = found.ok_or(io::ErrorKind::NotFound)?;
        let from = place(offset);
        let found = contents.now.get(from..from.saturating_add(buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call(self.life)?;
        let mut state = self.disk.0.lock();
        if state.broken {
            return Err(io::Error::other("the disk is broken"));
        }
        let contents = state.files.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        contents.sync();
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }
}
