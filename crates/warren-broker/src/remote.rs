//! The leader's end of a session whose home is another node: frames from `warren-rpc` to the host's task and back.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::warn;
use warren_proto::operate::Question;
use warren_proto::session::{HomeFrame, LeaderFrame};
use warren_rpc::{CallError, SessionService};
use warren_types::{NodeId, QueueHost};

use crate::broker::Broker;
use crate::host::{HostHandle, HostInput};
use crate::mailbox::Mailbox;
use crate::operator::clients::answer;
use crate::session::tell_gone;

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
    async fn answer(&self, _from: NodeId, question: Bytes) -> Result<Bytes, CallError> {
        let broker = self.broker.upgrade().ok_or(CallError::Stopping)?;
        let question =
            Question::decode(&question).map_err(|error| CallError::NotUnderstood(error.to_string()))?;
        Ok(answer(&broker, question).await.encode())
    }

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
            () = pass_in(from, &handle, key, inbound) => {}
            () = pass_out(&answers, &outbound) => {}
        }
        answers.close();
        tell_gone(handle.inputs(), key);
    }
}

async fn pass_in(
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
