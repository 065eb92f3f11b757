//! Stored values to and from bytes. Fixed layouts, little-endian; the seal around them is `checksum`'s.

use bytes::Bytes;
use warren_types::{LogIndex, Message, ShortStr, Term, UnixMillis};

use crate::shard::{QueueMeta, Run};

/// Reads a value piece by piece.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// `Some` if nothing is left.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A group's place: what a checkpoint covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) applied: LogIndex,
    pub(crate) term: Term,
    pub(crate) generation: u32,
    /// Bodies up to this entry are in the message store: the log may be purged up to here.
    pub(crate) moved: u64,
    pub(crate) raft_meta: Bytes,
}

impl Place {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(28 + self.raft_meta.len());
        out.extend_from_slice(&self.applied.0.to_le_bytes());
        out.extend_from_slice(&self.term.0.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.moved.to_le_bytes());
        out.extend_from_slice(&self.raft_meta);
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut value = Reader(value);
        Some(Self {
            applied: LogIndex(value.u64()?),
            term: Term(value.u64()?),
            generation: value.u32()?,
            moved: value.u64()?,
            raft_meta: Bytes::copy_from_slice(value.0),
        })
    }
}

pub(crate) fn encode_queue(meta: QueueMeta) -> Vec<u8> {
    let mut out = Vec::with_capacity(17);
    out.extend_from_slice(&meta.next.to_le_bytes());
    out.extend_from_slice(&meta.mark.to_le_bytes());
    out.push(u8::from(meta.used));
    out
}

pub(crate) fn decode_queue(value: &[u8]) -> Option<QueueMeta> {
    let mut value = Reader(value);
    let meta = QueueMeta { next: value.u64()?, mark: value.u64()?, used: value.u8()? != 0 };
    value.end().map(|()| meta)
}

/// A run's flags: the entry has a message that went to several queues.
const RUN_SHARED: u8 = 1;
/// The time of the entry follows; runs of earlier versions have none.
const RUN_TIMED: u8 = 2;

/// A run with the settled positions and delivery counts inside it, as offsets from its first position.
pub(crate) fn encode_run(run: &Run, settled: &[(u64, u64)], counts: &[(u64, u32)]) -> Vec<u8> {
    let offset = |position: u64| u32::try_from(position.saturating_sub(run.first)).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(33 + settled.len() * 8 + counts.len() * 8);
    out.extend_from_slice(&run.entry.to_le_bytes());
    out.extend_from_slice(&run.ordinal().to_le_bytes());
    let timed = if run.time == UnixMillis(0) { 0 } else { RUN_TIMED };
    out.push(timed | if run.is_shared() { RUN_SHARED } else { 0 });
    out.extend_from_slice(&run.count.to_le_bytes());
    out.extend_from_slice(&run.bytes.to_le_bytes());
    if timed != 0 {
        out.extend_from_slice(&run.time.0.to_le_bytes());
    }
    out.extend_from_slice(&u32::try_from(settled.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (first, last) in settled {
        out.extend_from_slice(&offset(*first).to_le_bytes());
        out.extend_from_slice(&offset(*last).to_le_bytes());
    }
    for (position, count) in counts {
        out.extend_from_slice(&offset(*position).to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }
    out
}

/// A stored run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredRun {
    pub(crate) run: Run,
    pub(crate) settled: Vec<(u64, u64)>,
    pub(crate) counts: Vec<(u64, u32)>,
}

pub(crate) fn decode_run(first: u64, value: &[u8]) -> Option<StoredRun> {
    let mut value = Reader(value);
    let entry = value.u64()?;
    let ordinal = value.u32()?;
    let flags = value.u8()?;
    if flags & !(RUN_SHARED | RUN_TIMED) != 0 {
        return None;
    }
    let mut run = Run::new(first, entry, ordinal, flags & RUN_SHARED != 0, UnixMillis(0));
    run.count = value.u32()?;
    run.bytes = value.u32()?;
    if flags & RUN_TIMED != 0 {
        run.time = UnixMillis(value.u64()?);
    }
    let at = |offset: u32| first.checked_add(u64::from(offset));
    let ranges = value.u32()?;
    // The bytes that are there bound what is reserved.
    let mut settled = Vec::with_capacity((ranges as usize).min(value.0.len() / 8));
    for _ in 0..ranges {
        settled.push((at(value.u32()?)?, at(value.u32()?)?));
    }
    let mut counts = Vec::with_capacity(value.0.len() / 8);
    while !value.0.is_empty() {
        counts.push((at(value.u32()?)?, value.u32()?));
    }
    Some(StoredRun { run, settled, counts })
}

/// The last sequence, then the refused ones.
pub(crate) fn encode_session(last_seq: u64, refused: &[u64]) -> Vec<u8> {
    std::iter::once(&last_seq).chain(refused).flat_map(|seq| seq.to_le_bytes()).collect()
}

pub(crate) fn decode_session(value: &[u8]) -> Option<(u64, Vec<u64>)> {
    let mut value = Reader(value);
    let last_seq = value.u64()?;
    let mut refused = Vec::with_capacity(value.0.len() / 8);
    while !value.0.is_empty() {
        refused.push(value.u64()?);
    }
    Some((last_seq, refused))
}

/// What the message store holds at a queue's position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The message: it went to this queue only.
    Own(Message),
    /// Where the message is that went to several queues.
    Shared { entry: u64, ordinal: u32 },
}

const OWN: u8 = 0;
const SHARED: u8 = 1;

pub(crate) fn encode_own(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(7 + message.size());
    out.push(OWN);
    put_message(message, &mut out);
    out
}

pub(crate) fn encode_reference(entry: u64, ordinal: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(13);
    out.push(SHARED);
    out.extend_from_slice(&entry.to_le_bytes());
    out.extend_from_slice(&ordinal.to_le_bytes());
    out
}

pub(crate) fn encode_shared(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + message.size());
    put_message(message, &mut out);
    out
}

pub(crate) fn decode_moved(value: &Bytes) -> Option<Moved> {
    match *value.first()? {
        OWN => decode_shared(&value.slice(1..)).map(Moved::Own),
        SHARED => {
            let mut value = Reader(value.get(1..)?);
            let moved = Moved::Shared { entry: value.u64()?, ordinal: value.u32()? };
            value.end().map(|()| moved)
        }
        _ => None,
    }
}

fn put_message(message: &Message, out: &mut Vec<u8>) {
    // Short strings have at most 255 bytes.
    out.push(u8::try_from(message.exchange.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(message.exchange.bytes());
    out.push(u8::try_from(message.routing_key.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(message.routing_key.bytes());
    out.extend_from_slice(&u32::try_from(message.properties.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&message.properties);
    out.extend_from_slice(&message.body);
}

/// The message's parts are slices of `value`.
pub(crate) fn decode_shared(value: &Bytes) -> Option<Message> {
    let mut rest = Reader(value);
    let short = |rest: &mut Reader<'_>| {
        let length = rest.u8()?;
        let text = rest.bytes(usize::from(length))?;
        ShortStr::new(value.slice_ref(text)).ok()
    };
    let exchange = short(&mut rest)?;
    let routing_key = short(&mut rest)?;
    let properties = rest.u32()? as usize;
    let properties = value.slice_ref(rest.bytes(properties)?);
    Some(Message { exchange, routing_key, properties, body: value.slice_ref(rest.0) })
}
