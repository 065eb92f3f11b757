//! Whether something could be declared, without declaring it: what can be told from it alone.

use warren_catalogue::{check_exchange_name, check_new_queue, check_queue_name};
use warren_proto::catalogue::{ApplyTo, DeclareQueue, ExchangeKind, PolicyRecord};
use warren_types::{AmqpError, FieldTable, NodeId};

use super::{ExchangeInfo, PolicyInfo};

/// # Errors
/// As its declaration.
pub fn check_exchange(exchange: &ExchangeInfo) -> Result<(), AmqpError> {
    check_exchange_name(&exchange.name)?;
    ExchangeKind::parse(&exchange.kind).map(drop)
}

/// # Errors
/// As its declaration.
pub fn check_queue(
    vhost: &str,
    name: &str,
    durable: bool,
    auto_delete: bool,
    arguments: &FieldTable,
) -> Result<(), AmqpError> {
    check_queue_name(name)?;
    let declare = DeclareQueue {
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        durable,
        exclusive: None,
        auto_delete,
        arguments: arguments.clone(),
        home: NodeId(0),
    };
    check_new_queue(&declare, arguments)
}

/// # Errors
/// As its setting.
pub fn check_policy(policy: &PolicyInfo) -> Result<(), AmqpError> {
    let PolicyInfo { vhost, name, operator, pattern, apply_to, priority, definition } = policy.clone();
    let apply_to = ApplyTo::parse(&apply_to)?;
    let record = PolicyRecord { vhost, name, operator, pattern, apply_to, priority, definition };
    warren_catalogue::check_policy(record)
}
