//! How a node comes to its store: the one it has, or a new one if that is damaged and the other nodes can rebuild it.

use tracing::{error, warn};
use warren_raft::blocking;
use warren_rpc::tls::Security;
use warren_store::{Store, StoreOptions};
use warren_types::NodeId;

use crate::config::BrokerConfig;
use crate::node::StartError;
use crate::{identity, renewal};

/// The log's share of the disk, and what it is given on the smallest.
const LOG_SHARE_OF_DISK: u64 = 16;
const LOG_BYTES_MIN: u64 = 256 << 20;

/// What a node is to its cluster.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) first_start: bool,
}

/// Opens the store. Where it is damaged, or an earlier run found it so, the node begins anew if the others can rebuild it.
///
/// # Errors
/// [`StartError::Store`] among others: a damaged store that nobody can rebuild now stays as it is.
pub(crate) async fn open_or_begin_anew(
    config: &BrokerConfig,
    identity: Identity,
    security: &Security,
) -> Result<(Identity, Store), StartError> {
    let Identity { node, incarnation, .. } = identity;
    let anew = async |damage: &str| {
        error!("{damage}");
        let begun = renewal::begin_anew(config, node, incarnation, security.clone()).await;
        begun.map(|node| Identity { node, incarnation, first_start: true })
    };
    if let Some(damage) = renewal::noted(&config.data_dir) {
        match anew(damage.trim_end()).await {
            Ok(identity) => return Ok((identity, open_store(config).await?)),
            Err(why) => {
                warn!(
                    why,
                    "an earlier run met damage, but nobody can rebuild this node now: it starts with what it has"
                );
            }
        }
    }
    match open_store(config).await {
        Ok(store) => Ok((identity, store)),
        Err(StartError::Store { error, directory }) if error.is_damage() => {
            match anew(&error.to_string()).await {
                Ok(identity) => Ok((identity, open_store(config).await?)),
                Err(why) => {
                    error!(why, "this node cannot be rebuilt now");
                    Err(StartError::Store { error, directory })
                }
            }
        }
        Err(error) => Err(error),
    }
}

async fn open_store(config: &BrokerConfig) -> Result<Store, StartError> {
    let directory = renewal::store(&config.data_dir);
    let options = store_options(config);
    let opening = directory.clone();
    match blocking(move || Store::open(&opening, options)).await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(error)) => Err(StartError::Store { directory: directory.display().to_string(), error }),
        Err(_) => Err(StartError::Random(getrandom::Error::UNSUPPORTED)),
    }
}

/// The store's defaults, with less log where the disk is small.
fn store_options(config: &BrokerConfig) -> StoreOptions {
    let (data_dir, open_files) = (&config.data_dir, config.store_open_files);
    let defaults = StoreOptions::default();
    // The log keeps its files open: half of what RocksDB may have.
    let of_files = u64::try_from(open_files / 2).unwrap_or(1).saturating_mul(defaults.log_segment_bytes);
    let disk =
        rustix::fs::statvfs(data_dir.as_path()).map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
    let share = disk.map_or(u64::MAX, |bytes| bytes / LOG_SHARE_OF_DISK).max(LOG_BYTES_MIN);
    StoreOptions {
        must_exist: identity::has_store(data_dir),
        log_bytes: defaults.log_bytes.min(share).min(of_files),
        open_files,
        ..defaults
    }
}
