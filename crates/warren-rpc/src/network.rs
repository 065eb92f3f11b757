//! A network other than the system's, for simulations: who is reached where, and connections as streams of octets.

use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// Both directions of a connection.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Opens connections.
pub trait Network: Send + Sync {
    /// Connects to `HOST:PORT`.
    ///
    /// The future fails as a system's call would: [`io::ErrorKind::ConnectionRefused`] where nobody listens.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>>;
}

/// What a node has instead of sockets.
#[derive(Clone)]
pub struct OtherNetwork(pub Arc<dyn Network>);

impl fmt::Debug for OtherNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherNetwork")
    }
}
