//! Why a bench run could not go on. Each error has an exit status, the same ones as the operators' commands have.

use std::io;
use std::process::ExitCode;

/// What stopped a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No TCP connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Unreachable { address: String, source: io::Error },
    /// An established connection broke.
    #[error("connection to {address} broke while {doing}: {source}")]
    Broken { address: String, doing: &'static str, source: io::Error },
    /// The broker did not answer in time.
    #[error("{address} gave no answer to {question} within {waited_s} s")]
    Silent { address: String, question: &'static str, waited_s: u64 },
    /// The broker closed a channel or the connection, with a reason.
    #[error("{address} closed the {scope} with {code}: {text}")]
    Refused { address: String, scope: &'static str, code: u16, text: String },
    /// The broker said no to a request, and went on.
    #[error("{address} declined {request} with {code}: {text}")]
    Declined { address: String, request: String, code: u16, text: String },
    /// What came is not the protocol that was agreed, or not what must come here.
    #[error("{address} sent something that does not belong here: {what}")]
    Protocol { address: String, what: String },
    /// The kernel refused something that the run needs.
    #[error("{doing}: {source}")]
    System { doing: &'static str, source: io::Error },
}

/// AMQP's access-refused.
const ACCESS_REFUSED: u16 = 403;

impl BenchError {
    /// A broker at `address` that sent what does not belong there.
    pub(crate) fn protocol(address: &str, what: &str) -> Self {
        Self::Protocol { address: address.to_owned(), what: what.to_owned() }
    }

    /// 2 usage, 3 the broker refused or broke off, 6 not allowed, 7 unreachable, 8 no answer in time.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::Refused { code: ACCESS_REFUSED, .. } => 6,
            Self::Refused { .. }
            | Self::Declined { .. }
            | Self::Broken { .. }
            | Self::Protocol { .. }
            | Self::System { .. } => 3,
            Self::Unreachable { .. } => 7,
            Self::Silent { .. } => 8,
        })
    }
}
