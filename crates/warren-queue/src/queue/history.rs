//! What an exchange remembers for queues that are bound to it later: a stream that keeps so many messages, in which one
//! can look without reading on. Who looks is told what is there, in pieces; the messages stay.

use std::collections::VecDeque;

use warren_proto::session::{Answer, Delivery};
use warren_proto::shard::StoredMessage;
use warren_types::{Position, RequestId, SessionId};

use super::Queue;
use super::stream::{READ_BYTES, READ_MESSAGES, StreamRead};

/// A look into a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Browse {
    pub(crate) session: SessionId,
    pub(crate) request: RequestId,
    /// It is told what is behind this one.
    pub(crate) after: Position,
    pub(crate) max_messages: u32,
}

/// Who looks. No more than there are binds under way: each asks for one piece at a time.
#[derive(Debug, Default)]
pub(crate) struct Browsing {
    waiting: VecDeque<Browse>,
    /// Whose read is under way, behind which message it begins, and which was the newest one then.
    reading: Option<(Browse, Position, Position)>,
    answers: Vec<(SessionId, RequestId, Answer)>,
}

impl Browsing {
    /// The next read. Everything up to `gone` has left, and `tail` is the newest message.
    pub(super) fn next(&mut self, gone: Position, tail: Position) -> Option<StreamRead> {
        loop {
            let browse = self.waiting.pop_front()?;
            let after = browse.after.max(gone);
            if after >= tail {
                self.answers.push((browse.session, browse.request, nothing(tail)));
                continue;
            }
            self.reading = Some((browse, after, tail));
            let max_messages = browse.max_messages.clamp(1, READ_MESSAGES);
            return Some(StreamRead { after, max_messages, max_bytes: READ_BYTES });
        }
    }

    /// Takes what was read.
    pub(super) fn read(&mut self, messages: Vec<StoredMessage>) {
        let Some((Browse { session, request, .. }, after, last)) = self.reading.take() else { return };
        let there = messages.into_iter().filter(|stored| stored.position > after);
        let deliveries = there
            .map(|stored| Delivery {
                position: stored.position,
                redelivered: false,
                delivery_count: 0,
                acquired_count: 0,
                message: stored.message,
            })
            .collect();
        self.answers.push((session, request, Answer::Browsed { deliveries, last }));
    }
}

fn nothing(last: Position) -> Answer {
    Answer::Browsed { deliveries: Vec::new(), last }
}

impl Queue {
    /// Somebody looks. A queue that is no stream shows nothing; of one that the catalogue here does not have yet, who asks
    /// knows that it is.
    pub(crate) fn browse(&mut self, browse: Browse) -> Option<Answer> {
        if !self.known {
            self.stream.get_or_insert_default();
        }
        match self.stream.as_deref_mut() {
            Some(stream) => {
                stream.browsing.waiting.push_back(browse);
                None
            }
            None => Some(nothing(Position(0))),
        }
    }

    /// What those are told who looked.
    pub(crate) fn take_browsed(&mut self) -> Vec<(SessionId, RequestId, Answer)> {
        self.stream
            .as_deref_mut()
            .map(|stream| std::mem::take(&mut stream.browsing.answers))
            .unwrap_or_default()
    }

    /// The session asks again when it is back.
    pub(crate) fn stop_browsing(&mut self, session: SessionId) {
        if let Some(stream) = self.stream.as_deref_mut() {
            stream.browsing.waiting.retain(|browse| browse.session != session);
            stream.browsing.answers.retain(|(of, ..)| *of != session);
        }
    }

    /// The queue is gone: who waits to be told so.
    pub(crate) fn end_browsing(&mut self) -> Vec<(SessionId, RequestId)> {
        let Some(stream) = self.stream.as_deref_mut() else { return Vec::new() };
        let reading = stream.browsing.reading.take().map(|(browse, ..)| browse);
        let waiting = stream.browsing.waiting.drain(..).chain(reading);
        waiting.map(|browse| (browse.session, browse.request)).collect()
    }
}
