//! Method, header and bodies become one message, of which only the stamp is kept.

use crate::stamp::Stamp;

/// What has come of a message; `T` is what its method said.
#[derive(Debug, Default)]
pub(crate) enum Incoming<T> {
    /// No message is under way.
    #[default]
    Idle,
    /// Its method has come.
    AwaitingHeader(T),
    /// Its header has come.
    AwaitingBody { method: T, missing: u64, stamp: Option<Stamp>, seen: bool },
}

impl<T> Incoming<T> {
    /// A content header: the message, when it has no body.
    ///
    /// # Errors
    /// What is wrong, in words, when no method came before it.
    #[inline]
    pub(crate) fn on_header(&mut self, body_bytes: u64) -> Result<Option<(T, Option<Stamp>)>, &'static str> {
        match std::mem::take(self) {
            Self::AwaitingHeader(method) if body_bytes == 0 => Ok(Some((method, None))),
            Self::AwaitingHeader(method) => {
                *self = Self::AwaitingBody { method, missing: body_bytes, stamp: None, seen: false };
                Ok(None)
            }
            Self::Idle | Self::AwaitingBody { .. } => Err("a content header without a method"),
        }
    }

    /// A part of a body: the message, when it is the last part.
    ///
    /// # Errors
    /// What is wrong, in words, when it was not expected or is too long.
    #[inline]
    pub(crate) fn on_body(&mut self, payload: &[u8]) -> Result<Option<(T, Option<Stamp>)>, &'static str> {
        match std::mem::take(self) {
            Self::AwaitingBody { method, missing, stamp, seen } => {
                let missing =
                    missing.checked_sub(payload.len() as u64).ok_or("a body longer than its header says")?;
                let stamp = if seen { stamp } else { Stamp::read(payload) };
                if missing == 0 {
                    return Ok(Some((method, stamp)));
                }
                *self = Self::AwaitingBody { method, missing, stamp, seen: true };
                Ok(None)
            }
            Self::Idle | Self::AwaitingHeader(_) => Err("a body without a content header"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_is_read_from_the_first_of_several_bodies() {
        let mut incoming = Incoming::AwaitingHeader("m");
        assert_eq!(incoming.on_header(40), Ok(None));
        assert_eq!(incoming.on_body(&[1; 20]), Ok(None));
        let stamp = Stamp::read(&[1; 16]);
        assert_eq!(incoming.on_body(&[2; 20]), Ok(Some(("m", stamp))));
        assert!(incoming.on_body(&[3; 20]).is_err());
    }

    #[test]
    fn a_message_without_a_body_is_complete_with_its_header() {
        let mut incoming = Incoming::AwaitingHeader("m");
        assert_eq!(incoming.on_header(0), Ok(Some(("m", None))));
        assert!(incoming.on_header(0).is_err());
    }

    #[test]
    fn a_body_longer_than_announced_is_refused() {
        let mut incoming = Incoming::AwaitingHeader("m");
        assert_eq!(incoming.on_header(4), Ok(None));
        assert!(incoming.on_body(&[0; 5]).is_err());
    }
}
