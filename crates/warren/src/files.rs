//! Who may have how many of the process's open files. Strangers can open connections on every port; however many they open,
//! there is a file for the store when it wants one, for without it the node must stop.

/// Below this many open files the start warns.
pub(crate) const ADVISED: u64 = 65_536;

/// What each part may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// What RocksDB keeps open. The log, connections to other nodes and the runtime have as much again.
    pub(crate) store: u64,
    /// Connections on the cluster port.
    pub(crate) cluster: u64,
    /// Connections on the ports of the HTTP API, together.
    pub(crate) http: u64,
    /// Connections on the port of the metrics.
    pub(crate) metrics: u64,
    /// Clients.
    pub(crate) amqp: u64,
}

/// Divides so many files. With less than some hundred not everything fits; then it is the clients that get few.
pub(crate) fn divide(files: u64) -> Shares {
    let store = (files / 8).clamp(56, 512);
    let own = 2 * store;
    let cluster = (files / 16).clamp(48, 2048);
    let http = (files / 32).clamp(16, 512);
    let metrics = (files / 64).clamp(8, 64);
    let amqp = files.saturating_sub(own + cluster + http + metrics).max(16);
    Shares { store, cluster, http, metrics, amqp }
}

/// Raises the soft limit of open files to the hard one, as far as the system lets, and tells what holds now.
pub(crate) fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_no_more_than_there_is() {
        for files in [256, 300, 1000, 1024, 4096, 20_000, 65_536, 1_048_576] {
            let Shares { store, cluster, http, metrics, amqp } = divide(files);
            assert!(2 * store + cluster + http + metrics + amqp <= files, "{files}: {:?}", divide(files));
            assert!(amqp >= files / 5, "{files}: {:?}", divide(files));
        }
    }

    #[test]
    fn with_many_files_nobody_has_less_than_by_default() {
        let Shares { store, cluster, http, .. } = divide(65_536);
        assert_eq!((store, cluster, http), (512, 2048, 512));
    }
}
