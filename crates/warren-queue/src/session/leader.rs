//! The sessions at a leader (spine 8 and 12): which sequences they have passed, which stream is theirs.

use std::collections::{BTreeMap, VecDeque};

use warren_proto::session::{Ask, HomeFrame, LeaderFrame};
use warren_types::{NodeId, QueueId, RequestId, SessionId, SubscriptionId, UnixMillis};

use crate::{Output, SessionKey};

/// A question that waits until what was published before it is applied.
#[derive(Clone, Debug)]
pub(crate) struct WaitingAsk {
    pub(crate) after_seq: u64,
    pub(crate) request: RequestId,
    pub(crate) ask: Ask,
    /// How often it has waited for a mark.
    pub(crate) stalls: u8,
}

/// A home's session with this host.
#[derive(Debug)]
pub(crate) struct Session {
    /// Unknown for one that only the log knows.
    pub(crate) node: Option<NodeId>,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    /// Its stream; `None` while it has none.
    pub(crate) key: Option<SessionKey>,
    /// Since when it has none.
    pub(crate) lost_at: UnixMillis,
    /// It may hold deliveries or have consumers.
    pub(crate) holds: bool,
    /// Passed, as the log has it. `None`: the log does not know the session, any sequence may be its first.
    pub(crate) applied_seq: Option<u64>,
    /// Passed once everything admitted is applied.
    pub(crate) admitted_seq: Option<u64>,
    /// Its settles and returns up to here are recorded.
    pub(crate) settled_seq: u64,
    pub(crate) confirm_due: bool,
    pub(crate) settled_due: bool,
    /// Sequences refused by policy that the home may not know, ascending.
    pub(crate) rejected: VecDeque<u64>,
    /// The home knows what was refused up to here.
    pub(crate) learned: u64,
    /// What was refused up to here is told on this stream.
    pub(crate) told: u64,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, QueueId>,
    pub(crate) asks: VecDeque<WaitingAsk>,
    /// What it sent since it published to a queue that the catalogue here does not have yet.
    pub(crate) waiting: VecDeque<HomeFrame>,
}

impl Session {
    /// So much waits for the catalogue that no more is to be read.
    pub(crate) fn waits_for_much(&self) -> bool {
        self.waiting.len() > 64
    }

    /// A session as the log knows it.
    pub(crate) fn unattached(applied_seq: Option<u64>, now: UnixMillis) -> Self {
        Self {
            node: None,
            incarnation: 0,
            epoch: 0,
            key: None,
            lost_at: now,
            holds: false,
            applied_seq,
            admitted_seq: applied_seq,
            settled_seq: 0,
            confirm_due: false,
            settled_due: false,
            rejected: VecDeque::new(),
            learned: 0,
            told: 0,
            subscriptions: BTreeMap::new(),
            asks: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// What was refused and is applied, as far as this stream has not told it.
    pub(crate) fn tell_rejected(&mut self, up_to_seq: u64) -> Vec<u64> {
        let from = self.rejected.partition_point(|seq| *seq <= self.told);
        let to = self.rejected.partition_point(|seq| *seq <= up_to_seq);
        self.told = self.told.max(up_to_seq);
        self.rejected.range(from..to.max(from)).copied().collect()
    }

    /// The home knows what was refused up to here.
    pub(crate) fn learned(&mut self, up_to_seq: u64) {
        self.learned = self.learned.max(up_to_seq);
        let known = self.rejected.partition_point(|seq| *seq <= self.learned);
        self.rejected.drain(..known);
    }

    /// Admits a batch that begins with this sequence: how many of its messages were admitted before.
    ///
    /// `None` is a gap: frames are ordered, so the home and this leader disagree and must start anew.
    pub(crate) fn admit(&mut self, first_seq: u64, count: u64) -> Option<u64> {
        let repeated = match self.admitted_seq {
            None => 0,
            Some(admitted) if first_seq > admitted.saturating_add(1) => return None,
            Some(admitted) => admitted.saturating_add(1).saturating_sub(first_seq),
        };
        let last = first_seq.checked_add(count)?.saturating_sub(1);
        if count > repeated {
            self.admitted_seq = Some(last);
        }
        Some(repeated)
    }
}

/// All sessions of a host.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) by_id: BTreeMap<SessionId, Session>,
    streams: BTreeMap<SessionKey, SessionId>,
    /// Those with something to be told at the end of the flush; may name some twice.
    due: Vec<SessionId>,
}

impl Sessions {
    pub(crate) fn of_stream(&self, key: SessionKey) -> Option<SessionId> {
        self.streams.get(&key).copied()
    }

    /// Gives the session this stream; returns the stream that it had.
    pub(crate) fn bind(&mut self, id: SessionId, key: SessionKey) -> Option<SessionKey> {
        let session = self.by_id.get_mut(&id)?;
        let old = session.key.replace(key);
        if let Some(old) = old {
            self.streams.remove(&old);
        }
        self.streams.insert(key, id);
        old
    }

    /// The session has no stream any more.
    pub(crate) fn unbind(&mut self, id: SessionId, now: UnixMillis) -> Option<SessionKey> {
        let session = self.by_id.get_mut(&id)?;
        let key = session.key.take()?;
        session.lost_at = now;
        session.asks.clear();
        // It offers them again when it comes back.
        session.waiting.clear();
        self.streams.remove(&key);
        Some(key)
    }

    /// Sends to the session, if it has a stream: what it misses, it learns when it attaches again.
    pub(crate) fn send(&self, id: SessionId, frame: LeaderFrame, outputs: &mut Vec<Output>) {
        if let Some(key) = self.by_id.get(&id).and_then(|session| session.key) {
            outputs.push(Output::Send(key, frame));
        }
    }

    /// Its sequences up to here are applied.
    pub(crate) fn applied(&mut self, id: SessionId, last_seq: u64) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.applied_seq = session.applied_seq.max(Some(last_seq));
            session.admitted_seq = session.admitted_seq.max(session.applied_seq);
            session.confirm_due = true;
            self.due.push(id);
        }
    }

    /// Its settles up to here are recorded.
    pub(crate) fn settled(&mut self, id: SessionId, seq: u64) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.settled_seq = session.settled_seq.max(seq);
            session.settled_due = true;
            self.due.push(id);
        }
    }

    /// One `Confirmed` and one `Settled` for each session that has something new.
    pub(crate) fn tell(&mut self, outputs: &mut Vec<Output>) {
        for id in std::mem::take(&mut self.due) {
            let Some(session) = self.by_id.get_mut(&id) else { continue };
            let confirm = std::mem::take(&mut session.confirm_due);
            let settled = std::mem::take(&mut session.settled_due);
            let Some(key) = session.key else { continue };
            if confirm && let Some(up_to_seq) = session.applied_seq {
                let rejected = session.tell_rejected(up_to_seq);
                outputs.push(Output::Send(key, LeaderFrame::Confirmed { up_to_seq, rejected }));
            }
            if settled {
                let up_to_seq = session.settled_seq;
                outputs.push(Output::Send(key, LeaderFrame::Settled { up_to_seq }));
            }
        }
    }
}
