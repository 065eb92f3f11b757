//! RabbitMQ's feature flags, which are all on here, and what it is about to give up: tools look whether theirs are among them.

use serde_json::{Value, json};

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;

const BLOG: &str = "https://blog.rabbitmq.com/posts/2021/08/4.0-deprecation-announcements/";

/// The flags of RabbitMQ 4.3 by name. Tools look for names; what each was for only RabbitMQ's own pages say.
const FLAGS: &[&str] = &[
    "classic_mirrored_queue_version",
    "classic_queue_type_delivery_support",
    "detailed_queues_endpoint",
    "direct_exchange_routing_v2",
    "drop_unroutable_metric",
    "empty_basic_get_metric",
    "feature_flags_v2",
    "implicit_default_bindings",
    "khepri_db",
    "listener_records_in_ets",
    "maintenance_mode_status",
    "message_containers",
    "message_containers_deaths_v2",
    "quorum_queue",
    "quorum_queue_non_voters",
    "rabbit_exchange_type_local_random",
    "rabbitmq_4.0.0",
    "rabbitmq_4.1.0",
    "rabbitmq_4.2.0",
    "rabbitmq_4.3.0",
    "restart_streams",
    "stream_filtering",
    "stream_queue",
    "stream_sac_coordinator_unblock_group",
    "stream_single_active_consumer",
    "stream_update_config_command",
    "tracking_records_in_ets",
    "user_limits",
    "virtual_host_metadata",
];

/// The flag that a node may still be without.
const OPTIONAL: &str = "rabbitmq_4.3.0";

/// What RabbitMQ gives up and Warren has: name, and the part of [`BLOG`] about it.
const DEPRECATED: &[(&str, &str)] = &[
    ("global_qos", "#removal-of-global-qos"),
    ("transient_nonexcl_queues", "#removal-of-transient-non-exclusive-queues"),
];

pub(super) fn flags() -> Answer {
    let shape = |name: &&str| -> Value {
        let required = *name != OPTIONAL;
        json!({
            "name": name,
            "desc": "",
            "doc_url": "",
            "state": "enabled",
            "stability": if required { "required" } else { "stable" },
            "require_level": if required { "hard" } else { "none" },
            "experiment_level": "unsupported",
            "callbacks": [],
            "provided_by": "rabbit",
        })
    };
    Answer::List(FLAGS.iter().map(shape).collect())
}

/// # Errors
/// 400 in RabbitMQ's words for one that there is not.
pub(super) fn enable(name: &str) -> Result<Answer, ApiError> {
    if FLAGS.contains(&name) {
        return Ok(Answer::Done);
    }
    Err(ApiError::BadRequest("unsupported".to_owned()))
}

impl Asked<'_> {
    /// All of them are permitted here.
    pub(super) fn deprecated_features(&self, used: bool) -> Answer {
        let in_use = |name: &str| match name {
            "transient_nonexcl_queues" => {
                self.admin.queue_specs(None).iter().any(|spec| !spec.durable && spec.exclusive.is_none())
            }
            _ => false,
        };
        let shown = DEPRECATED.iter().filter(|(name, _)| !used || in_use(name));
        let shape = |(name, part): &(&str, &str)| {
            json!({
                "name": name,
                "desc": "",
                "deprecation_phase": "permitted_by_default",
                "doc_url": format!("{BLOG}{part}"),
                "provided_by": "rabbit",
                "state": "permitted_by_default",
            })
        };
        Answer::List(shown.map(shape).collect())
    }
}
