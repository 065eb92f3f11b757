//! An error on its way to a client, with the method that is to blame. Knows which codes close what.

use warren_types::{AmqpError, CloseScope, ReplyCode};

/// A class and method number (0-9-1 §1.1.2). `(0, 0)` when no method is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MethodId {
    /// The class.
    pub class: u16,
    /// The method in it.
    pub method: u16,
}

impl MethodId {
    /// No method is to blame.
    pub const NONE: Self = Self::new(0, 0);
    /// `basic.publish`.
    pub const PUBLISH: Self = Self::new(60, 40);

    /// The method of that class and number.
    #[must_use]
    pub const fn new(class: u16, method: u16) -> Self {
        Self { class, method }
    }
}

/// Something that closes a channel or the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) error: AmqpError,
    pub(crate) id: MethodId,
}

impl Fault {
    pub(crate) fn new(code: ReplyCode, text: impl Into<String>, id: MethodId) -> Self {
        Self { error: AmqpError::new(code, text), id }
    }

    /// A shell answered a request with a reply that does not belong to it: our bug, not the client's.
    pub(crate) fn mismatched_reply(id: MethodId) -> Self {
        Self::new(ReplyCode::InternalError, "the broker answered another question", id)
    }

    pub(crate) fn closes_connection(&self) -> bool {
        self.error.code.scope() == CloseScope::Connection
    }
}
