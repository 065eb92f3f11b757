//! Who leads what, for nodes that hold no replica of it; and whether a group's members are those that it should have,
//! for the placement. Each node tells with its beats, and at once when something changes, which groups it leads.
//!
//! A claim carries its term: of two the higher counts, so that claims may come twice, late and out of order. Nothing
//! depends on one being true: who follows a wrong one is told so by the node that it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use warren_rpc::PeerTable;
use warren_types::{GroupId, NodeId, ShardId, Term};

use crate::group::Group;
use crate::node::Shared;
use crate::wire::{Malformed, Reader};

const VERSION: u8 = 1;
/// How often it is looked whether a group's members have changed.
const LOOK: Duration = Duration::from_millis(200);
/// Members that are just changing.
const UNSETTLED: u32 = 0;

/// What a leader tells of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    group: GroupId,
    term: Term,
    /// Of its voters, once they are settled.
    members: u32,
}

fn encode(claims: &[Claim]) -> Bytes {
    let mut out = Vec::with_capacity(1 + claims.len() * 16);
    out.push(VERSION);
    for claim in claims {
        out.extend_from_slice(&claim.group.0.to_le_bytes());
        out.extend_from_slice(&claim.term.0.to_le_bytes());
        out.extend_from_slice(&claim.members.to_le_bytes());
    }
    out.into()
}

fn decode(bytes: Bytes) -> Result<Vec<Claim>, Malformed> {
    let count = bytes.len().saturating_sub(1) / 16;
    let mut reader = Reader::new(bytes, "gossip");
    if reader.u8()? != VERSION {
        return Err(Malformed("version of gossip"));
    }
    let mut claims = Vec::with_capacity(count);
    for _ in 0..count {
        claims.push(Claim {
            group: GroupId(reader.u32()?),
            term: Term(reader.u64()?),
            members: reader.u32()?,
        });
    }
    reader.end()?;
    Ok(claims)
}

/// A number that stands for a set of voters; never that of members which are just changing.
fn digest(members: impl IntoIterator<Item = NodeId>) -> u32 {
    let members: BTreeSet<NodeId> = members.into_iter().collect();
    let hash = members
        .iter()
        .flat_map(|node| node.0.to_le_bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.max(UNSETTLED + 1)
}

/// The digest of a group's voters, if they are committed, of one configuration, and nobody is on the way in or out.
fn settled_members(group: &Group) -> u32 {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    let settled = metrics.committed_membership_config.log_id() == metrics.membership_config.log_id()
        && membership.get_joint_config().len() == 1
        && membership.learner_ids().next().is_none();
    if settled { digest(membership.voter_ids().map(NodeId)) } else { UNSETTLED }
}

/// The latest claim for each group.
#[derive(Default)]
pub(crate) struct Rumours(Mutex<BTreeMap<GroupId, (NodeId, Claim)>>);

impl Rumours {
    /// Whether a shard has a leader whose voters are exactly these, with no change under way.
    pub(crate) fn is_settled(&self, shard: ShardId, members: &[NodeId]) -> bool {
        let wanted = digest(members.iter().copied());
        self.0.lock().get(&GroupId::from(shard)).is_some_and(|(_, claim)| claim.members == wanted)
    }

    /// Who claimed last to lead it.
    pub(crate) fn leader(&self, group: GroupId) -> Option<NodeId> {
        self.0.lock().get(&group).map(|(leader, _)| *leader)
    }

    fn take(&self, from: NodeId, claims: &[Claim]) {
        let mut known = self.0.lock();
        for claim in claims {
            let held = known.entry(claim.group).or_insert((from, *claim));
            if claim.term >= held.1.term {
                *held = (from, *claim);
            }
        }
    }
}

/// Tells the peers what this node leads, until it stops.
pub(crate) async fn tell(shared: Arc<Shared>) {
    let mut leaders = shared.leaders.subscribe();
    loop {
        let claims: Vec<Claim> =
            shared.groups.all().iter().filter_map(|group| claim(&shared, group)).collect();
        shared.rumours.take(shared.options.node, &claims);
        shared.peers.set_gossip(encode(&claims));
        tokio::select! {
            changed = leaders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

fn claim(shared: &Shared, group: &Group) -> Option<Claim> {
    let (leader, term) = group.leader()?;
    if leader != shared.options.node || !group.leads() || group.has_lost_quorum() {
        return None;
    }
    Some(Claim { group: group.id, term, members: settled_members(group) })
}

/// Learns what the peers lead, until the node stops.
pub(crate) async fn listen(shared: Arc<Shared>) {
    let mut liveness = shared.peers.liveness();
    let mut heard: BTreeMap<NodeId, Bytes> = BTreeMap::new();
    loop {
        let table = liveness.borrow_and_update().clone();
        learn(&shared, &table, &mut heard);
        tokio::select! {
            changed = liveness.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = shared.stop.cancelled() => return,
        }
    }
}

fn learn(shared: &Shared, table: &PeerTable, heard: &mut BTreeMap<NodeId, Bytes>) {
    heard.retain(|node, _| table.contains_key(node));
    for (node, peer) in table.iter().filter(|(_, peer)| peer.is_connected() && !peer.gossip.is_empty()) {
        if heard.get(node) == Some(&peer.gossip) {
            continue;
        }
        heard.insert(*node, peer.gossip.clone());
        let claims = match decode(peer.gossip.clone()) {
            Ok(claims) => claims,
            Err(error) => {
                tracing::debug!(%node, %error, "a peer's news makes no sense");
                continue;
            }
        };
        shared.rumours.take(*node, &claims);
        for claim in &claims {
            believe(shared, *node, claim.group, claim.term);
        }
    }
}

/// For a group that runs here its own log knows better.
fn believe(shared: &Shared, leader: NodeId, group: GroupId, term: Term) {
    if shared.groups.get(group).is_some() {
        return;
    }
    let known = shared.leaders.borrow().get_with_term(group);
    if known.is_none_or(|(_, known)| term >= known) {
        shared.set_leader(group, Some((leader, term)));
    }
}

/// For a group that runs here no more: what the others say of it counts again.
pub(crate) fn recall(shared: &Shared, group: GroupId) {
    let told = shared.rumours.0.lock().get(&group).copied();
    shared.set_leader(group, told.map(|(leader, claim)| (leader, claim.term)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(group: u32, term: u64, members: u32) -> Claim {
        Claim { group: GroupId(group), term: Term(term), members }
    }

    #[test]
    fn claims_survive_their_bytes_and_half_a_claim_is_refused() {
        for claims in [vec![], vec![claim(0, 7, 9), claim(3, u64::MAX, 0)]] {
            let bytes = encode(&claims);
            assert_eq!(decode(bytes.clone()), Ok(claims));
            let mut longer = bytes.to_vec();
            longer.push(1);
            assert!(decode(longer.into()).is_err());
        }
        assert!(decode(Bytes::from_static(b"\x02")).is_err());
    }

    #[test]
    fn of_two_claims_the_one_of_the_higher_term_counts_in_whatever_order_they_come() {
        let (one, two) = (NodeId(1), NodeId(2));
        let settled = digest([one, two]);
        for order in [[0, 1], [1, 0]] {
            let rumours = Rumours::default();
            for step in order {
                match step {
                    0 => rumours.take(one, &[claim(1, 4, digest([one]))]),
                    _ => rumours.take(two, &[claim(1, 5, settled)]),
                }
            }
            assert_eq!(rumours.leader(GroupId(1)), Some(two));
            assert!(rumours.is_settled(ShardId(1), &[two, one]));
            assert!(!rumours.is_settled(ShardId(1), &[one]));
        }
    }

    #[test]
    fn members_on_the_move_are_like_no_set_of_members() {
        let rumours = Rumours::default();
        rumours.take(NodeId(1), &[claim(1, 4, UNSETTLED)]);
        assert!(!rumours.is_settled(ShardId(1), &[]));
        assert!(!rumours.is_settled(ShardId(1), &[NodeId(1)]));
    }
}
