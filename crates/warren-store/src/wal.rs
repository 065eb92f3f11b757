//! Looks through the write-ahead log before RocksDB does, and more strictly. RocksDB skips a zeroed piece in the middle
//! without a word, and refuses to open when the last write was torn so that its checksum is wrong. Here:
//!
//! - damage with anything readable after it is damage: votes or entries that this node has promised are gone, so it must
//!   not run;
//! - what is cut short or was never written, at the very end, is a write that the power cut off. Nobody was told that it
//!   is on disk; it is dropped.
//!
//! Knows the format of RocksDB's log files (`db/log_format.h`): blocks of 32 KiB with records of a masked CRC32C, a
//! length, a type and a payload; a record does not cross a block. Knows nothing of what the records say.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::StoreError;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// A piece of a sector so long that holds only zeros by chance is not believed.
const SECTOR_MIN: usize = 64;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// Checks the log files in `dir`, oldest first, and cuts a torn write off the last. Says what it cut, for the log.
///
/// # Errors
/// [`StoreError::DamagedFiles`]: it is damaged elsewhere than at its end. [`StoreError::Disk`]: it cannot be read.
pub(crate) fn check(dir: &Path) -> Result<Option<String>, StoreError> {
    let mut cut = None;
    let mut files = log_files(dir)?.into_iter().peekable();
    while let Some(path) = files.next() {
        let bytes = read(&path)?;
        let Some(torn) = scan(&bytes).map_err(|at| damaged(&path, at))? else { continue };
        // A younger file was begun after this one was complete.
        if files.peek().is_some_and(|younger| std::fs::metadata(younger).is_ok_and(|file| file.len() > 0)) {
            return Err(damaged(&path, torn));
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(failed("cut its log"))?;
        file.set_len(torn as u64).and_then(|()| file.sync_all()).map_err(failed("cut its log"))?;
        let lost = bytes.len().saturating_sub(torn);
        cut = Some(format!("{lost} bytes of a write that was cut short, at {torn} of {}", path.display()));
    }
    Ok(cut)
}

fn damaged(path: &Path, at: usize) -> StoreError {
    StoreError::DamagedFiles { what: "read its log", reason: format!("{} at byte {at}", path.display()) }
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> StoreError {
    move |error| StoreError::Disk { what, reason: error.to_string() }
}

/// RocksDB's log files, by number.
fn log_files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list its directory")(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("list its directory"))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let (Some(number), Some("log")) =
            (number, path.extension().and_then(|extension| extension.to_str()))
        {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(failed("read its log"))?;
    Ok(bytes)
}

/// What is at a place of a block.
enum Piece {
    /// A record of this type, and how long it is with its header.
    Record(u8, usize),
    /// Too little left of the block for a header: zeros, as the writer leaves them.
    Trailer,
    /// The file's end in the middle of a record, or something that is no record.
    Bad,
}

fn piece(block: &[u8], rest_of_block: usize) -> Piece {
    if rest_of_block < HEADER_BYTES {
        return if block.iter().all(|byte| *byte == 0) { Piece::Trailer } else { Piece::Bad };
    }
    let Some((header, payload)) = block.split_first_chunk::<HEADER_BYTES>() else { return Piece::Bad };
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    if !(FULL..=LAST).contains(&kind) || HEADER_BYTES + length > rest_of_block {
        return Piece::Bad;
    }
    let Some(payload) = payload.get(..length) else { return Piece::Bad };
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
    if masked(crc) == u32::from_le_bytes([c0, c1, c2, c3]) {
        Piece::Record(kind, HEADER_BYTES + length)
    } else {
        Piece::Bad
    }
}

/// RocksDB stores checksums in this form.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Reads a whole file: `None` when all of it is whole, else where the torn write at its end begins.
///
/// # Errors
/// Where it is damaged, when something readable comes after that.
fn scan(bytes: &[u8]) -> Result<Option<usize>, usize> {
    let mut at = 0;
    // Where the record that is being read began, when it has several pieces.
    let mut begun: Option<usize> = None;
    while at < bytes.len() {
        let rest_of_block = BLOCK_BYTES - at % BLOCK_BYTES;
        let end = (at + rest_of_block).min(bytes.len());
        let block = bytes.get(at..end).unwrap_or_default();
        let fits = |kind: u8| match kind {
            FULL | FIRST => begun.is_none(),
            _ => begun.is_some(),
        };
        match piece(block, rest_of_block) {
            Piece::Trailer => at = end,
            Piece::Record(kind, length) if fits(kind) => {
                match kind {
                    FIRST => begun = Some(at),
                    LAST => begun = None,
                    _ => {}
                }
                at += length;
            }
            Piece::Record(..) | Piece::Bad => {
                let torn = begun.unwrap_or(at);
                let is_torn = is_cut_short(bytes, at) || has_empty_sector(bytes, torn);
                return if is_torn && !readable_after(bytes, at) { Ok(Some(torn)) } else { Err(at) };
            }
        }
    }
    Ok(begun)
}

/// Whether the file ends before what is at `at` does.
fn is_cut_short(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some([.., l0, l1, kind]) = rest.first_chunk::<HEADER_BYTES>() else { return true };
    let length = HEADER_BYTES + usize::from(u16::from_le_bytes([*l0, *l1]));
    (FULL..=LAST).contains(kind) && length <= BLOCK_BYTES - at % BLOCK_BYTES && length > rest.len()
}

/// Whether a sector behind `from` holds only zeros: the disk never wrote it. A flipped bit leaves no such trace.
fn has_empty_sector(bytes: &[u8], from: usize) -> bool {
    let mut begin = from;
    while begin < bytes.len() {
        let end = (begin / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let sector = bytes.get(begin..end.min(bytes.len())).unwrap_or_default();
        if sector.len() >= SECTOR_MIN && sector.iter().all(|byte| *byte == 0) {
            return true;
        }
        begin = end;
    }
    false
}

/// Whether a whole record that begins a write lies behind `at`. A write that was cut short may have left later pieces of
/// its own on disk, but nothing that was written after it.
fn readable_after(bytes: &[u8], at: usize) -> bool {
    // Records may begin anywhere; a checksum that fits by chance is one in four thousand millions.
    let mut begin = at + 1;
    while begin + HEADER_BYTES < bytes.len() {
        let rest_of_block = BLOCK_BYTES - begin % BLOCK_BYTES;
        let end = (begin + rest_of_block).min(bytes.len());
        let block = bytes.get(begin..end).unwrap_or_default();
        // An empty record has a checksum of its own, but nothing is written like that.
        if let Piece::Record(FULL | FIRST, length) = piece(block, rest_of_block)
            && length > HEADER_BYTES
        {
            return true;
        }
        begin += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u8 = 3;

    /// A log file as RocksDB writes it: whole writes, split into pieces where a block ends.
    fn file(writes: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for write in writes {
            let mut rest = *write;
            let mut first = true;
            loop {
                let room = BLOCK_BYTES - out.len() % BLOCK_BYTES;
                if room < HEADER_BYTES {
                    out.resize(out.len() + room, 0);
                    continue;
                }
                let (now, later) = rest.split_at(rest.len().min(room - HEADER_BYTES));
                let kind = match (first, later.is_empty()) {
                    (true, true) => FULL,
                    (true, false) => FIRST,
                    (false, false) => MIDDLE,
                    (false, true) => LAST,
                };
                let crc = masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), now));
                out.extend_from_slice(&crc.to_le_bytes());
                out.extend_from_slice(&u16::try_from(now.len()).unwrap().to_le_bytes());
                out.push(kind);
                out.extend_from_slice(now);
                (rest, first) = (later, false);
                if rest.is_empty() {
                    break;
                }
            }
        }
        out
    }

    fn noise(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i * 7919 % 251).unwrap()).collect()
    }

    #[test]
    fn a_whole_file_is_whole_and_so_is_an_empty_one() {
        assert_eq!(scan(&[]), Ok(None));
        assert_eq!(scan(&file(&[b"one", &noise(100_000), b"three", &noise(32_761), b"five"])), Ok(None));
    }

    #[test]
    fn a_file_cut_anywhere_loses_its_last_write_only() {
        let writes: [&[u8]; 3] = [b"one", &noise(70_000), b"three"];
        let whole = file(&writes);
        let ends = [0, file(&writes[..1]).len(), file(&writes[..2]).len(), whole.len()];
        for keep in (0..whole.len()).step_by(97).chain(ends) {
            let complete = *ends.iter().rfind(|end| **end <= keep).unwrap();
            let found = scan(&whole[..keep]);
            // Zeros at the end of a block are no write: they may stay or go.
            let wanted = if complete == keep { None } else { Some(complete) };
            assert!(
                found == Ok(wanted) || (wanted.is_some() && keep - complete < HEADER_BYTES),
                "{keep}: {found:?}"
            );
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_also_in_the_last_write() {
        let whole = file(&[b"one", &noise(70_000), b"three"]);
        let last = whole.len() - 5 - HEADER_BYTES;
        for at in (0..last).step_by(101).chain(last..whole.len()) {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            // Only a length that grew cannot be told from the end of the file.
            let is_length = at == last + 4 || at == last + 5;
            assert!(scan(&changed).is_err() || is_length, "bit at {at}");
        }
        let long = file(&[b"one", &noise(70_000)]);
        let mut changed = long.clone();
        changed[40_000] ^= 1;
        assert!(scan(&changed).is_err());
    }

    #[test]
    fn a_last_write_with_a_sector_that_was_never_written_is_dropped() {
        let before = file(&[b"one"]).len();
        for hole in [(4096, 8192), (33_280, 33_792), (69_120, 69_632)] {
            let mut torn = file(&[b"one", &noise(70_000)]);
            torn[hole.0..hole.1].fill(0);
            assert_eq!(scan(&torn), Ok(Some(before)), "{hole:?}");
        }
    }

    #[test]
    fn a_zeroed_page_in_the_middle_is_damage() {
        let whole = file(&[b"one", &noise(9000), &noise(9000), &noise(9000), b"last"]);
        let mut changed = whole;
        changed[12_288..16_384].fill(0);
        assert!(scan(&changed).is_err());
    }

    #[test]
    fn zeros_after_the_end_are_cut_off() {
        let mut padded = file(&[b"one"]);
        let end = padded.len();
        padded.resize(50_000, 0);
        assert_eq!(scan(&padded), Ok(Some(end)));
    }

    #[test]
    fn later_pieces_of_the_torn_write_itself_are_no_damage() {
        let before = file(&[b"one"]).len();
        let mut torn = file(&[b"one", &noise(100_000)]);
        // The disk wrote the second block of it and not the first.
        torn[before..4096].fill(0);
        assert_eq!(scan(&torn), Ok(Some(before)));
    }

    #[test]
    fn a_torn_end_is_cut_and_damage_of_an_older_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (old, young) = (dir.path().join("000004.log"), dir.path().join("000011.log"));
        let whole = file(&[b"one", b"two"]);
        std::fs::write(&old, &whole).unwrap();
        std::fs::write(&young, &whole[..whole.len() - 1]).unwrap();
        std::fs::write(dir.path().join("LOG"), "nonsense").unwrap();
        assert!(check(dir.path()).unwrap().is_some());
        assert_eq!(std::fs::read(&young).unwrap(), file(&[b"one"]));
        assert_eq!(check(dir.path()), Ok(None));
        std::fs::write(&old, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(check(dir.path()), Err(StoreError::DamagedFiles { .. })));
    }

    #[test]
    fn no_directory_is_no_damage() {
        assert_eq!(check(Path::new("/nowhere/at/all")), Ok(None));
    }
}
