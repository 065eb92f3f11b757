//! A node whose data cannot be trusted asks whether its cluster would take it in anew, before it gives anything up.

use std::time::Duration;

use tokio::time::Instant;
use warren_proto::catalogue::NodeRecord;
use warren_rpc::{ClusterId, Peers};
use warren_types::GroupId;

use crate::form;
use crate::member::kind;

/// How long a node is asked for an answer.
const ASK: Duration = Duration::from_secs(3);
/// How long after an answer that was not the one that was hoped for.
const AGAIN: Duration = Duration::from_millis(300);

/// Asks the nodes at `seeds` until one says that `cluster` has a majority and would take `newcomer` in, a new node in the place of
/// one that was reached at the same address. Nothing is changed by that, here or there.
///
/// `peers` introduces itself as the newcomer, which is fresh and in no cluster.
///
/// # Errors
/// Why not, as a sentence, after `patience`.
pub async fn would_be_taken_in(
    peers: &Peers,
    seeds: &[String],
    newcomer: &NodeRecord,
    cluster: ClusterId,
    patience: Duration,
) -> Result<(), String> {
    let since = Instant::now();
    let mut why = "none of the seeds answers".to_owned();
    loop {
        for seed in seeds.iter().filter(|seed| **seed != newcomer.address) {
            match ask(peers, seed, newcomer, cluster).await {
                Ok(()) => return Ok(()),
                // That nobody answers at another seed says less.
                Err(Some(refusal)) => why = refusal,
                Err(None) => {}
            }
        }
        if since.elapsed() >= patience {
            return Err(why);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// `Err(None)`: nobody is there yet.
async fn ask(
    peers: &Peers,
    seed: &str,
    newcomer: &NodeRecord,
    cluster: ClusterId,
) -> Result<(), Option<String>> {
    let Ok(Ok(hello)) = tokio::time::timeout(ASK, peers.hello(seed)).await else { return Err(None) };
    match hello.cluster {
        Some(theirs) if theirs == cluster && !hello.fresh => {}
        Some(_) | None => return Err(Some(format!("{seed} does not belong to the cluster of this data"))),
    }
    peers.set(hello.node, &hello.address);
    let question = form::request_to_join(newcomer, form::JustAsking(true));
    match peers.call(hello.node, GroupId::METADATA, kind::JOIN, question, ASK).await {
        Ok(_) => Ok(()),
        Err(warren_rpc::RpcError::Remote { error, .. }) => Err(Some(error.to_string())),
        // Not connected yet.
        Err(_) => Err(None),
    }
}
