//! A shard's state machine: records become the replica's state; on the leader each applied record also goes to
//! whoever hosts the queues.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::alias;
use openraft::entry::RaftPayload;
use openraft::storage::EntryResponder;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use warren_proto::shard::{AppliedRecord, OpeningState};
use warren_store::simulation::{self, Planted};
use warren_store::{CheckpointPart, Replica, StoreError};
use warren_types::LogIndex;

use crate::apply::fatal;
use crate::apply::progress::Progress;
use crate::blocking;
use crate::snapshot::SnapshotData;
use crate::types::{Entry, Kind, Response, SnapshotMeta, StoredMembership, Types, store_index};
use crate::wire::{self, Malformed};

/// Applied records that are passed on at once.
const FEED_RECORDS: usize = 64;

/// Where applied records go while this node leads.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) records: mpsc::Sender<Vec<AppliedRecord>>,
    /// The leadership is over: nobody waits for them any more.
    pub(crate) over: CancellationToken,
}

/// A leadership that waits until everything of earlier terms is applied.
struct Opening {
    term: u64,
    after: LogIndex,
    feed: Feed,
    ready: oneshot::Sender<OpeningState>,
}

/// A shard's state machine.
pub(crate) struct ShardMachine {
    replica: Replica,
    inner: Mutex<Inner>,
}

struct Inner {
    progress: Progress,
    durable: Progress,
    opening: Option<Opening>,
    feed: Option<Feed>,
    /// Before openraft has started it must find no snapshot but what is applied.
    started: bool,
}

impl ShardMachine {
    /// The replica as of its last checkpoint.
    ///
    /// # Errors
    /// When what Raft stored with it cannot be read.
    pub(crate) fn recover(replica: Replica) -> Result<Arc<Self>, io::Error> {
        let (index, term) = replica.applied();
        let membership = wire::decode_stored_membership(replica.raft_meta()).map_err(fatal)?;
        let progress = Progress::stored(index, term, membership);
        let inner = Inner {
            progress: progress.clone(),
            durable: progress,
            opening: None,
            feed: None,
            started: false,
        };
        Ok(Arc::new(Self { replica, inner: Mutex::new(inner) }))
    }

    pub(crate) fn started(&self) {
        self.inner.lock().started = true;
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(crate) fn progress(&self) -> Progress {
        self.inner.lock().progress.clone()
    }

    pub(crate) fn durable(&self) -> Progress {
        self.inner.lock().durable.clone()
    }

    pub(crate) fn set_durable(&self, progress: Progress) {
        self.inner.lock().durable = progress;
    }

    pub(crate) fn checkpoint_part(
        &self,
        purge_up_to: LogIndex,
        budget: &mut usize,
    ) -> Result<Option<(CheckpointPart, Progress)>, StoreError> {
        let progress = self.progress();
        let has_nothing_to_move = purge_up_to.min(progress.index()) <= self.replica.moved();
        if progress.index() == self.durable().index() && has_nothing_to_move {
            return Ok(None);
        }
        // It may cover more than that by the time it is taken; what openraft is told may be less than what is durable.
        let part = self.replica.checkpoint_part(purge_up_to, budget)?;
        Ok(Some((part, progress)))
    }

    /// Opens the shard to a consumer once an entry of `term` and index `after` or later is applied: the state as
    /// of then is sent, and every record after it goes to `feed`.
    pub(crate) fn open(&self, term: u64, after: LogIndex, feed: Feed) -> oneshot::Receiver<OpeningState> {
        let (ready, opened) = oneshot::channel();
        let mut inner = self.inner.lock();
        inner.feed = None;
        inner.opening = Some(Opening { term, after, feed, ready });
        self.try_open(&mut inner);
        opened
    }

    /// Ends what [`ShardMachine::open`] began.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.opening = None;
        inner.feed = None;
    }

    fn try_open(&self, inner: &mut Inner) {
        let (term, index) = (inner.progress.term().0, inner.progress.index());
        let is_ready = |opening: &mut Opening| {
            (opening.term == term && index >= opening.after) || simulation::is_planted(Planted::ServeEarly)
        };
        if let Some(opening) = inner.opening.take_if(is_ready) {
            let Opening { feed, ready, .. } = opening;
            // Nobody waits any more: the leadership was lost meanwhile.
            if ready.send(self.replica.opening_state()).is_ok() {
                inner.feed = Some(feed);
            }
        }
    }

    pub(crate) async fn apply<Strm>(&self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let mut batch: Vec<AppliedRecord> = Vec::new();
        let mut target: Option<Feed> = None;
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            {
                let mut inner = self.inner.lock();
                let applied = self.apply_one(&mut inner, &entry)?;
                if let (Some(applied), Some(feed)) = (applied, &inner.feed) {
                    let same = target.as_ref().is_some_and(|to| to.records.same_channel(&feed.records));
                    if !same {
                        // What is left for an older consumer: it is gone.
                        batch.clear();
                        target = Some(feed.clone());
                    }
                    batch.push(applied);
                }
                self.try_open(&mut inner);
            }
            if let Some(responder) = responder {
                responder.send(Response::Done);
            }
            if batch.len() >= FEED_RECORDS {
                self.pass_on(target.as_ref(), &mut batch).await;
            }
        }
        self.pass_on(target.as_ref(), &mut batch).await;
        Ok(())
    }

    /// The consumer's pace is this group's pace; other groups do not notice.
    async fn pass_on(&self, target: Option<&Feed>, batch: &mut Vec<AppliedRecord>) {
        let records = std::mem::take(batch);
        let Some(feed) = target.filter(|_| !records.is_empty()) else { return };
        tokio::select! {
            sent = feed.records.send(records) => {
                if sent.is_err() {
                    feed.over.cancel();
                }
            }
            () = feed.over.cancelled() => {}
        }
    }

    fn apply_one(&self, inner: &mut Inner, entry: &Entry) -> Result<Option<AppliedRecord>, io::Error> {
        let (index, term) = (store_index(entry.log_id.index), *entry.log_id.leader_id);
        let stored_term = warren_types::Term(term);
        let mut applied = None;
        match entry.payload.kind() {
            Kind::Blank => self.replica.set_applied(index, stored_term).map_err(fatal)?,
            Kind::Membership => {
                let Some(membership) = entry.payload.get_membership() else {
                    return Err(fatal(Malformed("membership")));
                };
                let membership = StoredMembership::new(Some(entry.log_id), membership);
                let meta = wire::encode_stored_membership(&membership);
                self.replica.set_applied_with(index, stored_term, meta).map_err(fatal)?;
                inner.progress.membership = membership;
            }
            Kind::Record => {
                let record = entry.payload.data().clone();
                applied = Some(self.replica.apply(index, stored_term, record).map_err(fatal)?);
            }
            Kind::Command => return Err(fatal(Malformed("a command in a shard"))),
        }
        inner.progress.applied = Some(entry.log_id);
        Ok(applied)
    }

    pub(crate) async fn install(&self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        let SnapshotData::Incoming(incoming) = data else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a snapshot of another kind of group"));
        };
        let installed = blocking(move || incoming.finish()).await;
        let installed = installed.map_err(io::Error::other)?.map_err(fatal)?;
        let membership = wire::decode_stored_membership(installed.raft_meta).map_err(fatal)?;
        let progress = Progress::stored(installed.applied, installed.term, membership);
        if progress.applied != meta.last_log_id {
            return Err(fatal(Malformed("index of a snapshot")));
        }
        let mut inner = self.inner.lock();
        inner.progress = progress.clone();
        inner.durable = progress;
        // A leader installs no snapshots.
        inner.feed = None;
        inner.opening = None;
        Ok(())
    }

    pub(crate) async fn snapshot(&self) -> Result<Option<alias::SnapshotOf<Types, SnapshotData>>, io::Error> {
        let inner = self.inner.lock();
        if !inner.started || inner.progress.applied.is_none() {
            return Ok(None);
        }
        let meta = inner.progress.snapshot_meta();
        // Frozen here, under the lock: of the same entry.
        let reader = self.replica.snapshot().map_err(fatal)?;
        Ok(Some(alias::SnapshotOf::<Types, SnapshotData> {
            meta,
            snapshot: SnapshotData::Outgoing(Box::new(reader)),
        }))
    }
}
