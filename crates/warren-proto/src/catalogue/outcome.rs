//! What a command came to: the same on every replica, and what a leader answers a node that forwarded a command.

use bytes::Bytes;
use prost::Message as _;
use warren_types::{AmqpError, QueueId, ReplyCode};

use super::wire;
use crate::DecodeError;
use crate::generated::catalogue as pb;

const WHAT: &str = "catalogue outcome";

/// A command that was carried out, or that found things as it wanted them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Applied {
    /// The catalogue's revision afterwards: a node that has reached it sees what the command did.
    pub revision: u64,
    /// It made something that was not there before.
    pub created: bool,
    /// The queue declared: new, or the equal one that was there.
    pub queue: Option<QueueId>,
    /// The queues that went, for their hosts to forget.
    pub deleted_queues: Vec<QueueId>,
}

/// What a command came to, with its encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome(pub Result<Applied, AmqpError>);

impl Outcome {
    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let outcome = match &self.0 {
            Ok(applied) => pb::outcome::Outcome::Applied(pb::Applied {
                revision: applied.revision,
                created: applied.created,
                queue: applied.queue.map(|queue| queue.0),
                deleted_queues: applied.deleted_queues.iter().map(|queue| queue.0).collect(),
            }),
            Err(error) => pb::outcome::Outcome::Refused(pb::Refused {
                code: error.code.code().into(),
                text: error.text.clone(),
            }),
        };
        pb::Outcome { version: wire::VERSION, outcome: Some(outcome) }.encode_to_vec().into()
    }

    /// Reads what [`Outcome::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]: damaged, of a newer version, or with a reply code that does not exist.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = pb::Outcome::decode(bytes)
            .map_err(|error| DecodeError::Malformed { what: WHAT, reason: error.to_string() })?;
        wire::check_version(WHAT, message.version)?;
        Ok(Self(match message.outcome.ok_or(DecodeError::Unknown { what: WHAT })? {
            pb::outcome::Outcome::Applied(applied) => Ok(Applied {
                revision: applied.revision,
                created: applied.created,
                queue: applied.queue.map(QueueId),
                deleted_queues: applied.deleted_queues.into_iter().map(QueueId).collect(),
            }),
            pb::outcome::Outcome::Refused(refused) => {
                let code = u16::try_from(refused.code)
                    .ok()
                    .and_then(ReplyCode::from_code)
                    .ok_or(DecodeError::Field { what: WHAT, field: "code" })?;
                Err(AmqpError { code, text: refused.text })
            }
        }))
    }
}
