//! What a node's memory is used for, by RabbitMQ's names: strict clients want every one of them. Only the whole is known here.

use serde_json::{Map, Value, json};

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;
use crate::process::Process;

/// What RabbitMQ tells apart. The process's memory is not accounted for so finely: all of it is `other_proc`.
const PARTS: &[&str] = &[
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "queue_slave_procs",
    "quorum_queue_procs",
    "quorum_queue_dlx_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "metadata_store",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "metadata_store_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
];
const WHOLE: &str = "other_proc";

impl Asked<'_> {
    /// `relative`: in percent. Of another node nothing is known.
    pub(super) fn memory(&self, name: &str, relative: bool) -> Result<Answer, ApiError> {
        self.caller.must_monitor()?;
        let nodes = self.admin.nodes();
        let node = nodes.iter().find(|node| node.name == name).ok_or(ApiError::ObjectNotFound)?;
        if !node.this {
            return Ok(Answer::Document(json!({ "memory": "not_available" })));
        }
        let bytes = Process::read(self.started).resident_bytes;
        let all = if relative { 100 } else { bytes };
        let mut memory: Map<String, Value> = PARTS
            .iter()
            .map(|part| ((*part).to_owned(), if *part == WHOLE { all } else { 0 }.into()))
            .collect();
        if relative {
            memory.insert("total".to_owned(), 100.into());
        } else {
            memory.insert("strategy".to_owned(), "rss".into());
            let total = json!({ "erlang": bytes, "rss": bytes, "allocated": bytes });
            memory.insert("total".to_owned(), total);
        }
        Ok(Answer::Document(json!({ "memory": memory })))
    }
}
