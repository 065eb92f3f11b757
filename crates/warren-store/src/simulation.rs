//! What lets a whole cluster run in one thread, with a disk and a clock that a seed decides about (`tests/simulation`).
//! Everything here belongs to the thread that calls [`begin`]; a node of a real cluster never does.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use crate::rocks::Rocks;
use crate::store::{Store, open_wal, parts};
use crate::sync::{Task, Writer};
pub use crate::wal::{LogDir, LogFile};
use crate::{StoreError, StoreOptions};

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    #[cfg(debug_assertions)]
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Begins a simulation on this thread: from now on what blocks is done where it is called for, and no thread is started.
pub fn begin() {
    ON.set(true);
}

/// Whether this thread simulates.
#[must_use]
pub fn is_on() -> bool {
    ON.get()
}

/// A mistake that a simulation must find. None of them can be made in a release build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The log is not synced.
    SkipSync,
    /// A leader takes its record for committed when it has proposed it.
    ConfirmEarly,
    /// Replicas do not remember how far a session has come.
    ForgetSequence,
    /// A leader opens its shard before an entry of its own term is applied.
    ServeEarly,
}

/// Makes the mistake on this thread from now on.
#[cfg(debug_assertions)]
pub fn plant(mistake: Planted) {
    PLANTED.set(Some(mistake));
}

/// Whether the mistake is to be made.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_planted(mistake: Planted) -> bool {
    PLANTED.get() == Some(mistake)
}

/// Never, in a release build.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_planted(_mistake: Planted) -> bool {
    false
}

/// The log's writer, without a thread: it writes when it is told to.
pub struct LogWriter {
    writer: Writer,
    batch: Vec<Task>,
}

impl LogWriter {
    /// Takes what waits, if something does that cannot wait longer. It is written by [`LogWriter::finish`]; until then
    /// nothing else can be taken.
    pub fn take(&mut self) -> bool {
        !self.batch.is_empty() || self.writer.core.queue.try_take(&mut self.batch)
    }

    /// Writes and syncs what was taken and tells who waits for it.
    pub fn finish(&mut self) {
        self.writer.finish(&mut self.batch);
    }

    /// Writes that the last batch was whole: nothing has come for a while.
    pub fn seal(&self) {
        self.writer.seal();
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // As when a process dies: nobody is told.
        self.writer.core.queue.abandon();
    }
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter").field("taken", &self.batch.len()).finish_non_exhaustive()
    }
}

/// Opens a store whose log is in `log` and is written only by the [`LogWriter`]. The database is in `dir`.
///
/// # Errors
/// As [`Store::open`].
pub fn open(
    dir: &Path,
    options: StoreOptions,
    log: Box<dyn LogDir>,
) -> Result<(Store, LogWriter), StoreError> {
    let rocks = Arc::new(Rocks::open(dir, &options)?);
    let wal = open_wal(log, &rocks, &options)?;
    let (core, logs, written, writer) = parts(rocks, wal, &options);
    let store = Store::assemble(core, logs, written, None, &options);
    Ok((store, LogWriter { writer, batch: Vec::new() }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use warren_types::{GroupId, LogIndex, NodeId, Term};

    use super::*;
    use crate::LogEntry;
    use crate::wal::DiskDir;

    #[test]
    fn what_was_appended_counts_as_written_only_when_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { log_segment_bytes: 256 << 10, ..StoreOptions::default() };
        let files = DiskDir::new(&dir.path().join("log"), options.log_segment_bytes).unwrap();
        let (store, mut writer) = open(dir.path(), options, Box::new(files)).unwrap();
        let log = store.log(GroupId(1)).unwrap();
        let entry = LogEntry {
            index: LogIndex(1),
            term: Term(1),
            node: NodeId(1),
            kind: 1,
            payload: Bytes::from_static(b"x"),
        };
        log.append(vec![entry], Box::new(|_| ()));
        let written = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&written);
        store.when_written(Box::new(move |outcome| tell.store(outcome.is_ok(), Ordering::Relaxed)));
        assert!(writer.take());
        assert!(!written.load(Ordering::Relaxed), "nothing is on disk yet");
        writer.finish();
        assert!(written.load(Ordering::Relaxed));
    }
}
