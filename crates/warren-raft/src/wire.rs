//! What Raft members say to each other, as bytes. The format belongs to the protocol version of `warren-rpc`; what
//! is also stored (votes, memberships, log ids) never changes meaning. Numbers are little-endian.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use openraft::raft::StreamAppendError;

use warren_rpc::Rope;

use crate::types::{
    AppendRequest, AppendResponse, AppendResult, Entry, LogId, Member, Membership, Payload, SnapshotMeta,
    StoredMembership, TransferRequest, Vote, VoteRequest, VoteResponse, log_id,
};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

type Read<T> = Result<T, Malformed>;

/// The version of a stored membership.
const MEMBERSHIP_VERSION: u8 = 1;

/// Reads front to back and never beyond the end.
pub(crate) struct Reader(Bytes, &'static str);

impl Reader {
    pub(crate) fn new(bytes: Bytes, what: &'static str) -> Self {
        Self(bytes, what)
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        self.0.try_get_u8().map_err(|_| Malformed(self.1))
    }

    pub(crate) fn u32(&mut self) -> Read<u32> {
        self.0.try_get_u32_le().map_err(|_| Malformed(self.1))
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        self.0.try_get_u64_le().map_err(|_| Malformed(self.1))
    }

    pub(crate) fn flag(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed(self.1)),
        }
    }

    /// Bytes behind their length, shared.
    pub(crate) fn bytes(&mut self) -> Read<Bytes> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(Malformed(self.1));
        }
        Ok(self.0.split_to(length))
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed(self.1))
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    pub(crate) fn end(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed(self.1)) }
    }

    pub(crate) fn vote(&mut self) -> Read<Vote> {
        let (term, node) = (self.u64()?, self.u64()?);
        Ok(if self.flag()? { Vote::new_committed(term, node) } else { Vote::new(term, node) })
    }

    pub(crate) fn log_id(&mut self) -> Read<LogId> {
        Ok(log_id(self.u64()?, self.u64()?))
    }

    pub(crate) fn maybe_log_id(&mut self) -> Read<Option<LogId>> {
        self.flag()?.then(|| self.log_id()).transpose()
    }

    fn membership(&mut self) -> Read<Membership> {
        let mut configs = Vec::new();
        for _ in 0..self.u32()? {
            let mut config = BTreeSet::new();
            for _ in 0..self.u32()? {
                config.insert(self.u64()?);
            }
            configs.push(config);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.u32()? {
            nodes.insert(self.u64()?, Member { address: self.text()? });
        }
        Membership::new(configs, nodes).map_err(|_| Malformed(self.1))
    }

    pub(crate) fn stored_membership(&mut self) -> Read<StoredMembership> {
        let log_id = self.maybe_log_id()?;
        let empty = !self.flag()?;
        let membership = if empty { Membership::default() } else { self.membership()? };
        Ok(StoredMembership::new(log_id, membership))
    }

    fn entry(&mut self) -> Read<Entry> {
        let log_id = self.log_id()?;
        let kind = self.u8()?;
        let payload = Payload::from_parts(kind, self.bytes()?)?;
        Ok(Entry { log_id, payload })
    }
}

pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // Messages are bounded far below 4 GiB by the transport.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_u64(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_vote(vote: &Vote, out: &mut Vec<u8>) {
    put_u64(vote.leader_id.term, out);
    put_u64(vote.leader_id.voted_for, out);
    out.push(u8::from(vote.committed));
}

pub(crate) fn put_log_id(log_id: &LogId, out: &mut Vec<u8>) {
    put_u64(*log_id.leader_id, out);
    put_u64(log_id.index, out);
}

pub(crate) fn put_maybe_log_id(log_id: Option<&LogId>, out: &mut Vec<u8>) {
    out.push(u8::from(log_id.is_some()));
    if let Some(log_id) = log_id {
        put_log_id(log_id, out);
    }
}

pub(crate) fn encode_membership(membership: &Membership, out: &mut Vec<u8>) {
    let configs = membership.get_joint_config();
    put_count(configs.len(), out);
    for config in configs {
        put_count(config.len(), out);
        config.iter().for_each(|node| put_u64(*node, out));
    }
    put_count(membership.nodes().count(), out);
    for (id, member) in membership.nodes() {
        put_u64(*id, out);
        put_bytes(member.address.as_bytes(), out);
    }
}

pub(crate) fn decode_membership(bytes: Bytes) -> Read<Membership> {
    let mut reader = Reader::new(bytes, "membership");
    let membership = reader.membership()?;
    reader.end()?;
    Ok(membership)
}

pub(crate) fn put_stored_membership(stored: &StoredMembership, out: &mut Vec<u8>) {
    put_maybe_log_id(stored.log_id().as_ref(), out);
    // A group that was never initialised has no configuration at all, which is not a valid one.
    let empty = stored.membership().get_joint_config().is_empty();
    out.push(u8::from(!empty));
    if !empty {
        encode_membership(stored.membership(), out);
    }
}

/// A membership as a shard's replica or the catalogue keeps it.
pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    let mut out = vec![MEMBERSHIP_VERSION];
    put_stored_membership(stored, &mut out);
    out.into()
}

/// Reads what [`encode_stored_membership`] wrote; nothing is the membership of a replica that has applied none.
pub(crate) fn decode_stored_membership(bytes: Bytes) -> Read<StoredMembership> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let mut reader = Reader::new(bytes, "stored membership");
    if reader.u8()? != MEMBERSHIP_VERSION {
        return Err(Malformed("version of a stored membership"));
    }
    let stored = reader.stored_membership()?;
    reader.end()?;
    Ok(stored)
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = Vec::with_capacity(17);
    put_vote(vote, &mut out);
    out.into()
}

pub(crate) fn decode_vote(bytes: Bytes) -> Read<Vote> {
    let mut reader = Reader::new(bytes, "vote");
    let vote = reader.vote()?;
    reader.end()?;
    Ok(vote)
}

pub(crate) fn encode_log_id(log_id: Option<&LogId>) -> Bytes {
    let mut out = Vec::with_capacity(17);
    put_maybe_log_id(log_id, &mut out);
    out.into()
}

pub(crate) fn decode_log_id(bytes: Bytes) -> Read<Option<LogId>> {
    let mut reader = Reader::new(bytes, "log id");
    let log_id = reader.maybe_log_id()?;
    reader.end()?;
    Ok(log_id)
}

/// The entries' payloads stay where they are.
pub(crate) fn encode_append(request: &AppendRequest) -> Rope {
    let mut pieces = Vec::with_capacity(2 * request.entries.len() + 1);
    let mut out = Vec::with_capacity(96);
    put_vote(&request.vote, &mut out);
    put_maybe_log_id(request.prev_log_id.as_ref(), &mut out);
    put_maybe_log_id(request.leader_commit.as_ref(), &mut out);
    put_count(request.entries.len(), &mut out);
    for entry in &request.entries {
        put_log_id(&entry.log_id, &mut out);
        out.push(entry.payload.kind().number());
        put_count(entry.payload.data().len(), &mut out);
        pieces.push(std::mem::take(&mut out).into());
        pieces.push(entry.payload.data().clone());
    }
    pieces.push(out.into());
    pieces.into()
}

pub(crate) fn decode_append(bytes: Bytes) -> Read<AppendRequest> {
    let mut reader = Reader::new(bytes, "append request");
    let vote = reader.vote()?;
    let prev_log_id = reader.maybe_log_id()?;
    let leader_commit = reader.maybe_log_id()?;
    let mut entries = Vec::new();
    for _ in 0..reader.u32()? {
        entries.push(reader.entry()?);
    }
    reader.end()?;
    Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn encode_append_result(result: &AppendResult) -> Bytes {
    let mut out = Vec::with_capacity(18);
    match result {
        Ok(log_id) => {
            out.push(0);
            put_maybe_log_id(log_id.as_ref(), &mut out);
        }
        Err(StreamAppendError::Conflict(log_id)) => {
            out.push(1);
            put_log_id(log_id, &mut out);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.push(2);
            put_vote(vote, &mut out);
        }
    }
    out.into()
}

pub(crate) fn decode_append_result(bytes: Bytes) -> Read<AppendResult> {
    let mut reader = Reader::new(bytes, "append result");
    let result = match reader.u8()? {
        0 => Ok(reader.maybe_log_id()?),
        1 => Err(StreamAppendError::Conflict(reader.log_id()?)),
        2 => Err(StreamAppendError::HigherVote(reader.vote()?)),
        _ => return Err(Malformed("append result")),
    };
    reader.end()?;
    Ok(result)
}

pub(crate) fn encode_append_response(response: &AppendResponse) -> Bytes {
    let mut out = Vec::with_capacity(18);
    match response {
        AppendResponse::Success => out.push(0),
        AppendResponse::PartialSuccess(log_id) => {
            out.push(1);
            put_maybe_log_id(log_id.as_ref(), &mut out);
        }
        AppendResponse::Conflict => out.push(2),
        AppendResponse::HigherVote(vote) => {
            out.push(3);
            put_vote(vote, &mut out);
        }
    }
    out.into()
}

pub(crate) fn decode_append_response(bytes: Bytes) -> Read<AppendResponse> {
    let mut reader = Reader::new(bytes, "append response");
    let response = match reader.u8()? {
        0 => AppendResponse::Success,
        1 => AppendResponse::PartialSuccess(reader.maybe_log_id()?),
        2 => AppendResponse::Conflict,
        3 => AppendResponse::HigherVote(reader.vote()?),
        _ => return Err(Malformed("append response")),
    };
    reader.end()?;
    Ok(response)
}

pub(crate) fn encode_vote_request(request: &VoteRequest) -> Bytes {
    let mut out = Vec::with_capacity(36);
    put_vote(&request.vote, &mut out);
    put_maybe_log_id(request.last_log_id.as_ref(), &mut out);
    out.push(u8::from(request.leadership_transfer));
    out.into()
}

pub(crate) fn decode_vote_request(bytes: Bytes) -> Read<VoteRequest> {
    let mut reader = Reader::new(bytes, "vote request");
    let mut request = VoteRequest::new(reader.vote()?, reader.maybe_log_id()?);
    request.leadership_transfer = reader.flag()?;
    reader.end()?;
    Ok(request)
}

pub(crate) fn encode_vote_response(response: &VoteResponse) -> Bytes {
    let mut out = Vec::with_capacity(36);
    put_vote(&response.vote, &mut out);
    put_maybe_log_id(response.last_log_id.as_ref(), &mut out);
    out.push(u8::from(response.vote_granted));
    out.into()
}

pub(crate) fn decode_vote_response(bytes: Bytes) -> Read<VoteResponse> {
    let mut reader = Reader::new(bytes, "vote response");
    let (vote, last_log_id, granted) = (reader.vote()?, reader.maybe_log_id()?, reader.flag()?);
    reader.end()?;
    Ok(VoteResponse::new(vote, last_log_id, granted))
}

pub(crate) fn encode_transfer(request: &TransferRequest) -> Bytes {
    let mut out = Vec::with_capacity(44);
    put_vote(request.from_leader(), &mut out);
    put_u64(*request.to_node_id(), &mut out);
    put_maybe_log_id(request.last_log_id(), &mut out);
    out.into()
}

pub(crate) fn decode_transfer(bytes: Bytes) -> Read<TransferRequest> {
    let mut reader = Reader::new(bytes, "leadership transfer");
    let request = TransferRequest::new(reader.vote()?, reader.u64()?, reader.maybe_log_id()?);
    reader.end()?;
    Ok(request)
}

pub(crate) fn put_snapshot_meta(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    put_maybe_log_id(meta.last_log_id.as_ref(), out);
    put_stored_membership(&meta.last_membership, out);
}

pub(crate) fn snapshot_meta(reader: &mut Reader) -> Read<SnapshotMeta> {
    Ok(SnapshotMeta { last_log_id: reader.maybe_log_id()?, last_membership: reader.stored_membership()? })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn membership() -> Membership {
        let nodes: BTreeMap<u64, Member> =
            [(7, Member { address: "a:1".to_owned() }), (9, Member { address: "b:2".to_owned() })].into();
        Membership::new(vec![BTreeSet::from([7]), BTreeSet::from([7, 9])], nodes).unwrap()
    }

    #[test]
    fn a_membership_survives_its_bytes_and_no_prefix_of_them_is_one() {
        for stored in [StoredMembership::default(), StoredMembership::new(Some(log_id(2, 9)), membership())] {
            let bytes = encode_stored_membership(&stored);
            assert_eq!(decode_stored_membership(bytes.clone()), Ok(stored));
            for end in 1..bytes.len() {
                assert!(decode_stored_membership(bytes.slice(..end)).is_err(), "prefix of {end}");
            }
        }
    }

    #[test]
    fn an_append_survives_its_bytes_and_no_prefix_of_them_is_one() {
        let entry = |index, kind: u8, data: Bytes| Entry {
            log_id: log_id(4, index),
            payload: Payload::from_parts(kind, data).unwrap(),
        };
        let mut encoded = Vec::new();
        encode_membership(&membership(), &mut encoded);
        let request = AppendRequest {
            vote: Vote::new_committed(4, 7),
            prev_log_id: Some(log_id(3, 11)),
            entries: vec![
                entry(12, 0, Bytes::from_static(b"record")),
                entry(13, 1, Bytes::new()),
                entry(14, 2, encoded.into()),
            ],
            leader_commit: None,
        };
        let bytes = Bytes::from(encode_append(&request));
        let read = decode_append(bytes.clone()).unwrap();
        assert_eq!(
            (read.vote, read.prev_log_id, &read.entries),
            (request.vote, request.prev_log_id, &request.entries)
        );
        for end in 0..bytes.len() {
            assert!(decode_append(bytes.slice(..end)).is_err(), "prefix of {end}");
        }
    }

    #[test]
    fn answers_survive_their_bytes() {
        let results: [AppendResult; 4] = [
            Ok(None),
            Ok(Some(log_id(3, 4))),
            Err(StreamAppendError::Conflict(log_id(5, 6))),
            Err(StreamAppendError::HigherVote(Vote::new(7, 8))),
        ];
        for result in results {
            assert_eq!(decode_append_result(encode_append_result(&result)), Ok(result));
        }
        for response in [
            AppendResponse::Success,
            AppendResponse::PartialSuccess(Some(log_id(1, 2))),
            AppendResponse::Conflict,
            AppendResponse::HigherVote(Vote::new_committed(9, 1)),
        ] {
            assert_eq!(decode_append_response(encode_append_response(&response)), Ok(response));
        }
    }
}
