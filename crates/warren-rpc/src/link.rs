//! Keeps one peer connected: dials, greets, beats, notices silence and closed connections, and tries again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use warren_types::NodeId;

use crate::dial::{Client, client, dial};
use crate::generated::Beat;
use crate::peers::Shared;
use crate::{Hello, HelloError, PROTOCOL, PeerState};

/// How often a beat goes out.
const BEAT_INTERVAL: Duration = Duration::from_millis(250);
/// Silence after which a peer is suspect: four beats lost and some scheduling delay.
const SUSPECT_AFTER: Duration = Duration::from_millis(1200);
/// Silence after which the connection is given up, so that its streams end.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// How long a greeting may take.
const HELLO_TIMEOUT: Duration = Duration::from_millis(1500);
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// The two connections to a peer.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) urgent: Client,
    pub(crate) bulk: Client,
    /// The bulk connection, for streams of frames.
    pub(crate) streams: Channel,
}

/// One peer: what others need of it while its task keeps it connected.
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) connection: watch::Sender<Option<Connection>>,
    /// Wakes the task when the address has changed or the link is to end.
    pub(crate) poke: Notify,
}

impl Link {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, connection: watch::Sender::new(None), poke: Notify::new() }
    }
}

/// Greets over a connection and checks that the other side may talk to us.
pub(crate) async fn greet(client: &mut Client, shared: &Shared, address: &str) -> Result<Hello, HelloError> {
    let ours = shared.hello();
    let unreachable = |reason: String| HelloError::Unreachable { address: address.to_owned(), reason };
    let answer = tokio::time::timeout(HELLO_TIMEOUT, client.hello(ours.to_wire())).await;
    let greeting = match answer {
        Ok(Ok(greeting)) => greeting.into_inner(),
        Ok(Err(status)) => return Err(not_greeted(&status, shared, address)),
        Err(_) => return Err(unreachable("no greeting in time".to_owned())),
    };
    if greeting.protocol != PROTOCOL {
        let found = greeting.protocol;
        return Err(HelloError::Protocol { address: address.to_owned(), found, known: PROTOCOL });
    }
    let theirs = Hello::from_wire(greeting);
    match (theirs.cluster, ours.cluster) {
        (Some(found), Some(ours)) if found != ours => {
            Err(HelloError::OtherCluster { address: address.to_owned(), found, ours })
        }
        (Some(_) | None, Some(_) | None) => Ok(theirs),
    }
}

/// Why a greeting came back as an error: the other side's own words, or that it closed.
fn not_greeted(status: &Status, shared: &Shared, address: &str) -> HelloError {
    let address = address.to_owned();
    match status.code() {
        Code::PermissionDenied | Code::AlreadyExists => {
            HelloError::Refused { address, reason: status.message().to_owned() }
        }
        Code::FailedPrecondition | Code::Unauthenticated => {
            HelloError::Unreachable { address, reason: status.message().to_owned() }
        }
        _ if shared.security.is_proved() => {
            HelloError::Unreachable { address, reason: status.message().to_owned() }
        }
        // A node with a secret closes when it sees none.
        _ => HelloError::Unproven {
            address,
            reason: format!("{}: has it a cluster secret, and this node none?", status.message()),
        },
    }
}

/// Runs until the peer is forgotten or `Peers` is gone.
pub(crate) async fn run(shared: Arc<Shared>, link: Arc<Link>) {
    let mut back_off = BACK_OFF_MIN;
    let mut last_heard = Instant::now();
    let mut last_error: Option<HelloError> = None;
    while shared.knows(&link) {
        let address = shared.address_of(link.node);
        match connect(&shared, &link, &address).await {
            Ok((connection, beats, hello)) => {
                back_off = BACK_OFF_MIN;
                last_error = None;
                last_heard = Instant::now();
                tracing::info!(node = %link.node, %address, name = hello.name, "peer connected");
                // First what others use once they see the state.
                link.connection.send_replace(Some(connection));
                shared.greeted(link.node, &hello);
                last_heard = stay(&shared, &link, beats, last_heard).await;
                link.connection.send_replace(None);
                // The next dial tells at once whether its process is gone.
                continue;
            }
            Err(error) => {
                let state = match &error {
                    HelloError::ConnectionRefused { .. } | HelloError::OtherNode { .. } => PeerState::Dead,
                    HelloError::Unreachable { .. }
                    | HelloError::Unproven { .. }
                    | HelloError::Protocol { .. }
                    | HelloError::Refused { .. }
                    | HelloError::OtherCluster { .. } => PeerState::Suspect { silent_since: last_heard },
                };
                shared.set_state(link.node, state);
                if last_error.as_ref() != Some(&error) {
                    tracing::warn!(node = %link.node, %error, "peer not reached, trying on");
                    last_error = Some(error);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            () = link.poke.notified() => back_off = BACK_OFF_MIN,
        }
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
    link.connection.send_replace(None);
}

struct Beats {
    outbound: mpsc::Sender<Beat>,
    inbound: Streaming<Beat>,
}

async fn connect(
    shared: &Shared,
    link: &Link,
    address: &str,
) -> Result<(Connection, Beats, Hello), HelloError> {
    let ours = shared.hello();
    let mut urgent = client(dial(address, &shared.security).await?);
    let hello = greet(&mut urgent, shared, address).await?;
    if hello.node != link.node {
        let (found, expected) = (hello.node, link.node);
        return Err(HelloError::OtherNode { address: address.to_owned(), found, expected });
    }
    let streams = dial(address, &shared.security).await?;
    let bulk = client(streams.clone());
    let (outbound, beats) = mpsc::channel(4);
    let mut request = Request::new(ReceiverStream::new(beats));
    ours.caller().write(request.metadata_mut());
    let unreachable = |reason: String| HelloError::Unreachable { address: address.to_owned(), reason };
    let opening = tokio::time::timeout(HELLO_TIMEOUT, urgent.liveness(request)).await;
    let inbound = match opening {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(unreachable(status.message().to_owned())),
        Err(_) => return Err(unreachable("no liveness stream in time".to_owned())),
    };
    Ok((Connection { urgent, bulk, streams }, Beats { outbound, inbound }, hello))
}

/// Beats until the connection breaks, the peer has been silent for too long, or it is forgotten or moved. Returns
/// when it was last heard.
async fn stay(shared: &Shared, link: &Link, mut beats: Beats, connected: Instant) -> Instant {
    let mut heard = connected;
    let mut number = 0_u64;
    let mut interval = tokio::time::interval(BEAT_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut checked = Instant::now();
    let mut gossip = shared.gossip.subscribe();
    loop {
        tokio::select! {
            // News does not wait for the next beat.
            Ok(()) = gossip.changed() => {
                number += 1;
                let beat = shared.next_beat(number);
                if let Err(mpsc::error::TrySendError::Closed(_)) = beats.outbound.try_send(beat) {
                    return heard;
                }
            }
            _ = interval.tick() => {
                let now = Instant::now();
                // When this process itself was not running, the peer's silence means nothing.
                if now.duration_since(checked) > SUSPECT_AFTER {
                    heard = now;
                }
                checked = now;
                let silent = now.duration_since(heard);
                if silent > GIVE_UP_AFTER {
                    tracing::warn!(node = %link.node, ?silent, "peer is silent, connection given up");
                    return heard;
                }
                if silent > SUSPECT_AFTER {
                    shared.set_state(link.node, PeerState::Suspect { silent_since: heard });
                }
                number += 1;
                let beat = shared.next_beat(number);
                // Full: the peer does not read, which its silence will tell.
                if let Err(mpsc::error::TrySendError::Closed(_)) = beats.outbound.try_send(beat) {
                    return heard;
                }
            }
            beat = beats.inbound.message() => match beat {
                Ok(Some(beat)) => {
                    heard = Instant::now();
                    shared.beat(link.node, beat);
                }
                Ok(None) | Err(_) => {
                    tracing::info!(node = %link.node, "peer closed the connection");
                    return heard;
                }
            },
            () = link.poke.notified() => return heard,
        }
    }
}
