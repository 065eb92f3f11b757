//! Who leads what, as this node learns of it; and the leaderships of its own, opened to whoever hosts the queues.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use warren_proto::shard::{AppliedRecord, OpeningState};
use warren_store::Replica;
use warren_types::{LogIndex, NodeId, ShardId, Term};

use crate::Proposer;
use crate::apply::Machine;
use crate::apply::shard::{Feed, ShardMachine};
use crate::group::Group;
use crate::node::Shared;
use crate::rumours;
use crate::types::store_index;

/// Batches of applied records that may wait for their consumer before applying waits.
const FEED_BATCHES: usize = 64;
/// How often a leader looks whether a majority still answers it.
const QUORUM_CHECK: Duration = Duration::from_millis(300);

/// After a leadership could not be opened once more, before the next try.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// A change of what this node leads.
pub enum Leadership {
    /// This node hosts the shard's queues from now on.
    Elected(ShardLeadership),
    /// It does not any more: another node leads, no majority answers, or a record was refused. For one term there may
    /// be several pairs of `Elected` and `Lost`.
    Lost {
        /// The shard.
        shard: ShardId,
        /// The leadership's term.
        term: Term,
    },
}

/// What a leader needs to host a shard's queues.
pub struct ShardLeadership {
    /// The shard.
    pub shard: ShardId,
    /// The leader's term.
    pub term: Term,
    /// The replica's state: everything of earlier terms is applied.
    pub opening: OpeningState,
    /// Every record applied after `opening`, in order and without a gap. Bounded: applying waits for the consumer.
    pub applied: mpsc::Receiver<Vec<AppliedRecord>>,
    /// Takes records.
    pub proposer: Proposer,
    /// Messages are loaded from it.
    pub replica: Replica,
}

/// A leadership of this node.
struct Leading {
    shard: ShardId,
    term: Term,
    over: CancellationToken,
    stage: Stage,
}

enum Stage {
    /// Waits until everything of earlier terms, or before a barrier, is applied.
    Opening(oneshot::Receiver<OpeningState>, mpsc::Receiver<Vec<AppliedRecord>>),
    /// It is.
    Ready(OpeningState, mpsc::Receiver<Vec<AppliedRecord>>),
    /// Between two stages.
    Ended,
    /// Given to the consumer.
    Open,
}

/// Follows one group until the node stops or the group fails.
pub(crate) async fn follow(shared: Arc<Shared>, group: Arc<Group>) {
    let mut metrics = group.raft.server_metrics();
    let mut follower = Follower { shared: Arc::clone(&shared), group, leading: None, last: None };
    loop {
        follower.look().await;
        tokio::select! {
            changed = metrics.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            () = follower.own_change() => {}
            () = shared.stop.cancelled() => break,
        }
    }
    follower.end().await;
    if follower.group.is_retired() {
        rumours::recall(&shared, follower.group.id);
        return;
    }
    if !shared.stop.is_cancelled() {
        let state = follower.group.raft.metrics().borrow_watched().running_state.clone();
        let reason = match state {
            Ok(()) => "its Raft task ended".to_owned(),
            Err(error) => error.to_string(),
        };
        shared.fail(&format!("group {}: {reason}", follower.group.id));
    }
}

struct Follower {
    shared: Arc<Shared>,
    group: Arc<Group>,
    leading: Option<Leading>,
    /// The term of the last opening.
    last: Option<Term>,
}

impl Follower {
    /// Compares what is with what was announced.
    async fn look(&mut self) {
        let (leader, term, leads) = {
            let metrics = self.group.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let term = Term(metrics.vote.leader_id.term);
            (metrics.current_leader.map(NodeId), term, metrics.state.is_leader())
        };
        self.shared.set_leader(self.group.id, leader.map(|leader| (leader, term)));
        let Machine::Shard(machine) = &self.group.machine else { return };
        let machine = Arc::clone(machine);
        let hosts = leads && !self.group.has_lost_quorum();
        let over = self
            .leading
            .as_ref()
            .is_some_and(|leading| !hosts || leading.term != term || leading.over.is_cancelled());
        if over {
            self.end().await;
        }
        if hosts && self.leading.is_none() {
            self.begin(term, &machine);
        }
        self.announce(&machine).await;
    }

    /// Resolves when something may have changed that Raft's own metrics do not tell.
    async fn own_change(&mut self) {
        let Some(leading) = &mut self.leading else {
            // A leader without a majority has no leadership: it looks whether it is back.
            tokio::time::sleep(QUORUM_CHECK).await;
            return;
        };
        let ready = async {
            match &mut leading.stage {
                Stage::Opening(ready, _) => ready.await,
                Stage::Ready(..) | Stage::Ended | Stage::Open => std::future::pending().await,
            }
        };
        let opening = tokio::select! {
            opening = ready => opening,
            () = leading.over.cancelled() => return,
            () = tokio::time::sleep(QUORUM_CHECK) => return,
        };
        match (std::mem::replace(&mut leading.stage, Stage::Ended), opening) {
            (Stage::Opening(_, applied), Ok(opening)) => leading.stage = Stage::Ready(opening, applied),
            (Stage::Opening(..) | Stage::Ready(..) | Stage::Ended | Stage::Open, _) => leading.over.cancel(),
        }
    }

    fn begin(&mut self, term: Term, machine: &Arc<ShardMachine>) {
        let Some(shard) = self.group.id.shard() else { return };
        let first = self.last.replace(term) != Some(term);
        let over = CancellationToken::new();
        let (records, applied) = mpsc::channel(FEED_BATCHES);
        let feed = Feed { records, over: over.clone() };
        let ready = if first {
            // Its own first entry, which Raft proposes at every election, is the barrier.
            machine.open(term.0, LogIndex(0), feed)
        } else {
            let (ready, opened) = oneshot::channel();
            tokio::spawn(reopen(Arc::clone(&self.group), Arc::clone(machine), term, feed, ready));
            opened
        };
        self.leading = Some(Leading { shard, term, over, stage: Stage::Opening(ready, applied) });
    }

    async fn announce(&mut self, machine: &ShardMachine) {
        let Some(leading) = &mut self.leading else { return };
        let (opening, applied) = match std::mem::replace(&mut leading.stage, Stage::Open) {
            Stage::Ready(opening, applied) => (opening, applied),
            stage @ (Stage::Opening(..) | Stage::Ended | Stage::Open) => {
                leading.stage = stage;
                return;
            }
        };
        let (shard, term) = (leading.shard, leading.term);
        let raft = self.group.raft.clone();
        let proposer = Proposer::start(raft, shard, term, leading.over.clone());
        let replica = machine.replica().clone();
        tracing::info!(%shard, %term, "leading");
        let elected = ShardLeadership { shard, term, opening, applied, proposer, replica };
        self.shared.tell(Leadership::Elected(elected)).await;
    }

    async fn end(&mut self) {
        let Some(leading) = self.leading.take() else { return };
        leading.over.cancel();
        if let Machine::Shard(machine) = &self.group.machine {
            machine.close();
        }
        match leading.stage {
            Stage::Opening(..) | Stage::Ready(..) | Stage::Ended => {}
            Stage::Open => {
                let (shard, term) = (leading.shard, leading.term);
                tracing::info!(%shard, %term, "no longer leading");
                self.shared.tell(Leadership::Lost { shard, term }).await;
            }
        }
    }
}

/// Opens a shard once more in the same term, behind everything that was proposed before.
async fn reopen(
    group: Arc<Group>,
    machine: Arc<ShardMachine>,
    term: Term,
    feed: Feed,
    ready: oneshot::Sender<OpeningState>,
) {
    let over = feed.over.clone();
    let barrier = tokio::select! {
        written = group.raft.write_blank() => written,
        () = over.cancelled() => return,
    };
    let barrier = match barrier {
        Ok(written) if *written.log_id.leader_id == term.0 => store_index(written.log_id.index),
        Ok(_) | Err(_) => {
            // While it hands its leadership over Raft refuses at once: without a pause this would be asked all the time.
            tokio::time::sleep(REOPEN_PAUSE).await;
            over.cancel();
            return;
        }
    };
    let opened = machine.open(term.0, barrier, feed);
    if let Ok(opening) = opened.await {
        // The leadership may be over: then nobody wants it.
        drop(ready.send(opening));
    }
}
