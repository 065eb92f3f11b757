//! A shard's replica that is not needed here any more goes, and with it the disk that it took. Its vote stays, and a guard:
//! whatever the caller must know of what was here, should the shard come back.
//!
//! Three steps, each durable before the next: the guard, the log ([`crate::GroupLog::forget`]), the state. A log that is blank
//! though the last step was not taken says that it is to be taken; one that is not has not been forgotten.

use bytes::Bytes;
use rocksdb::WriteBatch;
use warren_types::{GroupId, ShardId};

use super::Store;
use crate::keys::{self, Space};
use crate::log::Log;
use crate::{StoreError, checksum};

/// The log may be gone, the state is not.
const BEGUN: u8 = 0;
/// Everything is gone.
const DONE: u8 = 1;

fn name(shard: ShardId) -> String {
    format!("forgotten/{}", shard.0)
}

impl Store {
    /// Keeps `guard` for [`Store::guard`], before [`crate::GroupLog::forget`] and [`Store::end_forgetting`]. Until the last of
    /// these nobody may use the shard's log or replica any more, and no checkpoint of it may be under way; asked for
    /// again, both are as new. A node that dies meanwhile finds all of it or nothing. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Failed`].
    pub fn begin_forgetting(&self, shard: ShardId, guard: &[u8]) -> Result<(), StoreError> {
        self.put_blob(&name(shard), &[&[BEGUN], guard].concat())
    }

    /// Deletes the state of a shard whose log is forgotten. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Failed`].
    pub fn end_forgetting(&self, shard: ShardId) -> Result<(), StoreError> {
        let guard = self.guard(shard)?.unwrap_or_default();
        let core = &self.0.core;
        core.failure.check()?;
        {
            let _one_at_a_time = self.0.checkpoint.lock();
            let state = core.rocks.state()?;
            let key = keys::blob(&name(shard));
            let space = |generation| Space { shard, generation };
            let mut batch = WriteBatch::default();
            batch.put_cf(state, &key, checksum::seal(&key, &[&[DONE], &guard[..]].concat()));
            batch.delete_cf(state, keys::applied(GroupId::from(shard)));
            batch.delete_range_cf(state, space(1).start(), space(u32::MAX).start());
            core.failure.note(core.rocks.write_state(batch).and_then(|()| core.rocks.flush_state()))?;
            self.0.replicas.lock().remove(&shard);
        }
        // How much of it was this shard's nobody has counted.
        self.0.reclaimer.freed(core.rocks.blob_bytes()?, &core.rocks)
    }

    /// What was kept when the shard was last deleted here.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::DamagedState`].
    pub fn guard(&self, shard: ShardId) -> Result<Option<Bytes>, StoreError> {
        Ok(self.forgotten(shard)?.map(|(_, guard)| guard))
    }

    /// A log is opened: the node may have died before the last step.
    pub(super) fn forget_on(&self, log: &Log) -> Result<(), StoreError> {
        let Some(shard) = log.group.shard() else { return Ok(()) };
        let is_blank = log.state.lock().expected().is_none();
        match self.forgotten(shard)? {
            Some((BEGUN, _)) if is_blank => self.end_forgetting(shard),
            Some(_) | None => Ok(()),
        }
    }

    fn forgotten(&self, shard: ShardId) -> Result<Option<(u8, Bytes)>, StoreError> {
        let Some(bytes) = self.get_blob(&name(shard))? else { return Ok(None) };
        match bytes.first() {
            Some(how_far) => Ok(Some((*how_far, bytes.slice(1..)))),
            None => {
                Err(StoreError::DamagedState { group: GroupId::from(shard), what: "what was kept of it" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use warren_types::{LogIndex, NodeId, Term};

    use super::*;
    use crate::{Done, GroupLog, LogEntry, StoreOptions};

    const SHARD: ShardId = ShardId(3);

    fn written(ask: impl FnOnce(Done)) {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        ask(Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv().unwrap().unwrap();
    }

    fn open(dir: &std::path::Path) -> (Store, GroupLog) {
        let store = Store::open(dir, StoreOptions::default()).unwrap();
        let log = store.log(GroupId::from(SHARD)).unwrap();
        (store, log)
    }

    fn append(log: &GroupLog, index: u64) {
        let payload = Bytes::from_static(b"entry");
        let entry = LogEntry { index: LogIndex(index), term: Term(1), node: NodeId(0), kind: 9, payload };
        written(|done| log.append(vec![entry], done));
    }

    #[test]
    fn a_node_that_dies_between_the_steps_finds_all_or_nothing() {
        for steps in 1..=2 {
            let dir = tempfile::tempdir().unwrap();
            let vote = Bytes::from_static(b"vote");
            let (store, log) = open(dir.path());
            written(|done| log.save_vote(vote.clone(), done));
            append(&log, 1);
            store.begin_forgetting(SHARD, b"guard").unwrap();
            if steps == 2 {
                written(|done| log.forget(done));
            }
            drop(log);
            store.shutdown();

            let (store, log) = open(dir.path());
            assert_eq!(log.vote(), Some(vote.clone()));
            let (left, how_far) = match steps {
                1 => (Some((LogIndex(1), LogIndex(1))), BEGUN),
                _ => (None, DONE),
            };
            assert_eq!(log.first_last(), left);
            assert_eq!(store.forgotten(SHARD).unwrap(), Some((how_far, Bytes::from_static(b"guard"))));
            // What comes after is not forgotten with it.
            append(&log, 2);
            drop(log);
            store.shutdown();
            let (store, log) = open(dir.path());
            assert_eq!(log.first_last().unwrap().1, LogIndex(2));
            drop(log);
            store.shutdown();
        }
    }
}
