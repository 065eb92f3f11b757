//! The only openraft type configuration. Entries are opaque bytes from the proposer to the disk and to followers:
//! encoded once and never looked into on the way; only their kind is known.
//!
//! openraft counts log entries from 0, Warren from 1 (0 is "nothing"): [`store_index`] and [`raft_index`] are the
//! only bridges.

use std::fmt;

use bytes::Bytes;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::raft::responder::Responder;
use openraft::{RaftTypeConfig, alias};
use tokio_util::sync::CancellationToken;
use warren_proto::catalogue::Applied;
use warren_store::LogEntry;
use warren_types::{AmqpError, LogIndex, NodeId};

use crate::wire;

/// How Warren uses openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Data;
    type R = Response;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = Reply<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type LeaderTerm =
    <openraft::impls::leader_id_std::LeaderId<u64, u64> as openraft::vote::RaftLeaderId>::Committed;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<Types>;
pub(crate) type AppendResponse = openraft::raft::AppendEntriesResponse<Types>;
pub(crate) type AppendResult = openraft::raft::StreamAppendResult<Types>;
pub(crate) type VoteRequest = openraft::raft::VoteRequest<Types>;
pub(crate) type VoteResponse = openraft::raft::VoteResponse<Types>;
pub(crate) type TransferRequest = openraft::raft::TransferLeaderRequest<Types>;
pub(crate) type RpcError = openraft::errors::RPCError<Types>;
pub(crate) type ClientWriteError = openraft::errors::ClientWriteError<Types>;

/// The log id of a term and an index.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderTerm::new(term), index)
}

/// openraft's index as Warren counts it.
pub(crate) fn store_index(index: u64) -> LogIndex {
    LogIndex(index.saturating_add(1))
}

/// Warren's index as openraft counts it; `None` for 0.
pub(crate) fn raft_index(index: LogIndex) -> Option<u64> {
    index.0.checked_sub(1)
}

/// Where a member is reached, as it was when it joined: enough to find it before the catalogue is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) address: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// What an entry is. Stored and sent as its number, beside the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A shard's record.
    Record,
    /// Nothing: a leader's first entry, a barrier, or a record that came too late (see [`Entry`]).
    Blank,
    /// A membership.
    Membership,
    /// A catalogue command.
    Command,
}

impl Kind {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Record => LogEntry::RECORD,
            Self::Blank => 1,
            Self::Membership => 2,
            Self::Command => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Record, Self::Blank, Self::Membership, Self::Command]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// One entry's payload, as it is stored and sent.
#[derive(Clone)]
pub(crate) struct Payload {
    kind: Kind,
    data: Bytes,
    /// While it is being proposed: the leadership that it belongs to.
    over: Option<CancellationToken>,
}

impl Payload {
    /// What came from a peer or the disk.
    ///
    /// # Errors
    /// [`wire::Malformed`] for a kind that does not exist, or a membership that cannot be read.
    pub(crate) fn from_parts(kind: u8, data: Bytes) -> Result<Self, wire::Malformed> {
        let kind = Kind::from_number(kind).ok_or(wire::Malformed("entry kind"))?;
        if kind == Kind::Membership {
            wire::decode_membership(data.clone())?;
        }
        Ok(Self { kind, data, over: None })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn data(&self) -> &Bytes {
        &self.data
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.data == other.data
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.kind, self.data.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl RaftPayload for Payload {
    type D = Data;
    type NodeId = u64;
    type Node = Member;

    fn blank() -> Self {
        Self { kind: Kind::Blank, data: Bytes::new(), over: None }
    }

    fn with_normal(self, data: Data) -> Self {
        data.0
    }

    fn with_membership(self, membership: Membership) -> Self {
        let mut data = Vec::new();
        wire::encode_membership(&membership, &mut data);
        Self { kind: Kind::Membership, data: data.into(), over: None }
    }

    fn get_membership(&self) -> Option<Membership> {
        // Checked by `from_parts` for all that comes from outside.
        (self.kind == Kind::Membership).then(|| wire::decode_membership(self.data.clone()).ok()).flatten()
    }
}

/// A log entry.
///
/// A leader has several records in flight. Raft may refuse one of them (its lease had run out, a transfer was under
/// way) and take the next. What the leader counts on, that its records are applied in its order and without a gap,
/// would then be broken: a session would seem to have passed a sequence that is nowhere. So a refusal cancels the
/// leadership's token at once, in Raft's own task; and an entry that is made for a record whose leadership is over
/// becomes a blank one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) log_id: LogId,
    pub(crate) payload: Payload,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.log_id, self.payload)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = LeaderTerm;
    type Payload = Payload;

    fn new(log_id: LogId, mut payload: Payload) -> Self {
        if payload.over.take().is_some_and(|over| over.is_cancelled()) {
            payload = Payload::blank();
        }
        Self { log_id, payload }
    }

    fn log_id_parts(&self) -> (&LeaderTerm, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, log_id: LogId) {
        self.log_id = log_id;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}

/// What is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data(Payload);

impl Data {
    /// An encoded catalogue command.
    pub(crate) fn command(encoded: Bytes) -> Self {
        Self(Payload { kind: Kind::Command, data: encoded, over: None })
    }

    /// A shard's encoded record, of the leadership that `over` ends.
    pub(crate) fn record(encoded: Bytes, over: CancellationToken) -> Self {
        Self(Payload { kind: Kind::Record, data: encoded, over: Some(over) })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.data.len()
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What applying an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// Nothing to say: records of shards, blanks, memberships.
    Done,
    /// A catalogue command's outcome.
    Outcome(Result<Applied, AmqpError>),
}

/// Takes the outcome of one proposal, in the Raft task: must be quick.
pub(crate) struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    pub(crate) fn new(take: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(take))
    }
}

impl<C: RaftTypeConfig, T: Send + 'static> Responder<C, T> for Reply<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft's number of a node.
pub(crate) fn node_id(id: u64) -> NodeId {
    NodeId(id)
}
