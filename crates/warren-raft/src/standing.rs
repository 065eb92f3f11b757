//! Whether this node is who it thinks it is: still a member, of this cluster, and the only process with its number.
//!
//! A node that was removed while it was away hears of it from any member. A node whose data directory belongs to another
//! cluster than its seeds do, or is a copy of one that is in use, is refused by everybody it greets. Each of them must
//! stop, with a sentence that says why: it could serve nobody, and would look as if it were only waiting. So must one that
//! was removed before it had heard of anybody but its seeds: they are asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use warren_rpc::HelloError;
use warren_types::{GroupId, NodeId};

use crate::member::kind;
use crate::node::Shared;

/// How often it looks while something is amiss.
const LOOK: Duration = Duration::from_secs(1);
/// How long everybody may refuse this node before it gives up: a former process of it may be about to end.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long a member may take to say whether this node is one.
const ASK: Duration = Duration::from_secs(2);
/// The answer of a member to a node that was removed.
const REMOVED: u8 = 1;

/// Looks until the node stops or must stop.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut greeted = false;
    let mut refused_since: Option<Instant> = None;
    loop {
        if removed(&shared).await {
            shared.fail(
                "this node was removed from its cluster: to join again, start it with an empty data directory, as a new node",
            );
            return;
        }
        let alone = shared.belongs.load(Ordering::Acquire) && !has_majority(&shared);
        if !greeted || alone {
            match greet(&shared).await {
                Greeted::Welcome => (greeted, refused_since) = (true, None),
                Greeted::Nobody => refused_since = None,
                Greeted::Refused(reason) => {
                    let since = *refused_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= PATIENCE {
                        shared.fail(&format!("nobody takes this node for a member: {reason}"));
                        return;
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

fn has_majority(shared: &Shared) -> bool {
    shared.groups.get(GroupId::METADATA).is_some_and(|metadata| metadata.has_majority())
}

/// Whether this node was a member and is none any more, as far as it or those it reaches know.
async fn removed(shared: &Shared) -> bool {
    let me = shared.options.node;
    if shared.catalogue.read().is_removed(me) {
        return true;
    }
    if !shared.belongs.load(Ordering::Acquire) || has_majority(shared) {
        return false;
    }
    let table = shared.peers.table();
    let reached = table.iter().filter(|(_, peer)| peer.is_connected()).map(|(node, _)| *node);
    let asked =
        reached.map(|node| shared.peers.call(node, GroupId::METADATA, kind::STANDING, Bytes::new(), ASK));
    let answers = futures_util::future::join_all(asked).await;
    answers.iter().any(|answer| answer.as_deref().is_ok_and(|answer| answer == [REMOVED]))
}

/// The other side of it.
pub(crate) fn answer(shared: &Shared, from: NodeId) -> Bytes {
    let removed = shared.catalogue.read().is_removed(from);
    Bytes::copy_from_slice(if removed { &[REMOVED] } else { &[0] })
}

enum Greeted {
    /// Somebody takes this node for what it says it is, or there is nobody to ask.
    Welcome,
    /// Nobody is there.
    Nobody,
    /// All who are there refuse it.
    Refused(String),
}

async fn greet(shared: &Shared) -> Greeted {
    let mut addresses: BTreeSet<String> = shared.options.seeds.iter().cloned().collect();
    addresses.extend(shared.peers.table().values().map(|peer| peer.address.clone()));
    addresses.remove(&shared.options.advertise);
    if addresses.is_empty() {
        return Greeted::Welcome;
    }
    let greetings = futures_util::future::join_all(addresses.iter().map(|to| shared.peers.hello(to))).await;
    let own = shared.peers.own_hello();
    let (mut welcome, mut reason) = (false, None);
    for greeting in greetings {
        match greeting {
            Ok(hello) if hello.node == own.node => {}
            Ok(hello) => {
                welcome = true;
                // A node that was taken in, and has heard nothing since then, knows nobody whom it could ask.
                if own.cluster.is_some() && hello.cluster == own.cluster {
                    shared.peers.set(hello.node, &hello.address);
                }
            }
            Err(error @ (HelloError::Refused { .. } | HelloError::OtherCluster { .. })) => {
                reason = Some(error.to_string());
            }
            Err(
                HelloError::ConnectionRefused { .. }
                | HelloError::Unreachable { .. }
                | HelloError::Unproven { .. }
                | HelloError::Protocol { .. }
                | HelloError::OtherNode { .. },
            ) => {}
        }
    }
    match reason {
        _ if welcome => Greeted::Welcome,
        Some(reason) => Greeted::Refused(reason),
        None => Greeted::Nobody,
    }
}
