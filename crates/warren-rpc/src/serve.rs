//! The cluster port: checks who calls and hands requests to the services. TLS will enter here on this side.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming, async_trait};
use warren_types::{GroupId, NodeId};

use crate::dial::{CONNECTION_WINDOW, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_FRAME, STREAM_WINDOW};
use crate::generated::member_server::{Member, MemberServer};
use crate::generated::{Beat, CallReply, CallRequest, Frame, Greeting};
use crate::hello::Caller;
use crate::peers::{STREAM_FRAMES, Shared, TARGET_HEADER, host_from_header, pump};
use crate::throttle::Throttle;
use crate::{BROKER, CallError, Hello, MAX_MESSAGE_BYTES, PROTOCOL, Peers, ServeError, Services};

/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 4096;

/// Serves the cluster port until `stop` resolves. Connections that do not speak HTTP/2 are closed; callers of
/// another cluster or protocol version are refused and named in the log, at most one line in ten seconds.
///
/// # Errors
/// [`ServeError`] when the listener fails.
pub async fn serve(
    listener: TcpListener,
    peers: Peers,
    services: Services,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let port = Port { shared: peers.shared().clone(), services, refused: Arc::default() };
    let service = MemberServer::new(port)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    let serving = server.add_service(service).serve_with_incoming(incoming);
    // Open streams never end by themselves: a graceful end would wait for ever.
    tokio::select! {
        result = serving => result.map_err(|error| ServeError(crate::dial::describe(&error))),
        () = stop => Ok(()),
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
    /// Who calls, if it may.
    fn admit(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let caller = Caller::read(metadata).inspect_err(|status| self.log_refusal(status.message()))?;
        self.check(caller)?;
        Ok(caller.node)
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
        let from = self.admit(request.metadata())?;
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
        let from = self.admit(request.metadata())?;
        let group = target(request.metadata())
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Status::invalid_argument("an append stream names its group"))?;
        let (inbound, outbound, answers) = channels(request.into_inner());
        let member = self.services.member.clone();
        tokio::spawn(async move { member.append_stream(from, GroupId(group), inbound, outbound).await });
        Ok(Response::new(answers))
    }

    async fn session(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        let from = self.admit(request.metadata())?;
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
