//! Two or three nodes over loopback: who may talk to whom, what comes through, and how the dead are noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use warren_rpc::{
    CallError, ClusterId, Hello, HelloError, MemberService, PeerState, Peers, RpcError, Services,
    SessionService, serve,
};
use warren_types::{GroupId, NodeId, QueueHost, ShardId};

const PATIENCE: Duration = Duration::from_secs(20);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// Sends back what it gets; kind 1 refuses, kind 2 never answers.
struct Echo;

#[async_trait]
impl MemberService for Echo {
    async fn call(
        &self,
        from: NodeId,
        group: GroupId,
        kind: u32,
        payload: Bytes,
    ) -> Result<Bytes, CallError> {
        match kind {
            1 => Err(CallError::NoGroup(group)),
            2 => std::future::pending().await,
            _ => Ok([format!("{from} {group} {kind} ").as_bytes(), &payload].concat().into()),
        }
    }

    async fn append_stream(
        &self,
        _from: NodeId,
        group: GroupId,
        mut inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) {
        // Group 9 reads nothing.
        if group == GroupId(9) {
            outbound.closed().await;
            return;
        }
        while let Some(frame) = inbound.recv().await {
            if outbound.send(frame).await.is_err() {
                return;
            }
        }
    }
}

#[async_trait]
impl SessionService for Echo {
    async fn session(
        &self,
        from: NodeId,
        host: QueueHost,
        mut inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) {
        let _sent = outbound.send(format!("{from} at {host}").into()).await;
        while let Some(frame) = inbound.recv().await {
            if outbound.send(frame).await.is_err() {
                return;
            }
        }
    }
}

struct Node {
    peers: Peers,
    address: SocketAddr,
    server: JoinHandle<()>,
}

fn hello(node: NodeId, address: SocketAddr, cluster: Option<u64>) -> Hello {
    Hello {
        node,
        incarnation: 7,
        cluster: cluster.map(ClusterId),
        address: address.to_string(),
        name: format!("n{node}"),
        fresh: false,
        sees: Vec::new(),
        zone: None,
    }
}

async fn node_at(node: NodeId, listener: TcpListener, cluster: Option<u64>) -> Node {
    let address = listener.local_addr().unwrap();
    let peers = Peers::new(hello(node, address, cluster));
    let services = Services { member: Arc::new(Echo), session: Some(Arc::new(Echo)) };
    let serving = peers.clone();
    let server = tokio::spawn(async move {
        serve(listener, serving, services, warren_rpc::CONNECTIONS_MAX, std::future::pending())
            .await
            .unwrap();
    });
    Node { peers, address, server }
}

async fn node(node: NodeId, cluster: Option<u64>) -> Node {
    node_at(node, TcpListener::bind("127.0.0.1:0").await.unwrap(), cluster).await
}

async fn wait_state(peers: &Peers, node: NodeId, wanted: impl Fn(PeerState) -> bool) -> Duration {
    let began = Instant::now();
    let mut liveness = peers.liveness();
    let reached = liveness.wait_for(|table| table.get(&node).is_some_and(|peer| wanted(peer.state)));
    drop(tokio::time::timeout(PATIENCE, reached).await.expect("in time").unwrap());
    began.elapsed()
}

async fn connected_pair() -> (Node, Node) {
    let (a, b) = (node(A, Some(5)).await, node(B, Some(5)).await);
    a.peers.set(B, &b.address.to_string());
    wait_state(&a.peers, B, |state| state == PeerState::Connected).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_refused_or_times_out() {
    let (a, _b) = connected_pair().await;
    let call = |kind, payload: &'static [u8], deadline| {
        a.peers.call(B, GroupId(3), kind, Bytes::from_static(payload), deadline)
    };
    assert_eq!(call(7, b"x", PATIENCE).await.unwrap(), "1 3 7 x");
    let refused = RpcError::Remote { node: B, error: CallError::NoGroup(GroupId(3)) };
    assert_eq!(call(1, b"x", PATIENCE).await, Err(refused));
    let short = Duration::from_millis(50);
    assert_eq!(call(2, b"x", short).await, Err(RpcError::TimedOut(B)));
    let stranger = a.peers.call(NodeId(9), GroupId(3), 7, Bytes::new(), PATIENCE).await;
    assert_eq!(stranger, Err(RpcError::NotConnected(NodeId(9))));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_calls_and_streams() {
    let (a, _b) = connected_pair().await;
    let body = Bytes::from(vec![7; 20 << 20]);
    let answer = a.peers.call(B, GroupId(3), 7, body.clone(), PATIENCE).await.unwrap();
    assert_eq!(answer.len(), body.len() + 6);
    let (sender, mut receiver) = a.peers.append_stream(B, GroupId(1)).await.unwrap();
    for _ in 0..3 {
        sender.send(body.clone().into()).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(receiver.recv().await.unwrap(), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_names_its_host_and_ends_with_either_half() {
    let (a, _b) = connected_pair().await;
    for host in [QueueHost::Shard(ShardId(12)), QueueHost::Node(B)] {
        let (sender, mut receiver) = a.peers.open_session(B, host).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), format!("1 at {host}"));
        sender.send(Bytes::from_static(b"frame").into()).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "frame");
        drop(sender);
        assert_eq!(receiver.recv().await, None);
        let (sender, receiver) = a.peers.open_session(B, host).await.unwrap();
        drop(receiver);
        tokio::time::timeout(PATIENCE, sender.closed()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_reader_stalls_stops_neither_other_streams_nor_calls() {
    let (a, _b) = connected_pair().await;
    let (stalled, _answers) = a.peers.append_stream(B, GroupId(9)).await.unwrap();
    let body = Bytes::from(vec![1; 1 << 20]);
    let mut sent = 0;
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(300), stalled.send(body.clone().into())).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 200, "what waits must be bounded");
    }
    let (sender, mut receiver) = a.peers.append_stream(B, GroupId(1)).await.unwrap();
    sender.send(body.clone().into()).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap(), body);
    let began = Instant::now();
    a.peers.call(B, GroupId(3), 7, Bytes::new(), PATIENCE).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_different_clusters_refuse_each_other_and_a_node_without_one_may_ask() {
    let (a, b) = (node(A, Some(5)).await, node(B, Some(6)).await);
    let refused = a.peers.hello(&b.address.to_string()).await;
    assert!(
        matches!(refused, Err(HelloError::OtherCluster { .. } | HelloError::Refused { .. })),
        "{refused:?}"
    );
    a.peers.set(B, &b.address.to_string());
    wait_state(&a.peers, B, |state| matches!(state, PeerState::Suspect { .. })).await;
    let fresh = node(NodeId(3), None).await;
    assert_eq!(fresh.peers.hello(&b.address.to_string()).await.unwrap(), b.peers.own_hello());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_is_closed_and_hurts_nobody() {
    let (a, b) = connected_pair().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300], b"AMQP\x00\x00\x09\x01"] {
        let mut stream = TcpStream::connect(b.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut read = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
        // An end or a reset: either way it is over.
        drop(closed.expect("closed in time"));
    }
    assert!(a.peers.call(B, GroupId(3), 7, Bytes::new(), PATIENCE).await.is_ok());
}

#[test]
fn a_dead_peer_is_noticed_at_once_and_so_is_its_return() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let other = tokio::runtime::Runtime::new().unwrap();
    let b = other.block_on(node(B, Some(5)));
    let (a, waited) = runtime.block_on(async {
        let a = node(A, Some(5)).await;
        a.peers.set(B, &b.address.to_string());
        wait_state(&a.peers, B, |state| state == PeerState::Connected).await;
        let peers = a.peers.clone();
        let waited = tokio::spawn(async move { wait_state(&peers, B, |s| s == PeerState::Dead).await });
        (a, waited)
    });
    let address = b.address;
    drop(b);
    other.shutdown_timeout(Duration::from_secs(1));
    runtime.block_on(async {
        let noticed = waited.await.unwrap();
        assert!(noticed < Duration::from_secs(2), "{noticed:?}");
        let listener = TcpListener::bind(address).await.unwrap();
        let b = node_at(B, listener, Some(5)).await;
        wait_state(&a.peers, B, |state| state == PeerState::Connected).await;
        // Another node at the address is not the one that was there.
        b.server.abort();
        drop(b.server.await);
        drop(a);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_at_a_peers_address_does_not_pass_for_it() {
    let (a, other) = (node(A, Some(5)).await, node(NodeId(3), Some(5)).await);
    a.peers.set(B, &other.address.to_string());
    wait_state(&a.peers, B, |state| state == PeerState::Dead).await;
    let call = a.peers.call(B, GroupId(3), 7, Bytes::new(), PATIENCE).await;
    assert_eq!(call, Err(RpcError::NotConnected(B)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_suspect_after_a_while_although_its_connection_stands() {
    // A port that passes everything on until it is told to stop.
    let b = node(B, Some(5)).await;
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, back) = (front.local_addr().unwrap(), b.address);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = front.accept().await {
            let mut stopped = stopped.clone();
            tokio::spawn(async move {
                let mut inner = TcpStream::connect(back).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
                    () = async { drop(stopped.wait_for(|stop| *stop).await) } => std::future::pending::<()>().await,
                }
            });
        }
    });
    let a = node(A, Some(5)).await;
    a.peers.set(B, &address.to_string());
    wait_state(&a.peers, B, |state| state == PeerState::Connected).await;
    stop.send(true).unwrap();
    let after = wait_state(&a.peers, B, |state| matches!(state, PeerState::Suspect { .. })).await;
    assert!(after > Duration::from_millis(800) && after < Duration::from_secs(4), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_reaches_the_peers() {
    let (a, b) = connected_pair().await;
    b.peers.set_gossip(Bytes::from_static(b"news"));
    let mut liveness = a.peers.liveness();
    let told = liveness.wait_for(|table| table.get(&B).is_some_and(|peer| peer.gossip == "news"));
    drop(tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap());
}
