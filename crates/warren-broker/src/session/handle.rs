//! What a session is asked, and the way to it: bounded in inputs, and in bytes of messages.
//!
//! Before: `connection`. After: the session's task.

use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use warren_proto::session::{Answer, Ask, Subscribe, SubscribeOutcome};
use warren_types::{Position, PublishToken, QueueId, SessionPublish, SubscriptionId};

use crate::mailbox::Mailbox;
use crate::registry::ConnectionEvent;

/// Inputs that may wait for a session; each is a batch of one connection's read.
const INPUTS_MAX: usize = 128;
/// Bytes of messages that may wait for a session; one batch always may.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;
/// In such pieces they are counted.
const PIECE_BYTES: usize = 1024;

/// What connections ask of a session.
pub(crate) enum SessionInput {
    Publish {
        batch: Vec<(PublishToken, SessionPublish)>,
        /// Their room among those that wait for the session, once they have it.
        room: Option<OwnedSemaphorePermit>,
    },
    Subscribe {
        subscribe: Subscribe,
        mailbox: Arc<Mailbox<ConnectionEvent>>,
        outcome: oneshot::Sender<SubscribeOutcome>,
    },
    Unsubscribe(SubscriptionId),
    SetPrefetch {
        subscription: SubscriptionId,
        prefetch: u32,
    },
    Settle {
        queue: QueueId,
        positions: Vec<Position>,
        rejected: bool,
    },
    GiveBack {
        queue: QueueId,
        positions: Vec<Position>,
        failed: bool,
        delivered: bool,
    },
    Credit {
        subscription: SubscriptionId,
        messages: u32,
        bytes: u64,
    },
    Ask {
        ask: Ask,
        answer: oneshot::Sender<Answer>,
    },
    /// Tells when all that was settled and given back so far is recorded.
    Recorded(oneshot::Sender<()>),
}

impl SessionInput {
    /// Messages to publish.
    pub(crate) fn publish(batch: Vec<(PublishToken, SessionPublish)>) -> Self {
        Self::Publish { batch, room: None }
    }

    /// Bytes of messages in it.
    pub(crate) fn message_bytes(&self) -> usize {
        let Self::Publish { batch, .. } = self else { return 0 };
        batch.iter().map(|(_, publish)| publish.message.size()).sum()
    }

    /// How much room it takes, in pieces; none where that has no bound, or it has it already.
    fn pieces(&self) -> u32 {
        let Self::Publish { room: None, .. } = self else { return 0 };
        let bytes = self.message_bytes().clamp(1, WAITING_MAX_BYTES);
        u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX)
    }

    fn give_room(&mut self, permit: OwnedSemaphorePermit) {
        if let Self::Publish { room, .. } = self {
            *room = Some(permit);
        }
    }
}

/// The way to a session's task.
#[derive(Clone)]
pub(crate) struct SessionHandle {
    inputs: mpsc::Sender<SessionInput>,
    /// For messages that wait for it.
    room: Arc<Semaphore>,
}

impl SessionHandle {
    /// A session, and what it is to take.
    pub(super) fn new() -> (Self, mpsc::Receiver<SessionInput>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        (Self { inputs, room: Arc::new(Semaphore::new(WAITING_MAX_BYTES / PIECE_BYTES)) }, receiver)
    }

    /// A session that takes nothing: the node is stopping.
    pub(crate) fn stopped() -> Self {
        Self { inputs: mpsc::channel(1).0, room: Arc::new(Semaphore::new(1)) }
    }

    /// Sends it if there is room now; else it comes back. One for a session that is gone is dropped.
    pub(crate) fn offer(&self, mut input: SessionInput) -> Option<SessionInput> {
        let pieces = input.pieces();
        if pieces > 0 && !self.inputs.is_closed() {
            match Arc::clone(&self.room).try_acquire_many_owned(pieces) {
                Ok(permit) => input.give_room(permit),
                Err(_) => return Some(input),
            }
        }
        match self.inputs.try_send(input) {
            Ok(()) | Err(TrySendError::Closed(_)) => None,
            Err(TrySendError::Full(input)) => Some(input),
        }
    }

    /// Waits until its messages have room. Cancel safe.
    pub(crate) async fn make_room(&self, input: &mut SessionInput) {
        let pieces = input.pieces();
        if pieces == 0 {
            return;
        }
        tokio::select! {
            permit = Arc::clone(&self.room).acquire_many_owned(pieces) => {
                if let Ok(permit) = permit {
                    input.give_room(permit);
                }
            }
            () = self.inputs.closed() => {}
        }
    }

    pub(crate) fn inputs(&self) -> &mpsc::Sender<SessionInput> {
        &self.inputs
    }

    /// Waits until everything that was settled and given back so far is recorded, or the node is stopping.
    pub(crate) async fn recorded(&self) {
        let (told, recorded) = oneshot::channel();
        if self.inputs.send(SessionInput::Recorded(told)).await.is_ok() {
            let _stopping = recorded.await;
        }
    }

    /// Asks and waits. `None` when the node is stopping.
    pub(crate) async fn ask(&self, ask: Ask) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.inputs.send(SessionInput::Ask { ask, answer }).await.ok()?;
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn messages_that_wait_for_a_session_have_a_bound_in_bytes_and_one_batch_always_passes() {
        let batch = |bytes: usize| {
            let message = warren_types::Message { body: vec![0; bytes].into(), ..Default::default() };
            let token = PublishToken {
                connection: warren_types::ConnectionId(1),
                channel: warren_types::ChannelNumber(1),
                opening: 1,
                number: 0,
            };
            SessionInput::publish(vec![(token, SessionPublish { message, ..SessionPublish::default() })])
        };
        let (session, mut taken) = SessionHandle::new();
        assert!(session.offer(batch(2 * WAITING_MAX_BYTES)).is_none(), "larger than the bound, and alone");
        let mut second = session.offer(batch(1)).unwrap();
        assert!(session.offer(SessionInput::Unsubscribe(SubscriptionId(1))).is_none(), "no message");
        {
            let room = session.make_room(&mut second);
            tokio::pin!(room);
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut room).await.is_err());
            drop(taken.recv().await);
            room.await;
        }
        assert!(session.offer(second).is_none());
    }
}
