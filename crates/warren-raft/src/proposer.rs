//! Spine 9: the leader's records into Raft. Encoded once, several in flight, none
//! out of order (see [`Entry`](crate::types::Entry)). Before:
//! `warren-broker`'s shard task. After: `log_store` and `network`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use warren_proto::shard::Record;
use warren_types::{ShardId, Term};

use crate::NotLeader;
use crate::group::Raft;
use crate::types::{Data, LeaderTerm, Reply, Types};

/// Records that wait for Raft's task. A machine has a handful in flight; many more is a fault of it.
const QUEUE_RECORDS: usize = 1024;
/// Bytes in flight. Far beyond what a machine lets gather; keeps a fault from eating the memory.
const IN_FLIGHT_BYTES: usize = 256 << 20;

/// Takes the records of one leadership. Cheap to clone.
#[derive(Clone)]
pub struct Proposer(Arc<Inner>);

struct Inner {
    shard: ShardId,
    term: Term,
    queue: mpsc::Sender<Data>,
    in_flight: Arc<AtomicUsize>,
    over: CancellationToken,
}

impl std::fmt::Debug for Proposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (shard, term) = (self.0.shard, self.0.term);
        f.debug_struct("Proposer").field("shard", &shard).field("term", &term).finish_non_exhaustive()
    }
}

impl Proposer {
    /// `over` ends it, and is cancelled by it when a record is refused.
    pub(crate) fn start(raft: Raft, shard: ShardId, term: Term, over: CancellationToken) -> Self {
        let (queue, records) = mpsc::channel(QUEUE_RECORDS);
        let in_flight = Arc::new(AtomicUsize::new(0));
        tokio::spawn(forward(raft, term, records, Arc::clone(&in_flight), over.clone()));
        Self(Arc::new(Inner { shard, term, queue, in_flight, over }))
    }

    /// Proposes a record. Does not wait: applied records come back in this order through
    /// [`ShardLeadership::applied`](crate::ShardLeadership). A record that was taken is in the log of this term, or
    /// the leadership ends.
    ///
    /// # Errors
    /// [`NotLeader`] when the leadership is over, also when too much is in flight: then it ends by this.
    pub fn propose(&self, record: &Record) -> Result<(), NotLeader> {
        let inner = &*self.0;
        let refused = NotLeader(inner.shard);
        if inner.over.is_cancelled() {
            return Err(refused);
        }
        let data = Data::record(record.encode(), inner.over.clone());
        let bytes = data.len();
        let before = inner.in_flight.fetch_add(bytes, Ordering::Relaxed);
        if before > IN_FLIGHT_BYTES || inner.queue.try_send(data).is_err() {
            tracing::warn!(shard = %inner.shard, in_flight_bytes = before, "a record was not taken");
            inner.over.cancel();
            return Err(refused);
        }
        Ok(())
    }

    /// Bytes of records that were proposed and are not applied yet.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }
}

/// Hands records to Raft in order until the leadership is over.
async fn forward(
    raft: Raft,
    term: Term,
    mut records: mpsc::Receiver<Data>,
    in_flight: Arc<AtomicUsize>,
    over: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            next = records.recv() => next,
            () = over.cancelled() => return,
        };
        let Some(data) = next else { return };
        let bytes = data.len();
        let (settled, refused) = (Arc::clone(&in_flight), over.clone());
        let reply = Reply::new(move |result: openraft::raft::ClientWriteResult<Types>| {
            settled.fetch_sub(bytes, Ordering::Relaxed);
            if result.is_err() {
                // In Raft's own task, before it looks at the next one: that becomes a blank entry.
                refused.cancel();
            }
        });
        if raft.write(data).with_leader(LeaderTerm::new(term.0)).responder(reply).await.is_err() {
            over.cancel();
            return;
        }
    }
}
