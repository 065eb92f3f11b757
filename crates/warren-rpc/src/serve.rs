//! The cluster port: takes in who has proved itself, checks who calls and hands requests to the services.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming, async_trait};
use warren_types::{GroupId, NodeId};

use crate::dial::{CONNECTION_WINDOW, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_FRAME, STREAM_WINDOW};
use crate::generated::member_server::{Member, MemberServer};
use crate::generated::{Beat, CallReply, CallRequest, Frame, Greeting};
use crate::hello::Caller;
use crate::network;
use crate::peers::{STREAM_FRAMES, Shared, TARGET_HEADER, host_from_header, pump};
use crate::throttle::Throttle;
use crate::tls::{Refusal, Security, Wire, accept};
use crate::{BROKER, CallError, Hello, MAX_MESSAGE_BYTES, PROTOCOL, Peers, ServeError, Services};

/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 4096;
/// Streams that a peer may open and give up before this node has looked at them. A busy node does so when its leaders
/// change; at h2's own limit of 20 the whole connection is closed. Only who has proved itself comes so far.
const RESET_STREAMS_MAX: usize = 1024;
/// Connections that may be open where nobody says how many: a peer has two, and one more while it greets.
pub const CONNECTIONS_MAX: usize = 2048;
/// Connections whose other side may still owe its proof, but half of all at most. Nodes prove themselves at once: when
/// there are more, the one that has taken longest is closed.
const STRANGERS_MAX: usize = 256;
/// After an accept failed for want of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the cluster port until `stop` resolves, `most` connections at a time. Whoever does not prove itself in time is
/// closed; so are callers of another cluster or protocol version. Both are named in the log, at most one line in ten seconds each.
///
/// # Errors
/// [`ServeError`] when the listener fails.
pub async fn serve(
    listener: TcpListener,
    peers: Peers,
    services: Services,
    most: usize,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (proved, incoming) = mpsc::channel(1);
    let door = take_in(listener, peers.shared().security.clone(), most, proved);
    // Open streams never end by themselves: a graceful end would wait for ever.
    tokio::select! {
        result = run(ReceiverStream::new(incoming), &peers, services) => result,
        () = door => Ok(()),
        () = stop => Ok(()),
    }
}

/// Serves whoever comes over another network than the system's, until `stop` resolves. Nobody has to prove anything.
///
/// # Errors
/// [`ServeError`] when nobody can come any more.
pub async fn serve_incoming(
    incoming: mpsc::Receiver<Box<dyn network::Wire>>,
    peers: Peers,
    services: Services,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let incoming = ReceiverStream::new(incoming).map(|stream| Ok(Wire::other(stream)));
    tokio::select! {
        result = run(incoming, &peers, services) => result,
        () = stop => Ok(()),
    }
}

async fn run(
    incoming: impl Stream<Item = io::Result<Wire>>,
    peers: &Peers,
    services: Services,
) -> Result<(), ServeError> {
    let port = Port { shared: peers.shared().clone(), services, refused: Arc::default() };
    let service = MemberServer::new(port)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    let serving = server.add_service(service).serve_with_incoming(incoming);
    serving.await.map_err(|error| ServeError(crate::dial::describe(&error)))
}

/// Accepts connections and passes on those whose other side has proved itself. Does not end.
async fn take_in(
    listener: TcpListener,
    security: Security,
    most: usize,
    proved: mpsc::Sender<io::Result<Wire>>,
) {
    let places = Arc::new(Semaphore::new(most));
    let strangers_max = STRANGERS_MAX.min(most / 2);
    let refused = Arc::new(Throttle::default());
    let refuse = |refused: &Throttle, address: String, reason: &dyn std::fmt::Display| {
        if let Some(held_back) = refused.pass() {
            tracing::warn!(held_back, "refused a connection from {address} on the cluster port: {reason}");
        }
    };
    let mut strangers: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(held_back) = refused.pass() {
                    tracing::warn!(held_back, %error, "cannot accept a connection on the cluster port");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(&refused, address.to_string(), &"too many are open");
            continue;
        };
        strangers.retain(|stranger| !stranger.is_finished());
        if strangers.len() >= strangers_max
            && let Some(slowest) = strangers.pop_front()
        {
            slowest.abort();
        }
        let (security, proved, refused) = (security.clone(), proved.clone(), Arc::clone(&refused));
        let stranger = tokio::spawn(async move {
            match accept(stream, &security).await {
                Ok(wire) => {
                    // Gone: the port is closing.
                    let _closing = proved.send(Ok(wire.holding(place))).await;
                }
                Err(Refusal::Closed) => tracing::debug!(%address, "a connection that said nothing"),
                Err(reason) => refuse(&refused, address.to_string(), &reason),
            }
        });
        strangers.push_back(stranger.abort_handle());
    }
}

struct Port {
    shared: Arc<Shared>,
    services: Services,
    refused: Arc<Throttle>,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;
type BeatStream = Pin<Box<dyn Stream<Item = Result<Beat, Status>> + Send>>;

impl Port {
    /// Who opens a stream of a cluster's business, if it belongs to this cluster.
    fn admit_member(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let caller = self.caller(metadata)?;
        if let (None, Some(ours)) = (caller.cluster, self.shared.hello().cluster) {
            let text = format!("node {} belongs to no cluster, this node to {ours}", caller.node);
            self.log_refusal(&text);
            return Err(Status::permission_denied(text));
        }
        Ok(caller.node)
    }

    /// Who calls, if it may: also a node that belongs to no cluster yet.
    fn admit(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        self.caller(metadata).map(|caller| caller.node)
    }

    fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let caller = Caller::read(metadata).inspect_err(|status| self.log_refusal(status.message()))?;
        self.check(caller)?;
        Ok(caller)
    }

    fn check(&self, caller: Caller) -> Result<(), Status> {
        if caller.protocol != PROTOCOL {
            let text = format!(
                "node {} speaks protocol version {}, this node {PROTOCOL}",
                caller.node, caller.protocol
            );
            self.log_refusal(&text);
            return Err(Status::failed_precondition(text));
        }
        let ours = self.shared.hello().cluster;
        if let (Some(theirs), Some(ours)) = (caller.cluster, ours)
            && theirs != ours
        {
            let text = format!("node {} belongs to cluster {theirs}, this node to {ours}", caller.node);
            self.log_refusal(&text);
            return Err(Status::permission_denied(text));
        }
        Ok(())
    }

    fn log_refusal(&self, text: &str) {
        if let Some(held_back) = self.refused.pass() {
            tracing::warn!(held_back, "refused on the cluster port: {text}");
        }
    }
}

/// The two channel pairs between a stream on the wire and the service that serves it.
fn channels(frames: Streaming<Frame>) -> (mpsc::Receiver<Bytes>, mpsc::Sender<Bytes>, Frames) {
    let (inbound_sender, inbound) = mpsc::channel(STREAM_FRAMES);
    let (outbound, outbound_receiver) = mpsc::channel(STREAM_FRAMES);
    tokio::spawn(pump(frames, inbound_sender));
    let answers = ReceiverStream::new(outbound_receiver).map(|payload| Ok(Frame { payload }));
    (inbound, outbound, Box::pin(answers))
}

#[async_trait]
impl Member for Port {
    type AppendStream = Frames;
    type SessionStream = Frames;
    type LivenessStream = BeatStream;

    async fn hello(&self, request: Request<Greeting>) -> Result<Response<Greeting>, Status> {
        let greeting = request.into_inner();
        let protocol = greeting.protocol;
        let theirs = Hello::from_wire(greeting);
        self.check(Caller { protocol, ..theirs.caller() })?;
        if let Some(text) = self.shared.twin_of(&theirs) {
            self.log_refusal(&text);
            return Err(Status::already_exists(text));
        }
        self.shared.heard_of(&theirs);
        Ok(Response::new(self.shared.hello().to_wire()))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        let from = match GroupId(request.get_ref().group) {
            BROKER => self.admit_member(request.metadata())?,
            _ => self.admit(request.metadata())?,
        };
        let CallRequest { group, kind, payload } = request.into_inner();
        let answer = match (&self.services.session, GroupId(group)) {
            (Some(session), BROKER) => session.answer(from, payload).await,
            (None, BROKER) => Err(CallError::Stopping),
            (_, group) => self.services.member.call(from, group, kind, payload).await,
        };
        let reply = match answer {
            Ok(payload) => CallReply { error: 0, text: String::new(), payload },
            Err(error) => {
                let (number, text) = error.to_wire();
                CallReply { error: number, text, payload: Bytes::new() }
            }
        };
        Ok(Response::new(reply))
    }

    async fn append(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        let from = self.admit_member(request.metadata())?;
        let group = target(request.metadata())
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Status::invalid_argument("an append stream names its group"))?;
        let (inbound, outbound, answers) = channels(request.into_inner());
        let member = self.services.member.clone();
        tokio::spawn(async move { member.append_stream(from, GroupId(group), inbound, outbound).await });
        Ok(Response::new(answers))
    }

    async fn session(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        let from = self.admit_member(request.metadata())?;
        let host = target(request.metadata())
            .and_then(host_from_header)
            .ok_or_else(|| Status::invalid_argument("a session names its host"))?;
        let session = self.services.session.clone();
        let session = session.ok_or_else(|| Status::unavailable("no sessions here"))?;
        let (inbound, outbound, answers) = channels(request.into_inner());
        tokio::spawn(async move { session.session(from, host, inbound, outbound).await });
        Ok(Response::new(answers))
    }

    async fn liveness(&self, request: Request<Streaming<Beat>>) -> Result<Response<BeatStream>, Status> {
        let from = self.admit(request.metadata())?;
        let shared = self.shared.clone();
        let answers = request.into_inner().map(move |beat| {
            let Beat { number, gossip, alarms } = beat?;
            shared.told(from, gossip, alarms);
            Ok(shared.next_beat(number))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn target(metadata: &MetadataMap) -> Option<&str> {
    metadata.get(TARGET_HEADER).and_then(|value| value.to_str().ok())
}
