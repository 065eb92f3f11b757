//! A shard's replica that is not needed here any more goes, and with it the disk that it took. Its vote stays, and a guard:
//! whatever the caller must know of what was here, should the shard come back.

use bytes::Bytes;
use rocksdb::WriteBatch;
use warren_types::{GroupId, ShardId};

use super::Store;
use crate::keys::{self, Space};
use crate::{StoreError, checksum};

/// The state is gone and the log may not be.
const BEGUN: u8 = 0;
/// Everything is gone.
const DONE: u8 = 1;

fn name(shard: ShardId) -> String {
    format!("forgotten/{}", shard.0)
}

impl Store {
    /// Deletes all that is here of a shard but its vote, and keeps `guard` for [`Store::guard`]; whole or not at all, also
    /// when the node dies meanwhile. Nobody may use the shard's log or replica any more, and no checkpoint of it may be
    /// under way; asked for again, both are as new. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::Failed`].
    pub fn forget(&self, shard: ShardId, guard: &[u8]) -> Result<(), StoreError> {
        self.forget_state(shard, guard)?;
        self.forget_log(shard, guard)?;
        let rocks = &self.0.core.rocks;
        // How much of it was this shard's nobody has counted.
        self.0.reclaimer.freed(rocks.blob_bytes()?, rocks)
    }

    /// What was kept when the shard was last deleted here.
    ///
    /// # Errors
    /// [`StoreError::Disk`] or [`StoreError::DamagedState`].
    pub fn guard(&self, shard: ShardId) -> Result<Option<Bytes>, StoreError> {
        Ok(self.forgotten(shard)?.map(|(_, guard)| guard))
    }

    /// A node that died between the two halves of [`Store::forget`].
    pub(super) fn forget_on(&self, shard: ShardId) -> Result<(), StoreError> {
        match self.forgotten(shard)? {
            Some((BEGUN, guard)) => self.forget_log(shard, &guard),
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

    fn forget_state(&self, shard: ShardId, guard: &[u8]) -> Result<(), StoreError> {
        let core = &self.0.core;
        core.failure.check()?;
        let _one_at_a_time = self.0.checkpoint.lock();
        let state = core.rocks.state()?;
        let key = keys::blob(&name(shard));
        let space = |generation| Space { shard, generation };
        let mut batch = WriteBatch::default();
        batch.put_cf(state, &key, checksum::seal(&key, &[&[BEGUN], guard].concat()));
        batch.delete_cf(state, keys::applied(GroupId::from(shard)));
        batch.delete_range_cf(state, space(1).start(), space(u32::MAX).start());
        core.failure.note(core.rocks.write_state(batch).and_then(|()| core.rocks.flush_state()))?;
        self.0.replicas.lock().remove(&shard);
        Ok(())
    }

    fn forget_log(&self, shard: ShardId, guard: &[u8]) -> Result<(), StoreError> {
        let log = self.log(GroupId::from(shard))?;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // Nobody is gone: it is waited for below.
        log.forget(Box::new(move |outcome| tell.send(outcome).unwrap_or_default()));
        told.recv().unwrap_or(Err(StoreError::ShutDown))?;
        self.put_blob(&name(shard), &[&[DONE], guard].concat())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use warren_types::{LogIndex, NodeId, Term};

    use super::*;
    use crate::{LogEntry, StoreOptions};

    fn written(ask: impl FnOnce(crate::Done)) {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        ask(Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv().unwrap().unwrap();
    }

    #[test]
    fn a_log_whose_state_went_before_the_node_died_goes_when_it_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let (shard, vote) = (ShardId(3), Bytes::from_static(b"vote"));
        let group = GroupId::from(shard);
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let log = store.log(group).unwrap();
        let entry = |index| LogEntry {
            index: LogIndex(index),
            term: Term(1),
            node: NodeId(0),
            kind: 9,
            payload: Bytes::from_static(b"entry"),
        };
        written(|done| log.save_vote(vote.clone(), done));
        written(|done| log.append(vec![entry(1), entry(2)], done));
        store.forget_state(shard, b"guard").unwrap();
        assert!(log.first_last().is_some());
        drop(log);
        store.shutdown();

        for _ in 0..2 {
            let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
            let log = store.log(group).unwrap();
            assert_eq!((log.first_last(), log.vote()), (None, Some(vote.clone())));
            assert_eq!(store.forgotten(shard).unwrap(), Some((DONE, Bytes::from_static(b"guard"))));
            // What comes after is not forgotten with it.
            written(|done| log.append(vec![entry(7)], done));
            assert_eq!(log.first_last(), Some((LogIndex(7), LogIndex(7))));
            written(|done| log.forget(done));
            drop(log);
            store.shutdown();
        }
    }
}
