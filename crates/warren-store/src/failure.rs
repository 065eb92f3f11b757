//! The one-way switch that a failed write throws. A failed fsync may have dropped dirty pages, so a retry that
//! succeeds proves nothing: after the first failure the store refuses everything and the node must stop.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::StoreError;

type OnFailure = Box<dyn FnOnce(&str) + Send>;

#[derive(Default)]
struct State {
    reason: Option<String>,
    listeners: Vec<OnFailure>,
}

/// Tells whether the store has failed. Cheap to clone.
#[derive(Clone, Default)]
pub struct Failure(Arc<(Mutex<State>, Condvar)>);

impl Failure {
    /// The reason, once the store has failed.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.0.0.lock().reason.clone()
    }

    /// Blocks until the store fails. For a thread that has nothing else to do.
    #[must_use]
    pub fn wait(&self) -> String {
        let mut state = self.0.0.lock();
        loop {
            if let Some(reason) = &state.reason {
                return reason.clone();
            }
            self.0.1.wait(&mut state);
        }
    }

    /// Calls `listener` once with the reason: when the store fails, or now if it has. It must not block.
    pub fn on_failure(&self, listener: impl FnOnce(&str) + Send + 'static) {
        let mut state = self.0.0.lock();
        match state.reason.clone() {
            Some(reason) => {
                drop(state);
                listener(&reason);
            }
            None => state.listeners.push(Box::new(listener)),
        }
    }

    /// Throws the switch; the first reason stays.
    pub(crate) fn fail(&self, reason: &str) {
        let listeners = {
            let mut state = self.0.0.lock();
            if state.reason.is_some() {
                return;
            }
            state.reason = Some(reason.to_owned());
            std::mem::take(&mut state.listeners)
        };
        tracing::error!(reason, "the store has failed; this node must stop");
        self.0.1.notify_all();
        for listener in listeners {
            listener(reason);
        }
    }

    /// Throws the switch if `result` is a disk error; passes it on.
    pub(crate) fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::Disk { .. } | StoreError::DamagedFiles { .. })) = &result {
            self.fail(&error.to_string());
        }
        result
    }

    /// # Errors
    /// [`StoreError::Failed`] once the switch is thrown.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.reason().map_or(Ok(()), |reason| Err(StoreError::Failed(reason)))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.reason()).finish()
    }
}
