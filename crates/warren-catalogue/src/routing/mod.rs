//! Spine 6: an exchange and a message's keys and headers become queues. A pure question to one state of the
//! catalogue. Before: the broker's router. After: its sessions. Knows no permission and no connection.

mod direct;
mod fanout;
mod headers;
mod targets;
mod topic;
mod walk;

use warren_proto::catalogue::ExchangeKind;
use warren_types::{AmqpError, FieldTable, QueueHost, QueueId};

use crate::topology::{BindingKey, Target};

use direct::Direct;
use fanout::Fanout;
use headers::Headers;
use targets::Targets;
use topic::Topic;

/// What a message is routed by.
#[derive(Clone, Copy)]
pub struct RouteInput<'a> {
    /// The publish's routing key, then those of its `CC` and `BCC` headers.
    pub routing_keys: &'a [&'a str],
    /// Reads the message's headers; called at most once, and only when an exchange asks for them.
    pub headers: &'a dyn Fn() -> Option<FieldTable>,
}

/// The queues that a message goes to, each once, ordered by host and then by number. Keeps its memory from route to
/// route.
#[derive(Clone, Debug, Default)]
pub struct RouteSet {
    queues: Vec<(QueueHost, QueueId)>,
    by_headers: bool,
}

impl RouteSet {
    /// The queues with their hosts, those of one host together.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (QueueHost, QueueId)> {
        self.queues.iter().copied()
    }

    /// How many queues.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// True when no queue takes the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// True when another message with the same keys might go elsewhere: not to be cached by key.
    #[must_use]
    pub fn depends_on_headers(&self) -> bool {
        self.by_headers
    }

    fn clear(&mut self) {
        self.queues.clear();
        self.by_headers = false;
    }

    fn push(&mut self, host: QueueHost, queue: QueueId) {
        self.queues.push((host, queue));
    }

    fn finish(&mut self) {
        self.queues.sort_unstable();
        self.queues.dedup();
    }
}

/// An exchange's bindings, as its type looks them up.
#[derive(Clone, Debug)]
pub(crate) enum Router {
    Direct(Direct),
    Fanout(Fanout),
    Topic(Topic),
    Headers(Headers),
}

impl Router {
    pub(crate) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(Direct::default()),
            ExchangeKind::Fanout => Self::Fanout(Fanout::default()),
            ExchangeKind::Topic => Self::Topic(Topic::default()),
            ExchangeKind::Headers => Self::Headers(Headers::default()),
        }
    }

    /// Adds a binding that is not there.
    ///
    /// # Errors
    /// 406 when the type does not take it; nothing has changed then.
    pub(crate) fn insert(&mut self, key: &BindingKey, arguments: &FieldTable) -> Result<(), AmqpError> {
        match self {
            Self::Direct(direct) => direct.insert(key),
            Self::Fanout(fanout) => fanout.insert(key),
            Self::Topic(topic) => topic.insert(key)?,
            Self::Headers(headers) => headers.insert(key, arguments)?,
        }
        Ok(())
    }

    /// Removes a binding that is there.
    pub(crate) fn remove(&mut self, key: &BindingKey) {
        match self {
            Self::Direct(direct) => direct.remove(key),
            Self::Fanout(fanout) => fanout.remove(key),
            Self::Topic(topic) => topic.remove(key),
            Self::Headers(headers) => headers.remove(key),
        }
    }
}
