//! The leader's end of a session whose home is another node: frames from `warren-rpc` to the host's task and back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::warn;
use warren_proto::session::{Ask, HomeFrame, LeaderFrame, Subscribe};
use warren_rpc::SessionService;
use warren_types::{NodeId, QueueHost, QueueId};

use crate::broker::Broker;
use crate::host::{HostHandle, HostInput};
use crate::mailbox::Mailbox;
use crate::session::tell_gone;

/// Longest wait for this node's catalogue to learn of a queue that a home already knows.
const CATALOGUE_WAIT: Duration = Duration::from_secs(10);

/// Serves sessions to other nodes.
pub(crate) struct RemoteSessions {
    // The broker owns the server that owns this.
    broker: Weak<Broker>,
}

impl RemoteSessions {
    pub(crate) fn new(broker: &Arc<Broker>) -> Self {
        Self { broker: Arc::downgrade(broker) }
    }
}

#[async_trait]
impl SessionService for RemoteSessions {
    async fn session(
        &self,
        from: NodeId,
        host: QueueHost,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) {
        let Some(broker) = self.broker.upgrade() else { return };
        let Some(handle) = broker.hosts().get(host) else {
            // The home looks again; if it is gone already it need not be told.
            let _gone = outbound.send(LeaderFrame::NotLeader.encode()).await;
            return;
        };
        let key = broker.hosts().next_key();
        let answers = Arc::new(Mailbox::new());
        let open = HostInput::Open { key, answers: Arc::clone(&answers) };
        if handle.inputs().send(open).await.is_err() {
            return;
        }
        tokio::select! {
            () = pass_in(&broker, from, &handle, key, inbound) => {}
            () = pass_out(&answers, &outbound) => {}
        }
        answers.close();
        tell_gone(handle.inputs(), key);
    }
}

async fn pass_in(
    broker: &Broker,
    from: NodeId,
    handle: &HostHandle,
    key: warren_queue::SessionKey,
    mut inbound: mpsc::Receiver<Bytes>,
) {
    while let Some(bytes) = inbound.recv().await {
        let frame = match HomeFrame::decode(bytes) {
            Ok(frame) => frame,
            Err(refused) => {
                warn!(node = %from, %refused, "a home's frame makes no sense: ending its session");
                return;
            }
        };
        // A queue that this node's catalogue does not know *yet* must not look deleted.
        if let Some(queue) = newest_queue(&frame)
            && !broker.knows_queue_number(queue, CATALOGUE_WAIT).await
        {
            warn!(node = %from, %queue, "the catalogue is behind a home's: ending its session for now");
            return;
        }
        if handle.inputs().send(HostInput::Frame(key, frame)).await.is_err() {
            return;
        }
    }
}

async fn pass_out(answers: &Mailbox<LeaderFrame>, outbound: &mpsc::Sender<Bytes>) {
    let mut frames = Vec::new();
    while answers.recv_many(&mut frames, 64).await > 0 {
        for frame in frames.drain(..) {
            let last = frame == LeaderFrame::NotLeader;
            if outbound.send(frame.encode()).await.is_err() || last {
                return;
            }
        }
    }
}

/// The highest queue number that a frame names where an unknown one would be taken for a deleted one.
fn newest_queue(frame: &HomeFrame) -> Option<QueueId> {
    match frame {
        HomeFrame::Attach(attach) => attach.subscriptions.iter().map(|subscribe| subscribe.queue).max(),
        HomeFrame::Publish { messages, .. } => {
            messages.iter().flat_map(|publish| publish.queues.iter().copied()).max()
        }
        HomeFrame::Subscribe(Subscribe { queue, .. }) => Some(*queue),
        HomeFrame::Request { ask, .. } => match ask {
            Ask::Get { queue, .. }
            | Ask::Info { queue }
            | Ask::Purge { queue }
            | Ask::CheckDelete { queue, .. } => Some(*queue),
            Ask::List => None,
        },
        HomeFrame::Unsubscribe { .. }
        | HomeFrame::Settle { .. }
        | HomeFrame::Return { .. }
        | HomeFrame::Credit { .. }
        | HomeFrame::SetPrefetch { .. } => None,
    }
}
