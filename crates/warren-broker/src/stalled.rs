//! Clients that take nothing of what was sent to them. What waits for one is bounded, but there may be thousands of them, and
//! a host that has too much under way lends nobody anything ([`warren_queue::LeaderConfig::transit_bytes_all`]). So where
//! much waits on this node, whoever has taken next to nothing for a while is disconnected; its messages go to others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use warren_rpc::Throttle;
use warren_types::ConnectionId;

use crate::broker::Broker;
use crate::registry::Registered;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Bytes that may wait for clients of this node that take nothing.
const WAITING_MAX_BYTES: u64 = 64 << 20;
/// For one of them at least, else it is not the trouble.
const WAITING_MIN_BYTES: u64 = 256 << 10;
/// Looks at which a client may have taken nothing.
const LOOKS: u32 = 10;
/// Bytes that are next to nothing, between two looks.
const PROGRESS_BYTES: u64 = 16 << 10;

#[derive(Debug, Default)]
struct Seen {
    written: u64,
    looks: u32,
}

/// Looks after them until the node stops.
pub(crate) async fn watch(broker: Arc<Broker>, running: CancellationToken) {
    let mut seen: HashMap<ConnectionId, Seen> = HashMap::new();
    let told = Throttle::default();
    loop {
        tokio::select! {
            () = running.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        let slow: Vec<(ConnectionId, Arc<Registered>)> = broker.connections().slow();
        let stalled = look(&mut seen, &slow);
        if stalled.is_empty() {
            continue;
        }
        let waiting: u64 = stalled.iter().map(|(_, bytes)| bytes).sum();
        if waiting < WAITING_MAX_BYTES {
            continue;
        }
        if let Some(held_back) = told.pass() {
            warn!(waiting, held_back, "too much waits for clients that take nothing: disconnecting them");
        }
        for (connection, bytes) in stalled {
            info!(connection = %connection.info.lock().name, bytes, "disconnected: it takes nothing of what waits for it");
            connection.cut.notify_one();
        }
    }
}

/// Those that have taken next to nothing for some looks, and what waits for each.
fn look(
    seen: &mut HashMap<ConnectionId, Seen>,
    slow: &[(ConnectionId, Arc<Registered>)],
) -> Vec<(Arc<Registered>, u64)> {
    let before = std::mem::take(seen);
    let mut stalled = Vec::new();
    for (id, connection) in slow {
        let written = connection.flow.written();
        let looks = match before.get(id) {
            Some(seen) if written < seen.written.saturating_add(PROGRESS_BYTES) => seen.looks + 1,
            Some(_) | None => 0,
        };
        seen.insert(*id, Seen { written, looks });
        if looks >= LOOKS {
            let waiting = connection.waiting_bytes();
            if waiting >= WAITING_MIN_BYTES {
                stalled.push((Arc::clone(connection), waiting));
            }
        }
    }
    stalled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::registered;

    #[test]
    fn only_who_takes_next_to_nothing_for_long_while_much_waits_for_it_is_stalled() {
        let clients: Vec<_> = (1..=3).map(|id| (ConnectionId(id), Arc::new(registered()))).collect();
        let [(_, deaf), (_, slow), (_, small)] = &clients[..] else { panic!("three") };
        deaf.flow.note_unwritten(1 << 20);
        slow.flow.note_unwritten(1 << 20);
        small.flow.note_unwritten(1000);
        let mut seen = HashMap::new();
        for _ in 0..LOOKS {
            assert!(look(&mut seen, &clients).is_empty());
            deaf.flow.note_written(100);
            slow.flow.note_written(PROGRESS_BYTES as usize);
        }
        let stalled = look(&mut seen, &clients);
        assert_eq!(stalled.len(), 1);
        assert!(Arc::ptr_eq(&stalled[0].0, deaf));
        assert_eq!(stalled[0].1, 1 << 20);
        // Whoever takes something begins anew.
        deaf.flow.note_written(PROGRESS_BYTES as usize);
        assert!(look(&mut seen, &clients).is_empty());
    }
}
