//! What the queues of a run are: plain ones, and those whose settings promise more.

use crate::amqp::Value;
use crate::chance::Chance;
use crate::history::MessageId;

/// Where the dead go.
pub(crate) const DEAD: &str = "dead";
/// Priorities of the queues that have any.
const PRIORITIES: u32 = 3;

/// What a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// With priorities: the order is that of each.
    Priority,
    /// One consumer at a time.
    SingleActive,
    /// What is rejected, returned too often or not taken in time goes to the queue of the dead. Of type quorum.
    Mortal {
        ttl_ms: u64,
    },
    /// Of messages with the same key it takes the first only.
    Dedup,
    /// A stream: everybody reads everything.
    Stream,
    /// The queue of the dead: a message may come to it from several queues, and twice where a leader died meanwhile.
    Dead,
}

impl Kind {
    /// The kinds of a run's queues; where one is mortal the queue of the dead is the last.
    pub(crate) fn draw(chance: &mut Chance, queues: usize) -> Vec<Self> {
        let mut kinds: Vec<Self> = (0..queues)
            .map(|_| match chance.within(0, 13) {
                0 | 1 => Self::Priority,
                2 | 3 => Self::SingleActive,
                4 | 5 => Self::Mortal { ttl_ms: chance.of([400, 3000, 20_000]) },
                6 => Self::Dedup,
                7 | 8 => Self::Stream,
                _ => Self::Plain,
            })
            .collect();
        if kinds.iter().any(|kind| kind.is_mortal()) {
            kinds.push(Self::Dead);
        }
        kinds
    }

    pub(crate) fn is_mortal(self) -> bool {
        matches!(self, Self::Mortal { .. })
    }

    /// What it is declared with.
    pub(crate) fn arguments(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Plain | Self::Dead => Vec::new(),
            Self::Priority => vec![("x-max-priority", Value::Number(u64::from(PRIORITIES) - 1))],
            Self::SingleActive => vec![("x-single-active-consumer", Value::Truth)],
            // A publisher may be silent for longer than a thousand others take.
            Self::Dedup => {
                vec![("x-message-deduplication", Value::Truth), ("x-cache-size", Value::Number(100_000))]
            }
            Self::Stream => vec![("x-queue-type", Value::Text("stream"))],
            Self::Mortal { ttl_ms } => vec![
                ("x-queue-type", Value::Text("quorum")),
                ("x-message-ttl", Value::Number(ttl_ms)),
                ("x-delivery-limit", Value::Number(2)),
                ("x-dead-letter-exchange", Value::Text("")),
                ("x-dead-letter-routing-key", Value::Text(DEAD)),
            ],
        }
    }

    /// What an order is kept for, of one publisher's connection; `None`: there is no order.
    pub(crate) fn order(self, id: MessageId) -> Option<u32> {
        match self {
            Self::Plain | Self::SingleActive | Self::Dedup | Self::Stream => Some(0),
            // A quorum queue has them without being asked.
            Self::Priority | Self::Mortal { .. } => Some(u32::from(priority(id))),
            Self::Dead => None,
        }
    }
}

/// The priority that a message is published with.
pub(crate) fn priority(id: MessageId) -> u8 {
    (id.number % PRIORITIES) as u8
}
