//! Health: paths for probes, and RabbitMQ's checks. Those that probes ask need no login and touch no other node.

use serde_json::{Value, json};
use warren_broker::admin::Admin;

use super::checks;
use crate::Management;
use crate::answer::Answer;
use crate::path::{Check, Resource};

/// The answer to what may be asked without login; `None` for everything else.
pub(crate) fn without_login(management: &Management, resource: &Resource) -> Option<Answer> {
    match resource {
        // That this code runs is the answer.
        Resource::Live => Some(Answer::Document(ok())),
        Resource::Ready | Resource::Check(Check::Ready) => of_broker(management, ready),
        Resource::Check(Check::BelowLimit) => of_broker(management, below_limit),
        Resource::Check(Check::ServesClients) => of_broker(management, serves_clients),
        Resource::Check(Check::ClusterSize) => of_broker(management, checks::cluster_size),
        // Anything new needs a login until somebody decides otherwise.
        _ => None,
    }
}

fn of_broker(management: &Management, check: fn(&dyn Admin) -> Answer) -> Option<Answer> {
    Some(match management.admin() {
        Some(admin) => check(admin.as_ref()),
        None => Answer::No(failed("the node is starting")),
    })
}

fn below_limit(admin: &dyn Admin) -> Answer {
    let (connections, most) = (admin.connections().len(), admin.connections_max());
    if connections < most {
        return Answer::Document(ok());
    }
    let mut answer = failed(&format!("this node has {connections} connections and takes {most}"));
    if let Value::Object(answer) = &mut answer {
        answer.insert("connections".to_owned(), connections.into());
    }
    Answer::No(answer)
}

fn serves_clients(admin: &dyn Admin) -> Answer {
    match ready(admin) {
        Answer::Document(_) => below_limit(admin),
        not_ready => not_ready,
    }
}

/// A check that needs a login.
pub(crate) fn check(admin: &dyn Admin, check: &Check) -> Answer {
    match check {
        Check::Ready => ready(admin),
        Check::BelowLimit => below_limit(admin),
        Check::ServesClients => serves_clients(admin),
        Check::Alarms => alarms(admin, false),
        Check::LocalAlarms => alarms(admin, true),
        // Every vhost runs wherever this runs at all.
        Check::VirtualHosts
        | Check::QuorumCritical
        | Check::Leaders
        | Check::Port(_)
        | Check::Protocols(_)
        | Check::Certificates { .. }
        | Check::ClusterSize
        | Check::Aliveness(_)
        | Check::Metadata => Answer::Document(ok()),
    }
}

fn alarms(admin: &dyn Admin, local: bool) -> Answer {
    let mut raised = Vec::new();
    for node in admin.nodes().iter().filter(|node| node.this || !local) {
        for (resource, is_raised) in [("disk", node.alarms.disk), ("memory", node.alarms.memory)] {
            if is_raised {
                raised.push(json!({ "node": node.name, "resource": resource }));
            }
        }
    }
    if raised.is_empty() {
        return Answer::Document(ok());
    }
    let place = if local { "on this node" } else { "in the cluster" };
    let mut answer = failed(&format!("There are alarms in effect {place}"));
    if let Value::Object(answer) = &mut answer {
        answer.insert("alarms".to_owned(), Value::Array(raised));
    }
    Answer::No(answer)
}

fn ready(admin: &dyn Admin) -> Answer {
    match admin.ready() {
        Ok(()) => Answer::Document(ok()),
        Err(reason) => Answer::No(failed(&reason)),
    }
}

/// Nothing is wrong.
pub(super) fn ok_answer() -> Answer {
    Answer::Document(ok())
}

fn ok() -> Value {
    json!({ "status": "ok" })
}

fn failed(reason: &str) -> Value {
    json!({ "status": "failed", "reason": reason })
}
