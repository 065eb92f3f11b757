//! Spine 4: method, header and bodies of one channel become one message (0-9-1 §4.2.6). An enum of half-states, the
//! same for both ends of a connection. Knows no queue, exchange or permission.
//! Before: `connection`. After: `channel/publish.rs`.

use bytes::Bytes;
use warren_types::{AmqpError, ReplyCode};

use crate::error::MethodId;
use crate::frame::BODY_MAX;
use crate::properties::{self, PropertiesError};

/// A method with the content that came with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complete<M> {
    pub(crate) method: M,
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

/// What has arrived of a method with content.
#[derive(Debug, Default)]
pub(crate) enum Incoming<M> {
    /// Nothing: methods are expected.
    #[default]
    Idle,
    /// The method.
    AwaitingHeader { method: M },
    /// The header, and perhaps some of the body; `missing` is above 0.
    AwaitingBody { method: M, properties: Bytes, body: Vec<u8>, missing: u64 },
}

/// Why frames are not content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("expected method frame, got non method frame instead")]
    NoMethod,
    #[error("expected content header for class 60, got non content header frame instead")]
    NoHeader,
    #[error("expected content header for class 60, got one for class {0} instead")]
    WrongClass(u16),
    #[error("expected content body, got non content body frame instead")]
    NoBody,
    #[error("content body frame exceeds remaining content size")]
    TooMuchBody,
    #[error("content body size {0} exceeds maximum allowed size {BODY_MAX}")]
    OverHardLimit(u64),
    #[error("message size {size} is larger than configured max size {limit}")]
    OverLimit { size: u64, limit: u64 },
    #[error("cannot decode content header")]
    Header,
    #[error(transparent)]
    Properties(#[from] PropertiesError),
}

impl ContentError {
    /// What the client is told.
    pub(crate) fn error(self) -> AmqpError {
        let code = match self {
            Self::NoMethod | Self::NoHeader | Self::WrongClass(_) | Self::NoBody => {
                ReplyCode::UnexpectedFrame
            }
            Self::TooMuchBody | Self::OverHardLimit(_) | Self::Header => ReplyCode::FrameError,
            Self::OverLimit { .. } => ReplyCode::PreconditionFailed,
            Self::Properties(cause) => return cause.error(),
        };
        AmqpError::new(code, self.to_string())
    }

    /// The method to blame: the one whose content this should have been.
    pub(crate) fn id(self) -> MethodId {
        match self {
            Self::NoMethod => MethodId::NONE,
            Self::NoHeader
            | Self::WrongClass(_)
            | Self::NoBody
            | Self::TooMuchBody
            | Self::OverHardLimit(_)
            | Self::OverLimit { .. }
            | Self::Header
            | Self::Properties(_) => MethodId::PUBLISH,
        }
    }
}

impl<M> Incoming<M> {
    /// A method with content has come; call only after [`Self::check_method`].
    pub(crate) fn begin(&mut self, method: M) {
        *self = Self::AwaitingHeader { method };
    }

    /// A method frame has come: is that allowed now?
    pub(crate) fn check_method(&self) -> Result<(), ContentError> {
        match self {
            Self::Idle => Ok(()),
            Self::AwaitingHeader { .. } => Err(ContentError::NoHeader),
            Self::AwaitingBody { .. } => Err(ContentError::NoBody),
        }
    }

    /// Bytes of body that are set aside here.
    pub(crate) fn held_bytes(&self) -> u64 {
        match self {
            Self::Idle | Self::AwaitingHeader { .. } => 0,
            Self::AwaitingBody { body, .. } => body.capacity() as u64,
        }
    }

    /// Takes a content header. An empty body completes the message: no body frame follows then.
    pub(crate) fn on_header(
        &mut self,
        payload: &Bytes,
        max_size: u64,
    ) -> Result<Option<Complete<M>>, ContentError> {
        let method = match std::mem::take(self) {
            Self::AwaitingHeader { method } => method,
            Self::Idle => return Err(ContentError::NoMethod),
            Self::AwaitingBody { .. } => return Err(ContentError::NoBody),
        };
        let Some(&[c1, c0, w1, w0, s7, s6, s5, s4, s3, s2, s1, s0]) = payload.first_chunk::<12>() else {
            return Err(ContentError::Header);
        };
        // RabbitMQ takes one with a weight for no header at all.
        if (w1, w0) != (0, 0) {
            return Err(ContentError::NoHeader);
        }
        let class = u16::from_be_bytes([c1, c0]);
        if class != 60 {
            return Err(ContentError::WrongClass(class));
        }
        let size = u64::from_be_bytes([s7, s6, s5, s4, s3, s2, s1, s0]);
        if size > BODY_MAX {
            return Err(ContentError::OverHardLimit(size));
        }
        if size > max_size {
            return Err(ContentError::OverLimit { size, limit: max_size });
        }
        let properties = payload.slice(12..);
        properties::check(&properties)?;
        if size == 0 {
            return Ok(Some(Complete { method, properties, body: Bytes::new() }));
        }
        *self = Self::AwaitingBody { method, properties, body: Vec::new(), missing: size };
        Ok(None)
    }

    /// Takes a piece of body. One that is the whole body is kept as the slice it is; several are joined.
    pub(crate) fn on_body(&mut self, payload: Bytes) -> Result<Option<Complete<M>>, ContentError> {
        let (method, properties, mut body, missing) = match std::mem::take(self) {
            Self::AwaitingBody { method, properties, body, missing } => (method, properties, body, missing),
            Self::Idle => return Err(ContentError::NoMethod),
            Self::AwaitingHeader { .. } => return Err(ContentError::NoHeader),
        };
        let got = payload.len() as u64;
        let Some(missing) = missing.checked_sub(got) else { return Err(ContentError::TooMuchBody) };
        if missing == 0 && body.is_empty() {
            return Ok(Some(Complete { method, properties, body: payload }));
        }
        if body.capacity() - body.len() < payload.len() {
            // As much as the message will need, but no more than a few times what has really come: a header alone
            // must not make us set aside its announced size.
            let come = body.len() as u64 + got;
            let ahead = come.saturating_mul(if body.is_empty() { 8 } else { 1 }).saturating_add(got);
            let ahead = ahead.min(missing.saturating_add(got));
            body.reserve_exact(usize::try_from(ahead).unwrap_or_default());
        }
        body.extend_from_slice(&payload);
        if missing == 0 {
            return Ok(Some(Complete { method, properties, body: Bytes::from(body) }));
        }
        *self = Self::AwaitingBody { method, properties, body, missing };
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_no_more_than_a_few_times_what_came_and_never_more_than_was_announced() {
        let piece = Bytes::from(vec![1; 1000]);
        let mut header = vec![0, 60, 0, 0];
        header.extend(100_500_u64.to_be_bytes());
        header.extend([0, 0]);
        let mut incoming = Incoming::Idle;
        incoming.begin(());
        assert_eq!(incoming.on_header(&header.into(), u64::MAX), Ok(None));
        assert_eq!(incoming.held_bytes(), 0, "a header alone sets nothing aside");
        for pieces in 1..=100_u64 {
            assert_eq!(incoming.on_body(piece.clone()), Ok(None));
            let held = incoming.held_bytes();
            assert!((pieces * 1000..=100_500.min(pieces * 10_000)).contains(&held), "{held} after {pieces}");
        }
        assert_eq!(incoming.held_bytes(), 100_500);
        let complete = incoming.on_body(Bytes::from(vec![1; 500])).unwrap().unwrap();
        assert_eq!(complete.body, vec![1; 100_500]);
    }
}
