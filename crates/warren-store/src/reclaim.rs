//! Gives the disk back what consumed backlogs occupied. A deleted body is only marked; RocksDB learns that it is gone
//! when the keys that pointed to it are compacted, which by itself it does late or never.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::rocks::Rocks;
use crate::{StoreError, simulation};

/// Freed bytes for which a compaction is started when the disk is short.
const HURRY_BYTES: u64 = 1 << 20;

/// Counts freed bytes and compacts in a thread of its own, one at a time.
pub(crate) struct Reclaimer {
    threshold: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    freed: u64,
    running: Option<JoinHandle<()>>,
    stopped: bool,
}

impl Reclaimer {
    pub(crate) fn new(threshold: u64) -> Self {
        Self { threshold, state: Mutex::default() }
    }

    /// A checkpoint has freed `bytes`. Starts a compaction if that is worth it; does not wait for it.
    pub(crate) fn freed(&self, bytes: u64, rocks: &Arc<Rocks>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.freed = state.freed.saturating_add(bytes);
        // A share of the whole, so that the cost stays in proportion to what is consumed.
        if state.freed >= self.threshold && state.freed >= rocks.blob_bytes()? / 4 {
            Self::start(&mut state, rocks);
        }
        Ok(())
    }

    /// The disk is short: what little has been freed counts.
    pub(crate) fn hurry(&self, rocks: &Arc<Rocks>) {
        let mut state = self.state.lock();
        if state.freed >= HURRY_BYTES.min(self.threshold) {
            Self::start(&mut state, rocks);
        }
    }

    fn start(state: &mut State, rocks: &Arc<Rocks>) {
        let is_running = state.running.as_ref().is_some_and(|running| !running.is_finished());
        if state.stopped || is_running {
            return;
        }
        let rocks = Arc::clone(rocks);
        let compact = move || {
            if let Err(error) = rocks.compact_state() {
                tracing::warn!(%error, "consumed messages still occupy the disk");
            }
        };
        if simulation::is_on() {
            state.freed = 0;
            compact();
            return;
        }
        let started = std::thread::Builder::new().name("reclaimer".to_owned()).spawn(compact);
        match started {
            Ok(running) => {
                state.freed = 0;
                state.running = Some(running);
            }
            // The next checkpoint tries again.
            Err(error) => tracing::warn!(%error, "consumed messages still occupy the disk"),
        }
    }

    /// Waits for a compaction that runs and starts no other.
    pub(crate) fn stop(&self) {
        let running = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.running.take()
        };
        if running.is_some_and(|running| running.join().is_err()) {
            tracing::warn!("the reclaimer panicked");
        }
    }
}
