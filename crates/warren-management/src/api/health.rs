//! Health: paths for probes, and RabbitMQ's checks. Those that probes ask need no login and touch no other node.

use serde_json::{Value, json};
use warren_broker::admin::Admin;

use crate::Management;
use crate::answer::Answer;
use crate::path::{Check, Resource};

/// The answer to what may be asked without login; `None` for everything else.
pub(crate) fn without_login(management: &Management, resource: &Resource) -> Option<Answer> {
    match resource {
        // That this code runs is the answer.
        Resource::Live => Some(Answer::Document(ok())),
        Resource::Ready | Resource::Check(Check::Ready) => Some(match management.admin() {
            Some(admin) => ready(admin.as_ref()),
            None => Answer::No(failed("the node is starting")),
        }),
        // Anything new needs a login until somebody decides otherwise.
        _ => None,
    }
}

/// A check that needs a login.
pub(crate) fn check(admin: &dyn Admin, check: Check) -> Answer {
    match check {
        Check::Ready => ready(admin),
        // This version raises no alarms and runs every vhost wherever it runs at all.
        Check::Alarms
        | Check::VirtualHosts
        | Check::QuorumCritical
        | Check::Leaders
        | Check::Port(_)
        | Check::Protocol(_)
        | Check::ClusterSize
        | Check::Metadata => Answer::Document(ok()),
    }
}

fn ready(admin: &dyn Admin) -> Answer {
    match admin.ready() {
        Ok(()) => Answer::Document(ok()),
        Err(reason) => Answer::No(failed(&reason)),
    }
}

fn ok() -> Value {
    json!({ "status": "ok" })
}

fn failed(reason: &str) -> Value {
    json!({ "status": "failed", "reason": reason })
}
