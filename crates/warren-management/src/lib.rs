//! The HTTP API in RabbitMQ's shape, the health paths, and the Prometheus endpoint: a shell around the broker's
//! [`Admin`](warren_broker::admin::Admin) surface. Not on the spine; knows no frame, log or queue machine.
//!
//! A request passes, in order: `serve` (limits of the connection) → `path` (what it names) → `auth` (who asks) →
//! `body` → `api` (one file a resource) → `list` (page, sort, columns) → `answer` (status and JSON).

mod answer;
mod api;
mod auth;
mod body;
mod error;
mod list;
mod listeners;
mod path;
mod process;
mod prometheus;
mod query;
mod serve;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use warren_broker::admin::Admin;
use warren_broker::tls::ServerTls;

use crate::listeners::{Listener, Listeners};

pub use error::TakeOverError;
pub use serve::{ListenerKind, serve};

/// The broker behind the listeners. They may answer before the broker runs: until then only the liveness path says
/// yes, everything else is 503.
#[derive(Clone, Default)]
pub struct Management {
    admin: Arc<OnceLock<Arc<dyn Admin>>>,
    listeners: Listeners,
}

impl Management {
    /// Without a broker yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it its broker. Only the first call counts.
    pub fn attach(&self, admin: Arc<dyn Admin>) {
        if self.admin.set(admin).is_err() {
            tracing::debug!("the HTTP API already has its broker");
        }
    }

    /// Tells tools that this node listens there. `protocol` is RabbitMQ's word: `amqp`, `amqp/ssl`, `http`, `https`,
    /// `http/prometheus`, `clustering`.
    pub fn listens(&self, protocol: &'static str, address: SocketAddr, tls: Option<ServerTls>) {
        self.listeners.add(Listener { protocol, address, tls });
    }

    /// Takes a set of definitions over, as a POST to `/api/definitions` does, but only when it is another one than the last that
    /// came this way, at whichever node. True when it was.
    ///
    /// # Errors
    /// [`TakeOverError`]: nothing of it was done, unless something went wrong half way.
    pub async fn take_over(&self, document: &[u8]) -> Result<bool, TakeOverError> {
        let Some(admin) = self.admin() else {
            return Err(TakeOverError::Unavailable("the node is starting".to_owned()));
        };
        // Before that nothing is known of what is there.
        admin.ready().map_err(TakeOverError::Unavailable)?;
        api::take_over(admin.as_ref(), document, std::time::Instant::now()).await.map_err(TakeOverError::from)
    }

    fn listeners(&self) -> Vec<Listener> {
        self.listeners.all()
    }

    fn admin(&self) -> Option<&Arc<dyn Admin>> {
        self.admin.get()
    }
}
