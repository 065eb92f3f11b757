//! Generated from `proto/member.proto`. Stays in this crate.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("warren.member.v1");
