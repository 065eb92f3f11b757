//! Commands to the metadata group and linearizable reads of the catalogue, from any node.

use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::errors::RaftError;
use tokio::time::Instant;
use warren_proto::catalogue::{Applied, Command, Outcome};
use warren_rpc::CallError;
use warren_types::{AmqpError, GroupId, LogIndex, NodeId};

use crate::ProposeError;
use crate::group::Group;
use crate::member::kind;
use crate::node::Shared;
use crate::types::{ClientWriteError, Data, Response, store_index};

/// How long one try may take before the leader is looked up again.
const TRY: Duration = Duration::from_secs(3);
/// Pause before a leader is asked again that could not.
const PAUSE: Duration = Duration::from_millis(40);

/// What one try came to.
enum Tried<T> {
    Done(T),
    Again,
    Stopping,
}

impl<T> Tried<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Tried<U> {
        match self {
            Self::Done(answer) => Tried::Done(change(answer)),
            Self::Again => Tried::Again,
            Self::Stopping => Tried::Stopping,
        }
    }
}

/// What the metadata leader is asked.
enum Question {
    Propose(Bytes),
    ReadIndex,
}

/// Its answer.
enum Answer {
    Outcome(Result<Applied, AmqpError>),
    Index(LogIndex),
}

/// Carries a command out and waits until this node sees what it did.
pub(crate) async fn propose(
    shared: &Shared,
    command: &Command,
    deadline: Duration,
) -> Result<Result<Applied, AmqpError>, ProposeError> {
    let until = Instant::now() + deadline;
    match ask(shared, &Question::Propose(command.encode()), until).await? {
        Answer::Outcome(Ok(applied)) => {
            let seen = shared.catalogue.wait_for(applied.revision);
            in_time(shared, until, seen).await?;
            Ok(Ok(applied))
        }
        Answer::Outcome(Err(refusal)) => Ok(Err(refusal)),
        Answer::Index(_) => Err(timed_out(shared)),
    }
}

/// Waits until this node's catalogue is as new as the cluster's at the moment of the call.
pub(crate) async fn linearize(shared: &Shared, deadline: Duration) -> Result<(), ProposeError> {
    let until = Instant::now() + deadline;
    match ask(shared, &Question::ReadIndex, until).await? {
        Answer::Index(index) => in_time(shared, until, shared.catalogue.wait_applied(index)).await,
        Answer::Outcome(_) => Err(timed_out(shared)),
    }
}

fn timed_out(shared: &Shared) -> ProposeError {
    ProposeError::TimedOut { leader: shared.leader_of(GroupId::METADATA) }
}

async fn in_time(
    shared: &Shared,
    until: Instant,
    wait: impl Future<Output = ()>,
) -> Result<(), ProposeError> {
    tokio::select! {
        () = wait => Ok(()),
        () = tokio::time::sleep_until(until) => Err(timed_out(shared)),
        () = shared.stop.cancelled() => Err(ProposeError::Stopping),
    }
}

/// Asks the metadata leader, whoever that is at the time, until it has an answer or time is up.
async fn ask(shared: &Shared, question: &Question, until: Instant) -> Result<Answer, ProposeError> {
    let mut leaders = shared.leaders.subscribe();
    loop {
        if shared.stop.is_cancelled() {
            return Err(ProposeError::Stopping);
        }
        let leader = leaders.borrow_and_update().get(GroupId::METADATA);
        if let (Some(leader), Some(metadata)) = (leader, shared.groups.get(GroupId::METADATA)) {
            let left = until.saturating_duration_since(Instant::now()).min(TRY);
            let tried = if leader == shared.options.node {
                let answer = ask_here(&metadata, question);
                tokio::time::timeout(left, answer).await.unwrap_or(Tried::Again)
            } else {
                ask_there(shared, leader, question, left).await
            };
            match tried {
                Tried::Done(answer) => return Ok(answer),
                Tried::Stopping => return Err(ProposeError::Stopping),
                Tried::Again => {}
            }
        }
        if Instant::now() >= until {
            return Err(ProposeError::TimedOut { leader });
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = leaders.changed() => {}
            () = shared.stop.cancelled() => {}
        }
    }
}

async fn ask_here(metadata: &Group, question: &Question) -> Tried<Answer> {
    match question {
        Question::Propose(encoded) => write(metadata, encoded.clone()).await.map(Answer::Outcome),
        Question::ReadIndex => read_index(metadata).await.map(Answer::Index),
    }
}

async fn ask_there(shared: &Shared, leader: NodeId, question: &Question, left: Duration) -> Tried<Answer> {
    let (kind, payload) = match question {
        Question::Propose(encoded) => (kind::PROPOSE, encoded.clone()),
        Question::ReadIndex => (kind::READ_INDEX, Bytes::new()),
    };
    let answer = match shared.peers.call(leader, GroupId::METADATA, kind, payload, left).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(node = %leader, %error, "the metadata leader gave no answer, trying again");
            return Tried::Again;
        }
    };
    let understood = match question {
        Question::Propose(_) => {
            Outcome::decode(&answer).ok().map(|Outcome(outcome)| Answer::Outcome(outcome))
        }
        Question::ReadIndex => {
            answer.as_ref().try_into().ok().map(|index| Answer::Index(LogIndex(u64::from_le_bytes(index))))
        }
    };
    match understood {
        Some(answer) => Tried::Done(answer),
        None => {
            tracing::warn!(node = %leader, "the metadata leader's answer makes no sense");
            Tried::Again
        }
    }
}

async fn write(metadata: &Group, encoded: Bytes) -> Tried<Result<Applied, AmqpError>> {
    match metadata.raft.client_write(Data::command(encoded)).await {
        Ok(written) => match written.data {
            Response::Outcome(outcome) => Tried::Done(outcome),
            Response::Done => Tried::Again,
        },
        Err(RaftError::APIError(
            ClientWriteError::ForwardToLeader(_)
            | ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_),
        )) => Tried::Again,
        Err(RaftError::Fatal(_)) => Tried::Stopping,
    }
}

async fn read_index(metadata: &Group) -> Tried<LogIndex> {
    match metadata.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Tried::Done(store_index(linearizer.read_log_id().index())),
        Err(RaftError::APIError(_)) => Tried::Again,
        Err(RaftError::Fatal(_)) => Tried::Stopping,
    }
}

fn answer<T>(tried: Tried<T>) -> Result<T, CallError> {
    match tried {
        Tried::Done(answer) => Ok(answer),
        Tried::Again => Err(CallError::Refused("not the metadata leader now".to_owned())),
        Tried::Stopping => Err(CallError::Stopping),
    }
}

/// The metadata leader's side of [`propose`].
pub(crate) async fn answer_propose(metadata: &Group, payload: Bytes) -> Result<Bytes, CallError> {
    // Checked before it is in the log: there it would stop every node.
    if let Err(error) = Command::decode(&payload) {
        return Err(CallError::NotUnderstood(error.to_string()));
    }
    // A copy: the log keeps it a while, and a slice would keep the whole buffer that it was received into.
    let command = Bytes::copy_from_slice(&payload);
    answer(write(metadata, command).await).map(|outcome| Outcome(outcome).encode())
}

/// The metadata leader's side of [`linearize`].
pub(crate) async fn answer_read_index(metadata: &Group) -> Result<Bytes, CallError> {
    let index = answer(read_index(metadata).await)?;
    Ok(Bytes::copy_from_slice(&index.0.to_le_bytes()))
}
