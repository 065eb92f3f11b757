//! Accepts clients. Within the limits, each gets a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::connection;

/// Connections the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;
/// After an accept failed (usually: out of descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listening socket.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until told to stop.
pub(crate) async fn accept(
    broker: Arc<Broker>,
    listener: TcpListener,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    let local = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    info!(address = %local, "AMQP listener");
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if broker.connections().len() >= broker.config().max_connections {
                    warn!(%peer, limit = broker.config().max_connections, "connection refused: limit reached");
                    continue;
                }
                // Without it a small answer waits for the peer's delayed ack.
                if let Err(error) = stream.set_nodelay(true) {
                    warn!(%peer, %error, "cannot set TCP_NODELAY");
                }
                let local = stream.local_addr().unwrap_or(local);
                connections.spawn(connection::serve(Arc::clone(&broker), stream, peer, local));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
