//! The metadata group's state machine: commands become the catalogue that everybody on this node reads.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::alias;
use openraft::storage::EntryResponder;
use parking_lot::Mutex;
use warren_catalogue::Catalogue;
use warren_proto::catalogue::Command;
use warren_store::{CheckpointPart, Store};
use warren_types::GroupId;

use crate::apply::progress::Progress;
use crate::apply::{fatal, whole};
use crate::blocking;
use crate::catalogue::CatalogueHandle;
use crate::snapshot::SnapshotData;
use crate::types::{Kind, Response, SnapshotMeta, Types};
use crate::wire::{self, Malformed};

/// The blob that holds the catalogue as of its last checkpoint.
const BLOB: &str = "catalogue";

/// The metadata group's state machine.
pub(crate) struct CatalogueMachine {
    handle: CatalogueHandle,
    store: Store,
    inner: Mutex<Inner>,
}

struct Inner {
    progress: Progress,
    durable: Progress,
    /// Before openraft has started it must find no snapshot but what is applied.
    started: bool,
}

impl CatalogueMachine {
    /// The catalogue as of the last checkpoint, in `handle`. Blocks.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub(crate) fn recover(store: &Store, handle: CatalogueHandle) -> Result<Arc<Self>, io::Error> {
        let mut progress = Progress::default();
        let (place, blob) =
            (store.place(GroupId::METADATA).map_err(fatal)?, store.get_blob(BLOB).map_err(fatal)?);
        if let (Some(place), Some(blob)) = (place, blob) {
            let membership = wire::decode_stored_membership(place.raft_meta).map_err(fatal)?;
            progress = Progress::stored(place.applied, place.term, membership);
            handle.replace(Catalogue::decode(&blob).map_err(fatal)?, place.applied);
        }
        let inner = Inner { progress: progress.clone(), durable: progress, started: false };
        Ok(Arc::new(Self { handle, store: store.clone(), inner: Mutex::new(inner) }))
    }

    pub(crate) fn started(&self) {
        self.inner.lock().started = true;
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

    pub(crate) fn checkpoint_part(&self) -> Option<(CheckpointPart, Progress)> {
        let (progress, bytes) = {
            let inner = self.inner.lock();
            if inner.progress == inner.durable {
                return None;
            }
            (inner.progress.clone(), self.handle.read().encode().into())
        };
        Some((part(&progress, bytes), progress))
    }

    pub(crate) async fn apply<Strm>(&self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let mut inner = self.inner.lock();
            let response = match entry.payload.kind() {
                Kind::Blank => Response::Done,
                Kind::Membership => {
                    if let Some(membership) = openraft::entry::RaftPayload::get_membership(&entry.payload) {
                        inner.progress.membership =
                            crate::types::StoredMembership::new(Some(entry.log_id), membership);
                    }
                    Response::Done
                }
                Kind::Record => return Err(fatal(Malformed("a record in the metadata group"))),
                Kind::Command => {
                    let command = Command::decode(entry.payload.data()).map_err(fatal)?;
                    Response::Outcome(self.handle.apply(&command))
                }
            };
            inner.progress.applied = Some(entry.log_id);
            self.handle.set_applied(inner.progress.index());
            drop(inner);
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        Ok(())
    }

    pub(crate) async fn install(&self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        let bytes = whole(data)?;
        let catalogue = Catalogue::decode(&bytes).map_err(fatal)?;
        let progress = Progress { applied: meta.last_log_id, membership: meta.last_membership.clone() };
        // Durable before it counts: openraft purges the log up to here right after.
        let (store, part) = (self.store.clone(), part(&progress, bytes));
        let written = blocking(move || store.checkpoint(vec![part])).await;
        written.map_err(io::Error::other)?.map_err(fatal)?;
        self.handle.replace(catalogue, progress.index());
        let mut inner = self.inner.lock();
        inner.progress = progress.clone();
        inner.durable = progress;
        Ok(())
    }

    pub(crate) async fn snapshot(&self) -> Result<Option<alias::SnapshotOf<Types, SnapshotData>>, io::Error> {
        let inner = self.inner.lock();
        if !inner.started || inner.progress.applied.is_none() {
            return Ok(None);
        }
        let meta = inner.progress.snapshot_meta();
        let snapshot = SnapshotData::Whole(self.handle.read().encode().into());
        Ok(Some(alias::SnapshotOf::<Types, SnapshotData> { meta, snapshot }))
    }
}

/// The catalogue's share of a checkpoint.
fn part(progress: &Progress, bytes: Bytes) -> CheckpointPart {
    let raft_meta = wire::encode_stored_membership(&progress.membership);
    CheckpointPart::blob(GroupId::METADATA, progress.index(), progress.term(), raft_meta, BLOB, bytes)
}
