//! Accepts clients. Within the limits, each gets a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use warren_rpc::Throttle;

use crate::broker::Broker;
use crate::connection;
use crate::proxy::{self, ProxyError};
use crate::tls::{self, HandshakeError, ServerTls};

/// Connections the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;
/// After an accept failed (usually: out of descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Handshakes before AMQP of one listener that may be under way.
const HANDSHAKES_MAX: usize = 1024;

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

/// Accepts until told to stop; a client is served after its PROXY header and TLS handshake, where they are configured.
pub(crate) async fn accept(
    broker: Arc<Broker>,
    listener: TcpListener,
    tls: Option<ServerTls>,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    let local = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    info!(address = %local, tls = tls.is_some(), "AMQP listener");
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    // What strangers can repeat at will is not written each time.
    let (refused, failed) = (Throttle::default(), Arc::new(Throttle::default()));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Those that are still at their handshake count too.
                if connections.len() >= broker.config().max_connections {
                    if let Some(held_back) = refused.pass() {
                        let limit = broker.config().max_connections;
                        warn!(%peer, limit, held_back, "connection refused: limit reached");
                    }
                    continue;
                }
                // Without it a small answer waits for the peer's delayed ack.
                if let Err(error) = stream.set_nodelay(true) {
                    warn!(%peer, %error, "cannot set TCP_NODELAY");
                }
                let local = stream.local_addr().unwrap_or(local);
                let broker = Arc::clone(&broker);
                if tls.is_none() && !broker.config().proxy_protocol {
                    connections.spawn(connection::serve(broker, stream, peer, local, None));
                    continue;
                }
                let Ok(place) = Arc::clone(&handshakes).try_acquire_owned() else {
                    if let Some(held_back) = refused.pass() {
                        warn!(%peer, held_back, "connection refused: too many handshakes under way");
                    }
                    continue;
                };
                let preamble = Preamble { tls: tls.clone(), failed: Arc::clone(&failed), _place: place };
                connections.spawn(preamble.pass(broker, stream, peer, local));
            }
            Err(error) => {
                if let Some(held_back) = refused.pass() {
                    warn!(%error, held_back, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What comes before AMQP: who the client is, as a load balancer says, and TLS.
struct Preamble {
    tls: Option<ServerTls>,
    failed: Arc<Throttle>,
    /// Held until it is over.
    _place: OwnedSemaphorePermit,
}

impl Preamble {
    async fn pass(self, broker: Arc<Broker>, mut stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
        let (mut client, mut server) = (peer, local);
        if broker.config().proxy_protocol {
            match proxy::read(&mut stream).await {
                // Users that may come from loopback only must not do so by saying that they do.
                Ok(Some(told))
                    if told.client.ip().is_loopback() && !peer.ip().to_canonical().is_loopback() =>
                {
                    return self.log(peer, &"the PROXY header names a client on this machine");
                }
                Ok(Some(told)) => (client, server) = (told.client, told.server),
                Ok(None) => {}
                Err(ProxyError::Closed) => return debug!(%peer, "closed before the PROXY header"),
                Err(error) => return self.log(peer, &error),
            }
        }
        let Some(tls) = &self.tls else {
            drop(self);
            return connection::serve(broker, stream, client, server, None).await;
        };
        let patience = Duration::from_millis(broker.config().tls_handshake_timeout_ms);
        match tls.accept(stream, patience).await {
            Ok(stream) => {
                drop(self);
                let info = tls::info(&stream);
                connection::serve(broker, stream, client, server, Some(info)).await;
            }
            Err(HandshakeError::Closed) => debug!(%client, "closed before the TLS handshake"),
            Err(error) => self.log(client, &error),
        }
    }

    fn log(&self, client: SocketAddr, reason: &dyn std::fmt::Display) {
        if let Some(held_back) = self.failed.pass() {
            info!(%client, held_back, "refused before AMQP: {reason}");
        }
    }
}
