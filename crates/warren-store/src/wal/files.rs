//! The log's directory. What is on disk and what is not is this module's business; `LogDir` is a trait so that tests
//! can put a disk below the log that forgets what was not synced.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

/// Files kept for later segments: a file whose blocks are written already is synced in about half the time.
const SPARES: usize = 2;

/// An open segment.
pub trait LogFile: Send + Sync {
    /// Writes all of `parts`, one after the other. Durable after [`LogFile::sync`]. One caller at a time.
    ///
    /// # Errors
    /// What the disk says; how much is written is then unknown.
    fn write(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Fills `buffer`.
    ///
    /// # Errors
    /// What the disk says, or [`io::ErrorKind::UnexpectedEof`].
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// What is written is durable when this returns.
    ///
    /// # Errors
    /// What the disk says; nothing may be taken for durable afterwards.
    fn sync(&self) -> io::Result<()>;

    /// Bytes that can be written without growing.
    fn size(&self) -> u64;
}

/// Where segments are.
pub trait LogDir: Send + Sync {
    /// The numbers of the segments that are there, in any order.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self) -> io::Result<Vec<u64>>;

    /// Opens a segment.
    ///
    /// # Errors
    /// What the disk says.
    fn open(&self, number: u64) -> io::Result<Arc<dyn LogFile>>;

    /// A file for a new segment, of at least `size` bytes whatever they are. Its name is durable when this returns.
    ///
    /// # Errors
    /// What the disk says: it may be full.
    fn create(&self, number: u64, size: u64) -> io::Result<Arc<dyn LogFile>>;

    /// The segment is not needed; the file may be used again if nobody reads it.
    ///
    /// # Errors
    /// What the disk says.
    fn retire(&self, number: u64, unread: bool) -> io::Result<()>;
}

/// A directory of the file system.
pub(crate) struct DiskDir {
    path: PathBuf,
    /// Files of this size are used again.
    size: u64,
    spares: Mutex<Vec<PathBuf>>,
}

impl DiskDir {
    /// Makes the directory if it is not there.
    pub(crate) fn new(path: &Path, size: u64) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        let mut spares = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if number_of(&entry.path(), "spare").is_none() {
                continue;
            }
            if entry.metadata()?.len() == size && spares.len() < SPARES {
                spares.push(entry.path());
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { path: path.to_owned(), size, spares: Mutex::new(spares) })
    }

    fn name(&self, number: u64, kind: &str) -> PathBuf {
        self.path.join(format!("{number:016x}.{kind}"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn number_of(path: &Path, kind: &str) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let (number, found) = name.split_once('.')?;
    (found == kind && number.len() == 16).then(|| u64::from_str_radix(number, 16).ok()).flatten()
}

impl LogDir for DiskDir {
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            numbers.extend(number_of(&entry?.path(), "log"));
        }
        Ok(numbers)
    }

    fn open(&self, number: u64) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.name(number, "log"))?;
        let size = file.metadata()?.len();
        Ok(Arc::new(DiskFile { file, size }))
    }

    fn create(&self, number: u64, size: u64) -> io::Result<Arc<dyn LogFile>> {
        let path = self.name(number, "log");
        let spare = if size <= self.size { self.spares.lock().pop() } else { None };
        if let Some(spare) = spare {
            std::fs::rename(spare, &path)?;
        } else {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            let size = size.max(self.size);
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
                // Not every file system can: then blocks are found as they are written.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size)?,
                other => other?,
            }
            file.sync_all()?;
        }
        self.sync()?;
        self.open(number)
    }

    fn retire(&self, number: u64, unread: bool) -> io::Result<()> {
        let path = self.name(number, "log");
        let mut spares = self.spares.lock();
        if unread && spares.len() < SPARES && std::fs::metadata(&path)?.len() == self.size {
            let spare = self.name(number, "spare");
            std::fs::rename(path, &spare)?;
            spares.push(spare);
            return Ok(());
        }
        std::fs::remove_file(path)
    }
}

struct DiskFile {
    file: File,
    size: u64,
}

impl LogFile for DiskFile {
    // By the C library and not past it: what is put below a program to make its disk fail sits there.
    fn write(&self, offset: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        /// `IOV_MAX` of Linux.
        const MOST: usize = 1024;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        while !parts.is_empty() {
            let now = parts.get(..parts.len().min(MOST)).unwrap_or_default();
            match file.write_vectored(now) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> u64 {
        self.size
    }
}
