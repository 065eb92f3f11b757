//! Reply codes (0-9-1 §1.1.1 constants, with RabbitMQ's levels) and the error that carries one to a client.

use std::fmt;

/// What an error closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseScope {
    /// The channel it happened on.
    Channel,
    /// The whole connection.
    Connection,
}

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $scope:ident;)*) => {
        /// A reply code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ReplyCode { $($(#[$doc])* $name,)* }

        impl ReplyCode {
            /// The number on the wire.
            #[must_use]
            pub fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The reply code of that number, if there is one.
            #[must_use]
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The constant's name, as reply texts begin with it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What RabbitMQ closes for it. Errors on channel 0 always close the connection.
            #[must_use]
            pub fn scope(self) -> CloseScope {
                match self { $(Self::$name => CloseScope::$scope,)* }
            }
        }
    };
}

reply_codes! {
    /// A normal close.
    ReplySuccess = 200, "REPLY_SUCCESS", Channel;
    /// Content larger than allowed.
    ContentTooLarge = 311, "CONTENT_TOO_LARGE", Channel;
    /// A mandatory message that no queue took.
    NoRoute = 312, "NO_ROUTE", Channel;
    /// An immediate message that no consumer took.
    NoConsumers = 313, "NO_CONSUMERS", Channel;
    /// An operator or a shutdown closed the connection.
    ConnectionForced = 320, "CONNECTION_FORCED", Connection;
    /// Not permitted.
    AccessRefused = 403, "ACCESS_REFUSED", Channel;
    /// No such queue or exchange.
    NotFound = 404, "NOT_FOUND", Channel;
    /// Exclusive to another connection.
    ResourceLocked = 405, "RESOURCE_LOCKED", Channel;
    /// A condition of the request does not hold.
    PreconditionFailed = 406, "PRECONDITION_FAILED", Channel;
    /// A malformed frame.
    FrameError = 501, "FRAME_ERROR", Connection;
    /// A malformed field.
    SyntaxError = 502, "SYNTAX_ERROR", Connection;
    /// A method that makes no sense here.
    CommandInvalid = 503, "COMMAND_INVALID", Connection;
    /// A channel that is not open, or opened twice.
    ChannelError = 504, "CHANNEL_ERROR", Connection;
    /// A frame out of sequence.
    UnexpectedFrame = 505, "UNEXPECTED_FRAME", Connection;
    /// Out of resources.
    ResourceError = 506, "RESOURCE_ERROR", Connection;
    /// Not allowed at all.
    NotAllowed = 530, "NOT_ALLOWED", Connection;
    /// Not implemented.
    NotImplemented = 540, "NOT_IMPLEMENTED", Connection;
    /// The broker failed.
    InternalError = 541, "INTERNAL_ERROR", Connection;
}

/// An error on its way to a client: a reply code and what follows `CODE_NAME - ` in the reply text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpError {
    /// The code.
    pub code: ReplyCode,
    /// The explanation, without the code's name.
    pub text: String,
}

impl AmqpError {
    /// An error with this code and explanation.
    #[must_use]
    pub fn new(code: ReplyCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The whole reply text, `CODE_NAME - explanation`, cut at 255 bytes with a trailing `...` as RabbitMQ does.
    #[must_use]
    pub fn reply_text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.text);
        if text.len() > 255 {
            let mut end = 252;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str("...");
        }
        text
    }
}

impl fmt::Display for AmqpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reply_text())
    }
}

impl std::error::Error for AmqpError {}
