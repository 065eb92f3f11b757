//! RabbitMQ's feature flags, which are all on here, and what it is about to give up: tools look whether theirs are among them.

use serde_json::{Value, json};

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;

const BLOG: &str = "https://blog.rabbitmq.com/posts/2021/08/4.0-deprecation-announcements/";

/// Name, description, page, and whether every node must have it, of each flag of RabbitMQ 4.3, by name.
const FLAGS: &[(&str, &str, &str, bool)] = &[
    ("classic_mirrored_queue_version", "Support setting version for classic mirrored queues", "", true),
    (
        "classic_queue_type_delivery_support",
        "Bug fix for classic queue deliveries using mixed versions",
        "https://github.com/rabbitmq/rabbitmq-server/issues/5931",
        true,
    ),
    (
        "detailed_queues_endpoint",
        "Add a detailed queues HTTP API endpoint. Reduce number of metrics in the default endpoint.",
        "",
        true,
    ),
    ("direct_exchange_routing_v2", "v2 direct exchange routing implementation", "", true),
    ("drop_unroutable_metric", "Count unroutable publishes to be dropped in stats", "", true),
    ("empty_basic_get_metric", "Count AMQP `basic.get` on empty queues in stats", "", true),
    ("feature_flags_v2", "Feature flags subsystem V2", "", true),
    (
        "implicit_default_bindings",
        "Default bindings are now implicit, instead of being stored in the database",
        "",
        true,
    ),
    (
        "khepri_db",
        "New Raft-based metadata store.",
        "https://www.rabbitmq.com/docs/next/metadata-store",
        true,
    ),
    ("listener_records_in_ets", "Store listener records in ETS instead of Mnesia", "", true),
    ("maintenance_mode_status", "Maintenance mode status", "", true),
    ("message_containers", "Message containers.", "", true),
    (
        "message_containers_deaths_v2",
        "Bug fix for dead letter cycle detection",
        "https://github.com/rabbitmq/rabbitmq-server/issues/11159",
        true,
    ),
    ("quorum_queue", "Support queues of type `quorum`", "https://www.rabbitmq.com/docs/quorum-queues", true),
    (
        "quorum_queue_non_voters",
        "Allows new quorum queue members to be added as non voters initially.",
        "",
        true,
    ),
    ("rabbit_exchange_type_local_random", "Local random exchange", "", true),
    ("rabbitmq_4.0.0", "Allows rolling upgrades from 3.13.x to 4.0.x", "", true),
    ("rabbitmq_4.1.0", "Allows rolling upgrades to 4.1.x", "", true),
    ("rabbitmq_4.2.0", "Allows rolling upgrades to 4.2.x", "", true),
    ("rabbitmq_4.3.0", "Allows rolling upgrades to 4.3.x", "", false),
    (
        "restart_streams",
        "Support for restarting streams with optional preferred next leader argument.Used to implement stream leader rebalancing",
        "",
        true,
    ),
    ("stream_filtering", "Support for stream filtering.", "", true),
    ("stream_queue", "Support queues of type `stream`", "https://www.rabbitmq.com/docs/stream", true),
    (
        "stream_sac_coordinator_unblock_group",
        "Bug fix to unblock a group of consumers in a super stream partition",
        "https://github.com/rabbitmq/rabbitmq-server/issues/7743",
        true,
    ),
    (
        "stream_single_active_consumer",
        "Single active consumer for streams",
        "https://www.rabbitmq.com/docs/stream",
        true,
    ),
    (
        "stream_update_config_command",
        "A new internal command that is used to update streams as part of a policy.",
        "",
        true,
    ),
    ("tracking_records_in_ets", "Store tracking records in ETS instead of Mnesia", "", true),
    ("user_limits", "Configure connection and channel limits for a user", "", true),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)", "", true),
];

/// What RabbitMQ gives up and Warren has: name, and the part of [`BLOG`] about it.
const DEPRECATED: &[(&str, &str)] = &[
    ("global_qos", "#removal-of-global-qos"),
    ("transient_nonexcl_queues", "#removal-of-transient-non-exclusive-queues"),
];

pub(super) fn flags() -> Answer {
    let shape = |(name, description, page, required): &(&str, &str, &str, bool)| -> Value {
        json!({
            "name": name,
            "desc": description,
            "doc_url": page,
            "state": "enabled",
            "stability": if *required { "required" } else { "stable" },
            "require_level": if *required { "hard" } else { "none" },
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
    if FLAGS.iter().any(|(known, ..)| *known == name) {
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
