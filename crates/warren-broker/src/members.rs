//! What an operator does with the nodes of the cluster. Only the wish is recorded here; `warren-raft` moves what has to move.

use warren_catalogue::Duty;
use warren_proto::catalogue::{Command, NodeState};
use warren_types::{AmqpError, NodeId, ReplyCode};

use crate::admin::{AdminError, NodeChange};
use crate::broker::Broker;

fn refused(text: String) -> AdminError {
    AdminError::Refused(AmqpError::new(ReplyCode::PreconditionFailed, text))
}

/// Carries a change out, unless something would be lost by it.
///
/// # Errors
/// [`AdminError::NotFound`] for a name and number that no node has, [`AdminError::Refused`] with why not.
pub(crate) async fn change_node(broker: &Broker, name: &str, change: NodeChange) -> Result<(), AdminError> {
    let node = find(broker, name)?;
    let duty = match change {
        NodeChange::Drain => Duty::Drained,
        NodeChange::Undrain => Duty::Full,
        NodeChange::Remove | NodeChange::Replace => Duty::Leaving,
    };
    if duty == Duty::Leaving
        && let Some(hazard) = broker.raft().removal_hazard(node)
    {
        return Err(refused(hazard));
    }
    if change == NodeChange::Replace {
        must_have_heir(broker, node)?;
    }
    broker.change(Command::SetDuty { node, duty }).await?;
    Ok(())
}

/// By name, or by number (16 hexadecimal digits) where two have the same name.
fn find(broker: &Broker, name: &str) -> Result<NodeId, AdminError> {
    let catalogue = broker.catalogue().read();
    let number = u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16).map(NodeId);
    let named: Vec<&NodeState> =
        catalogue.nodes().filter(|node| node.name == name || number == Some(node.id)).collect();
    match named.as_slice() {
        [] => Err(AdminError::NotFound),
        [one] => Ok(one.id),
        [..] => Err(refused(format!(
            "{} nodes are named '{name}': give one of their numbers, {}",
            named.len(),
            named.iter().map(|node| format!("{:016x}", node.id.0)).collect::<Vec<_>>().join(" or ")
        ))),
    }
}

/// Whether enough others are there for all replicas of the shards that the node holds.
fn must_have_heir(broker: &Broker, node: NodeId) -> Result<(), AdminError> {
    let catalogue = broker.catalogue().read();
    let held = catalogue.shards().filter(|shard| shard.replicas.contains(&node));
    let needed = held.map(|shard| shard.replicas.len()).max().unwrap_or_default();
    let table = broker.peers().table();
    let there = |other: NodeId| {
        other == broker.node() || table.get(&other).is_some_and(warren_rpc::PeerStatus::is_connected)
    };
    let others = catalogue
        .nodes()
        .filter(|other| other.id != node && other.duty == Duty::Full && there(other.id))
        .count();
    if others < needed {
        return Err(refused(format!(
            "its shards have {needed} replicas and {others} other nodes could hold them: start a new node first, it joins \
             by itself"
        )));
    }
    Ok(())
}
