//! The catalogue as the rest of the node reads it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use warren_catalogue::Catalogue;
use warren_proto::catalogue::{Applied, Command};
use warren_types::{AmqpError, LogIndex, QueueId};

/// This node's catalogue: every read is local. Cheap to clone.
#[derive(Clone)]
pub struct CatalogueHandle(Arc<Inner>);

struct Inner {
    catalogue: RwLock<Catalogue>,
    revision: watch::Sender<u64>,
    applied: watch::Sender<LogIndex>,
    /// Queues that went since they were last taken.
    deleted: Mutex<Vec<QueueId>>,
}

impl CatalogueHandle {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            catalogue: RwLock::new(Catalogue::new()),
            revision: watch::Sender::new(0),
            applied: watch::Sender::new(LogIndex(0)),
            deleted: Mutex::default(),
        }))
    }

    /// The catalogue as it is now. Hold it briefly and never across an `await`: commands wait for it.
    pub fn read(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.0.catalogue.read()
    }

    /// The revision, and each change of it.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    /// The revision now.
    #[must_use]
    pub fn current_revision(&self) -> u64 {
        *self.0.revision.borrow()
    }

    /// The queues that have been deleted since the last call; for one caller, who looks whenever the revision
    /// changes.
    #[must_use]
    pub fn take_deleted(&self) -> Vec<QueueId> {
        std::mem::take(&mut *self.0.deleted.lock())
    }

    /// Waits until this node's catalogue has reached `revision`. Cancel safe.
    pub async fn wait_for(&self, revision: u64) {
        let mut revisions = self.0.revision.subscribe();
        // The sender lives as long as this handle.
        let _reached = revisions.wait_for(|now| *now >= revision).await;
    }

    pub(crate) async fn wait_applied(&self, index: LogIndex) {
        let mut applied = self.0.applied.subscribe();
        let _reached = applied.wait_for(|now| *now >= index).await;
    }

    pub(crate) fn apply(&self, command: &Command) -> Result<Applied, AmqpError> {
        let (outcome, revision) = {
            let mut catalogue = self.0.catalogue.write();
            let outcome = catalogue.apply(command);
            (outcome, catalogue.revision())
        };
        if let Ok(applied) = &outcome
            && !applied.deleted_queues.is_empty()
        {
            self.0.deleted.lock().extend_from_slice(&applied.deleted_queues);
        }
        self.set_revision(revision);
        outcome
    }

    pub(crate) fn replace(&self, catalogue: Catalogue, applied: LogIndex) {
        let revision = catalogue.revision();
        let before = std::mem::replace(&mut *self.0.catalogue.write(), catalogue);
        {
            let now = self.read();
            let gone = before
                .vhosts()
                .flat_map(|vhost| before.queues(vhost))
                .map(|spec| spec.id)
                .filter(|queue| now.queue_by_id(*queue).is_none());
            self.0.deleted.lock().extend(gone);
        }
        self.set_revision(revision);
        self.set_applied(applied);
    }

    pub(crate) fn set_applied(&self, index: LogIndex) {
        self.0.applied.send_replace(index);
    }

    fn set_revision(&self, revision: u64) {
        self.0.revision.send_if_modified(|now| {
            let changed = *now != revision;
            *now = revision;
            changed
        });
    }
}
