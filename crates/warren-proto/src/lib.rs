//! What is written to a log or sent to a node: generated Protobuf and the checked way to and from our nouns.
//!
//! One family a file: our type, its encoding, its refusal of what it does not know. Generated types stay in here.

pub mod catalogue;
mod counters;
mod error;
pub mod operate;
pub mod session;
pub mod shard;

pub use error::DecodeError;

/// Generated from `proto/`.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated")]
pub(crate) mod generated {
    /// `proto/catalogue.proto`
    pub(crate) mod catalogue {
        include!(concat!(env!("OUT_DIR"), "/warren.catalogue.v1.rs"));
    }
    /// `proto/shard.proto`
    pub(crate) mod shard {
        include!(concat!(env!("OUT_DIR"), "/warren.shard.v1.rs"));
    }
    /// `proto/operate.proto`
    pub(crate) mod operate {
        include!(concat!(env!("OUT_DIR"), "/warren.operate.v1.rs"));
    }
    /// `proto/session.proto`
    pub(crate) mod session {
        include!(concat!(env!("OUT_DIR"), "/warren.session.v1.rs"));
    }
}
