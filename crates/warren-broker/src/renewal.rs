//! A node that finds its stored data damaged puts it aside and begins anew, as a new node in the place of the former one,
//! which the other nodes then rebuild. Only if its cluster has a majority without it and says that it would take it in:
//! else what is there is worth more than nothing, and an operator decides.
//!
//! What was put aside is deleted once the former node is gone from the cluster: everything that it held is held by others then.
//! Each step is one rename, and a crash between two of them is found again as a store that is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use warren_proto::catalogue::NodeRecord;
use warren_raft::blocking;
use warren_rpc::tls::Security;
use warren_rpc::{ClusterId, Hello, Peers};
use warren_types::NodeId;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::identity;

/// Holds the number of the cluster that the data belong to.
const CLUSTER: &str = "cluster-id";
/// Left by a node that met damage while it ran, with what it said.
const MARK: &str = "damaged";
/// The store.
const STORE: &str = "store";
/// The store that was put aside.
const ASIDE: &str = "store.damaged";
/// In it: the number of the node that it belonged to.
const FORMER: &str = "former-node-id";
/// How long the other nodes are asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the store of a node is.
#[must_use]
pub(crate) fn store(directory: &Path) -> PathBuf {
    directory.join(STORE)
}

/// Leaves word for the next start if a node ends because of damage, and says whether it does. Best effort: the disk may be why it
/// ends.
pub(crate) fn note(directory: &Path, reason: &str) -> bool {
    let is_damage = warren_store::tells_of_damage(reason);
    if is_damage && let Err(error) = identity::keep(directory, MARK, reason) {
        warn!(%error, "cannot leave word of the damage for the next start");
    }
    is_damage
}

/// What an earlier run said when it ended because of damage.
#[must_use]
pub(crate) fn noted(directory: &Path) -> Option<String> {
    std::fs::read_to_string(directory.join(MARK)).ok()
}

/// Puts the store aside and draws a new number, if the cluster would take this node in anew.
///
/// # Errors
/// Why not, as a sentence: nothing was touched.
pub(crate) async fn begin_anew(
    config: &BrokerConfig,
    former: NodeId,
    incarnation: u64,
    security: Security,
) -> Result<NodeId, String> {
    let cluster = cluster(&config.data_dir).ok_or("it is not known which cluster its data belong to")?;
    if config.seeds.iter().all(|seed| *seed == config.cluster_advertise) {
        return Err("it has no seeds, there is nobody to rebuild it".to_owned());
    }
    if config.replication_factor < 2 {
        return Err("its messages are on no other node".to_owned());
    }
    info!(%cluster, "asking the other nodes whether they can rebuild this one");
    let node = identity::draw().map_err(|error| error.to_string())?;
    let (name, address, zone) =
        (config.node_name.clone(), config.cluster_advertise.clone(), config.zone.clone());
    let hello = Hello {
        node,
        incarnation,
        cluster: None,
        address: address.clone(),
        name: name.clone(),
        fresh: true,
        sees: Vec::new(),
        zone: zone.clone(),
    };
    let peers = Peers::secured(hello, security);
    let newcomer = NodeRecord { id: node, name, address, zone };
    warren_raft::would_be_taken_in(&peers, &config.seeds, &newcomer, cluster, PATIENCE).await?;
    let directory = config.data_dir.clone();
    let moved = blocking(move || put_aside(&directory, former, node)).await;
    moved
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("the store cannot be put aside: {error}"))?;
    warn!(
        former = %format_args!("{:016x}", former.0),
        node = %format_args!("{:016x}", node.0),
        kept = %config.data_dir.join(ASIDE).display(),
        "the damaged store is put aside: this node begins anew, the other nodes rebuild it"
    );
    Ok(node)
}

/// Renames and removes, in an order that a crash may end anywhere.
fn put_aside(directory: &Path, former: NodeId, node: NodeId) -> std::io::Result<()> {
    let (store, aside) = (store(directory), directory.join(ASIDE));
    if aside.exists() {
        // This store was itself being rebuilt: what is aside already is older, and whole as far as it goes.
        if store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
    } else if store.exists() {
        identity::keep(&store, FORMER, &format!("{:016x}", former.0))?;
        std::fs::rename(&store, &aside)?;
    }
    // From here on the node has no store, and does not start with an empty one under its old number: it made one.
    identity::sync(directory)?;
    identity::replace(directory, node)?;
    identity::forget_store(directory)?;
    match std::fs::remove_file(directory.join(MARK)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => identity::sync(directory),
    }
}

/// Keeps the cluster's number beside the data, and deletes what was put aside when nobody needs it any more.
pub(crate) async fn follow(broker: Arc<Broker>, running: CancellationToken) {
    let directory = broker.config().data_dir.clone();
    let former = former(&directory);
    let (mut noted, mut cleared) = (false, former.is_none());
    let mut revisions = broker.catalogue().revision();
    while !(noted && cleared) {
        let (known, is_gone) = {
            let catalogue = broker.catalogue().read();
            let here = |id: NodeId| catalogue.nodes().any(|node| node.id == id);
            let is_gone = here(broker.node()) && former.is_some_and(|former| !here(former));
            (catalogue.cluster().map(|cluster| ClusterId(cluster.id)), is_gone)
        };
        if let Some(known) = known.filter(|_| !noted) {
            noted = true;
            let directory = directory.clone();
            let written = blocking(move || match cluster(&directory) {
                Some(there) if there == known => Ok(()),
                Some(_) | None => identity::keep(&directory, CLUSTER, &format!("{known}")),
            });
            if let Ok(Err(error)) = written.await {
                warn!(%error, "cannot note the cluster's number: a damaged store would not be rebuilt by itself");
            }
        }
        if is_gone && !cleared {
            cleared = true;
            let aside = directory.join(ASIDE);
            match blocking(move || std::fs::remove_dir_all(aside)).await {
                Ok(Ok(())) => info!("this node is rebuilt: the damaged store that was put aside is deleted"),
                Ok(Err(error)) => warn!(%error, "the damaged store that was put aside cannot be deleted"),
                Err(_) => {}
            }
            continue;
        }
        tokio::select! {
            () = running.cancelled() => return,
            changed = revisions.changed() => if changed.is_err() { return },
        }
    }
}

fn cluster(directory: &Path) -> Option<ClusterId> {
    number(&directory.join(CLUSTER)).map(ClusterId)
}

fn former(directory: &Path) -> Option<NodeId> {
    number(&directory.join(ASIDE).join(FORMER)).map(NodeId)
}

fn number(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    u64::from_str_radix(text.trim(), 16).ok().filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_node(directory: &Path) -> NodeId {
        let (node, _) = identity::load_or_draw(directory).unwrap();
        std::fs::create_dir(store(directory)).unwrap();
        std::fs::write(store(directory).join("CURRENT"), "old").unwrap();
        identity::note_store(directory).unwrap();
        node
    }

    #[test]
    fn a_store_is_put_aside_whole_with_the_number_of_its_node() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let node = a_node(directory);
        put_aside(directory, node, NodeId(77)).unwrap();
        assert_eq!(identity::load_or_draw(directory).unwrap(), (NodeId(77), false));
        assert!(!store(directory).exists() && !identity::has_store(directory));
        assert_eq!(std::fs::read_to_string(directory.join(ASIDE).join("CURRENT")).unwrap(), "old");
        assert_eq!(former(directory), Some(node));
    }

    #[test]
    fn the_store_of_a_node_that_was_being_rebuilt_goes_and_what_is_aside_stays() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let node = a_node(directory);
        put_aside(directory, node, NodeId(77)).unwrap();
        std::fs::create_dir(store(directory)).unwrap();
        std::fs::write(store(directory).join("CURRENT"), "half").unwrap();
        put_aside(directory, NodeId(77), NodeId(78)).unwrap();
        assert!(!store(directory).exists());
        assert_eq!(std::fs::read_to_string(directory.join(ASIDE).join("CURRENT")).unwrap(), "old");
        assert_eq!(former(directory), Some(node));
    }

    #[test]
    fn word_is_left_of_damage_only() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!note(directory.path(), "the store has failed: no space"));
        assert_eq!(noted(directory.path()), None);
        let damage = warren_store::StoreError::DamagedFiles { what: "read", reason: "checksum".into() };
        assert!(note(directory.path(), &format!("group 3: {damage}")));
        assert!(noted(directory.path()).unwrap().contains("checksum"));
        put_aside(directory.path(), NodeId(1), NodeId(2)).unwrap();
        assert_eq!(noted(directory.path()), None);
    }

    #[tokio::test]
    async fn a_node_without_others_keeps_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let node = a_node(directory.path());
        identity::keep(directory.path(), CLUSTER, "00000000000000ff").unwrap();
        let config = BrokerConfig { data_dir: directory.path().to_owned(), ..BrokerConfig::default() };
        let refused = begin_anew(&config, node, 1, Security::plain()).await;
        assert!(refused.unwrap_err().contains("no seeds"));
        assert!(store(directory.path()).join("CURRENT").exists());
    }
}
