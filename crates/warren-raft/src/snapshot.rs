//! A replica's whole state on its way to a follower that the log can no longer help: in chunks, each acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use openraft::alias;
use openraft::errors::{NetworkError, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use parking_lot::Mutex;
use warren_rpc::{Peers, RpcError as TransportError};
use warren_store::{SnapshotReader, SnapshotWriter, StoreError};
use warren_types::{GroupId, NodeId};

use crate::blocking;
use crate::budget::Budget;
use crate::member::kind;
use crate::types::{SnapshotMeta, Types, Vote};
use crate::wire::{self, Malformed, Reader};

/// Most bytes in one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// How long the other side may take for one chunk; the last one includes installing it.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
const LAST_CHUNK_TIMEOUT: Duration = Duration::from_secs(600);

/// A snapshot's content, by what it is used for.
pub(crate) enum SnapshotData {
    /// Only the meta counts: a checkpoint.
    Nothing,
    /// A catalogue.
    Whole(Bytes),
    /// A shard, to be sent.
    Outgoing(Box<SnapshotReader>),
    /// A shard, received completely and not installed yet.
    Incoming(Box<SnapshotWriter>),
}

/// One chunk, with everything needed to understand it alone.
struct Chunk {
    transfer: u64,
    number: u32,
    last: bool,
    vote: Vote,
    meta: SnapshotMeta,
    data: Bytes,
}

impl Chunk {
    fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.data.len() + 256);
        out.extend_from_slice(&self.transfer.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.push(u8::from(self.last));
        wire::put_vote(&self.vote, &mut out);
        wire::put_snapshot_meta(&self.meta, &mut out);
        out.extend_from_slice(&self.data);
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "snapshot chunk");
        let (transfer, number, last) = (reader.u64()?, reader.u32()?, reader.flag()?);
        let (vote, meta) = (reader.vote()?, wire::snapshot_meta(&mut reader)?);
        Ok(Self { transfer, number, last, vote, meta, data: reader.rest() })
    }
}

/// Sends a snapshot, as fast as `budget` allows, and waits until it is installed.
pub(crate) async fn send(
    peers: &Peers,
    target: NodeId,
    group: GroupId,
    vote: &Vote,
    snapshot: alias::SnapshotOf<Types, SnapshotData>,
    budget: &Budget,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let meta = snapshot.meta;
    let mut source = Source::new(snapshot.snapshot).map_err(broken)?;
    let mut drawn = [0; 8];
    getrandom::fill(&mut drawn).map_err(broken)?;
    let transfer = u64::from_le_bytes(drawn);
    tracing::info!(%group, node = %target, meta = %meta, "sending a snapshot");
    let mut number = 0;
    let mut next = source.next().await.map_err(broken)?;
    loop {
        let data = next.take().unwrap_or_default();
        // What the cluster itself needs does not wait.
        if group != GroupId::METADATA {
            budget.spend(data.len()).await;
        }
        next = source.next().await.map_err(broken)?;
        let last = next.is_none();
        let chunk = Chunk { transfer, number, last, vote: *vote, meta: meta.clone(), data };
        let timeout = if last { LAST_CHUNK_TIMEOUT } else { CHUNK_TIMEOUT };
        let answer = peers.call(target, group, kind::SNAPSHOT, chunk.encode(), timeout).await;
        let answer = answer.map_err(|error| match &error {
            TransportError::NotConnected(_) | TransportError::Remote { .. } => {
                StreamingError::Unreachable(Unreachable::from_string(error))
            }
            TransportError::Broken { .. } | TransportError::TimedOut(_) => broken(error),
        })?;
        let theirs = wire::decode_vote(answer).map_err(broken)?;
        // A higher vote: this node does not lead any more.
        if last || theirs > *vote {
            return Ok(SnapshotResponse::new(theirs));
        }
        number += 1;
    }
}

fn broken(error: impl ToString) -> StreamingError<Types> {
    StreamingError::Network(NetworkError::from_string(error))
}

/// The chunks of what is sent.
enum Source {
    Whole(Bytes),
    Shard(Option<Box<SnapshotReader>>),
}

impl Source {
    fn new(data: SnapshotData) -> Result<Self, Malformed> {
        match data {
            SnapshotData::Whole(bytes) => Ok(Self::Whole(bytes)),
            SnapshotData::Outgoing(reader) => Ok(Self::Shard(Some(reader))),
            SnapshotData::Nothing | SnapshotData::Incoming(_) => Err(Malformed("snapshot to send")),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Ok(None),
            Self::Whole(bytes) => Ok(Some(bytes.split_to(CHUNK_BYTES.min(bytes.len())))),
            Self::Shard(held) => {
                let Some(mut reader) = held.take() else { return Ok(None) };
                let read = blocking(move || (reader.next().transpose(), reader)).await;
                let (chunk, reader) = read.map_err(|_| StoreError::ShutDown)?;
                *held = Some(reader);
                chunk
            }
        }
    }
}

/// Snapshots that peers are sending to this node: one a group, the newest transfer wins.
#[derive(Default)]
pub(crate) struct Incoming(Mutex<BTreeMap<GroupId, Transfer>>);

struct Transfer {
    id: u64,
    next: u32,
    content: Content,
}

enum Content {
    Whole(Vec<u8>),
    Shard(Box<SnapshotWriter>),
}

/// A chunk that was taken.
pub(crate) enum Taken {
    /// More will come.
    More,
    /// It was the last: to be installed.
    Complete { vote: Vote, meta: SnapshotMeta, data: SnapshotData },
}

/// Why a chunk is refused; the sender begins anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("out of order")]
    OutOfOrder,
    #[error("larger than a catalogue may be")]
    TooLarge,
}

/// A catalogue larger than this is not believed.
const WHOLE_MAX: usize = 2 << 30;

impl Incoming {
    /// Takes one chunk. `begin` makes the writer of a shard's first. Blocks on the disk.
    pub(crate) fn take(
        &self,
        group: GroupId,
        bytes: Bytes,
        begin: impl FnOnce() -> Result<Option<SnapshotWriter>, StoreError>,
    ) -> Result<Taken, ChunkError> {
        let chunk = Chunk::decode(bytes)?;
        let transfer = if chunk.number == 0 {
            self.0.lock().remove(&group);
            let content = match begin()? {
                None => Content::Whole(Vec::new()),
                Some(writer) => Content::Shard(Box::new(writer)),
            };
            Some(Transfer { id: chunk.transfer, next: 0, content })
        } else {
            self.0.lock().remove(&group)
        };
        let fits = |transfer: &Transfer| transfer.id == chunk.transfer && transfer.next == chunk.number;
        let mut transfer = transfer.filter(fits).ok_or(ChunkError::OutOfOrder)?;
        match &mut transfer.content {
            Content::Whole(whole) if whole.len() + chunk.data.len() > WHOLE_MAX => {
                return Err(ChunkError::TooLarge);
            }
            Content::Whole(whole) => whole.extend_from_slice(&chunk.data),
            Content::Shard(shard) => shard.push(chunk.data)?,
        }
        if !chunk.last {
            transfer.next += 1;
            self.0.lock().insert(group, transfer);
            return Ok(Taken::More);
        }
        let data = match transfer.content {
            Content::Whole(whole) => SnapshotData::Whole(whole.into()),
            Content::Shard(shard) => SnapshotData::Incoming(shard),
        };
        Ok(Taken::Complete { vote: chunk.vote, meta: chunk.meta, data })
    }
}
