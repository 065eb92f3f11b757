//! Secrets and certificates of a running node: what the cluster port is configured with, and the renewal of everything
//! that comes from files.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use warren_raft::blocking;
pub use warren_rpc::tls::{Credentials, Encryption, SecretError, Secrets, Security, SecurityError};

use crate::tls::ServerTls;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What may be renewed while a node runs.
#[derive(Clone, Debug)]
pub enum Renewable {
    /// What nodes prove themselves with.
    Cluster(Security),
    /// The certificates of a listener for clients, and what that is called.
    Listener(&'static str, ServerTls),
}

impl Renewable {
    fn reload(&self) -> Result<bool, String> {
        match self {
            Self::Cluster(security) => security.reload().map_err(|error| error.to_string()),
            Self::Listener(_, tls) => tls.reload().map_err(|error| error.to_string()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "cluster port",
            Self::Listener(name, _) => name,
        }
    }
}

/// Looks at the files every few seconds, and at once on SIGHUP: connections that are opened afterwards use what they
/// say. What makes no sense changes nothing and is said once.
pub async fn follow(renewables: Vec<Renewable>, running: CancellationToken) {
    let mut hangups = signal(SignalKind::hangup()).ok();
    let mut said = vec![String::new(); renewables.len()];
    loop {
        let hangup = async {
            match &mut hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = running.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = hangup => {}
        }
        for (renewable, said) in renewables.iter().zip(&mut said) {
            let looked = renewable.clone();
            let Ok(result) = blocking(move || looked.reload()).await else { continue };
            match result {
                Ok(true) => {
                    info!(listener = renewable.name(), "secrets or certificates were read anew");
                    said.clear();
                }
                Ok(false) => said.clear(),
                Err(text) if *said == text => {}
                Err(text) => {
                    error!(listener = renewable.name(), "secrets or certificates stay as they were: {text}");
                    *said = text;
                }
            }
        }
    }
}
