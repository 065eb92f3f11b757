//! A cluster in one process: each node has a runtime of its own, which is thrown away to kill it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests; each binary uses some of it"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use warren_proto::catalogue::Command;
use warren_proto::shard::{AppliedRecord, Enqueue, EnqueuedMessage, Op, OpeningState, Record};
use warren_raft::{DefaultUser, Leadership, Proposer, RaftNode, RaftOptions};
use warren_rpc::{Hello, Peers, Services, serve};
use warren_store::{Store, StoreOptions};
use warren_types::{GroupId, Message, NodeId, QueueId, SessionId, ShardId, Term};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An address that stays free while its node is down: below the range from which connections get their ports.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 100) as u16 * 90;
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + offset));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A leadership that a node's stub of a broker holds.
pub(crate) struct Host {
    pub(crate) term: Term,
    pub(crate) opening: OpeningState,
    pub(crate) proposer: Proposer,
    pub(crate) applied: Arc<Mutex<Vec<AppliedRecord>>>,
}

#[derive(Default)]
pub(crate) struct Hosted {
    pub(crate) now: BTreeMap<ShardId, Host>,
    pub(crate) elected: usize,
    pub(crate) lost: usize,
}

/// A running node.
pub(crate) struct Running {
    runtime: Option<Runtime>,
    pub(crate) raft: Arc<RaftNode>,
    pub(crate) peers: Peers,
    pub(crate) store: Store,
    pub(crate) hosted: Arc<Mutex<Hosted>>,
}

impl Running {
    pub(crate) fn block<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    pub(crate) fn propose(&self, command: Command) -> u64 {
        self.block(self.raft.propose(command, PATIENCE)).unwrap().unwrap().revision
    }

    pub(crate) fn leads(&self, shard: ShardId) -> bool {
        self.hosted.lock().now.contains_key(&shard)
    }

    pub(crate) fn fingerprint(&self, shard: ShardId) -> u64 {
        self.store.replica(shard).unwrap().fingerprint()
    }

    pub(crate) fn applied(&self, group: GroupId) -> u64 {
        let status = self.raft.groups_status();
        status.iter().find(|status| status.group == group).map_or(0, |status| status.applied.0)
    }

    /// Ends it as a crash does: nothing is handed over, nothing is flushed in order.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    pub(crate) fn stop(mut self) {
        self.block(async {
            self.raft.transfer_all_leadership().await;
            self.raft.shutdown().await;
        });
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

pub(crate) struct World {
    addresses: Vec<SocketAddr>,
    pub(crate) ids: Vec<NodeId>,
    pub(crate) nodes: Vec<Option<Running>>,
    pub(crate) options: RaftOptions,
    pub(crate) store_options: StoreOptions,
    starts: u64,
    /// Where a node's data is that is not where its number says.
    moved: BTreeMap<usize, PathBuf>,
    /// Last: it goes when nobody writes to it any more.
    directory: tempfile::TempDir,
}

impl World {
    /// `count` nodes that are not started, with addresses of their own.
    pub(crate) fn new(count: usize) -> Self {
        if std::env::var_os("RUST_LOG").is_some() {
            drop(
                tracing_subscriber::fmt()
                    .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                    .with_test_writer()
                    .try_init(),
            );
        }
        let addresses: Vec<SocketAddr> = (0..count).map(|_| free_address()).collect();
        let options = RaftOptions {
            seeds: addresses.iter().map(SocketAddr::to_string).collect(),
            expect: count,
            shards: 3,
            replication: 3,
            default_user: DefaultUser { name: "guest".to_owned(), password: "guest".to_owned() },
            ..RaftOptions::default()
        };
        Self {
            directory: tempfile::tempdir().unwrap(),
            addresses,
            ids: (1..=count as u64).map(|id| NodeId(id * 11)).collect(),
            nodes: (0..count).map(|_| None).collect(),
            options,
            store_options: StoreOptions::default(),
            starts: 0,
            moved: BTreeMap::new(),
        }
    }

    /// Room for `count` nodes, of which one runs as a cluster of its own; the others join it when they are started.
    pub(crate) fn alone(count: usize) -> Self {
        let mut world = Self::new(count);
        world.options.expect = 1;
        let seeds = std::mem::take(&mut world.options.seeds);
        world.start(0);
        wait_for("it has formed", || world.node(0).raft.catalogue().read().cluster().is_some());
        world.options.seeds = vec![seeds[0].clone()];
        world
    }

    /// Another node with a copy of a stopped one's data, at an address of its own.
    pub(crate) fn twin(&mut self, node: usize) -> usize {
        let twin = self.nodes.len();
        let path = self.directory.path().join("twin");
        copy(&self.path(node), &path);
        self.moved.insert(twin, path);
        self.addresses.push(free_address());
        self.ids.push(self.ids[node]);
        self.nodes.push(None);
        twin
    }

    /// All started, the cluster formed, every shard hosted.
    pub(crate) fn formed(count: usize) -> Self {
        let mut world = Self::new(count);
        (0..count).for_each(|node| world.start(node));
        world.wait_ready();
        world
    }

    pub(crate) fn wait_ready(&self) {
        wait_for("the cluster has formed", || {
            self.running().all(|node| node.raft.catalogue().read().cluster().is_some())
        });
        for shard in 1..=self.options.shards {
            self.leader(ShardId(shard));
        }
    }

    fn path(&self, node: usize) -> PathBuf {
        let usual = || self.directory.path().join(format!("{}", self.ids[node].0));
        self.moved.get(&node).cloned().unwrap_or_else(usual)
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.starts += 1;
        let id = self.ids[node];
        let address = self.addresses[node];
        let options = RaftOptions {
            node: id,
            incarnation: self.starts,
            name: format!("n{id}"),
            advertise: address.to_string(),
            ..self.options.clone()
        };
        let path = self.path(node);
        let mut store = None;
        wait_for("the store is free", || {
            store = Store::open(&path, self.store_options.clone()).ok();
            store.is_some()
        });
        let store = store.unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let hosted: Arc<Mutex<Hosted>> = Arc::default();
        let (raft, peers) = runtime.block_on(async {
            let peers = Peers::new(Hello {
                node: id,
                incarnation: options.incarnation,
                cluster: None,
                address: options.advertise.clone(),
                name: options.name.clone(),
                fresh: true,
                sees: Vec::new(),
                zone: options.zone.clone(),
            });
            let listener = TcpListener::bind(address).await.unwrap();
            let raft = RaftNode::start(options, store.clone(), peers.clone()).await.unwrap();
            let services = Services { member: raft.member_service(), session: None };
            let serving = peers.clone();
            tokio::spawn(async move {
                serve(listener, serving, services, warren_rpc::CONNECTIONS_MAX, std::future::pending()).await
            });
            let mut events = raft.take_leadership_events();
            let hosted = Arc::clone(&hosted);
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    match event {
                        Leadership::Elected(leadership) => {
                            let applied: Arc<Mutex<Vec<AppliedRecord>>> = Arc::default();
                            let (mut records, kept) = (leadership.applied, Arc::clone(&applied));
                            tokio::spawn(async move {
                                while let Some(batch) = records.recv().await {
                                    kept.lock().extend(batch);
                                }
                            });
                            let mut hosted = hosted.lock();
                            hosted.elected += 1;
                            hosted.now.insert(
                                leadership.shard,
                                Host {
                                    term: leadership.term,
                                    opening: leadership.opening,
                                    proposer: leadership.proposer,
                                    applied,
                                },
                            );
                        }
                        Leadership::Lost { shard, term } => {
                            let mut hosted = hosted.lock();
                            hosted.lost += 1;
                            assert_eq!(hosted.now.remove(&shard).map(|host| host.term), Some(term));
                        }
                    }
                }
            });
            (raft, peers)
        });
        self.nodes[node] = Some(Running { runtime: Some(runtime), raft, peers, store, hosted });
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].take().unwrap().kill();
    }

    /// Kills it and takes its data, but not its identity.
    pub(crate) fn wipe_store(&mut self, node: usize) {
        self.kill(node);
        let path = self.path(node);
        wait_for("the disk is gone", || std::fs::remove_dir_all(&path).is_ok());
    }

    /// A disk with nothing on it but this.
    pub(crate) fn fill_store(&self, node: usize, blob: &str, bytes: &[u8]) {
        let store = Store::open(&self.path(node), self.store_options.clone()).unwrap();
        store.put_blob(blob, bytes).unwrap();
    }

    /// Kills it and takes its disk; it comes back as another node.
    pub(crate) fn wipe(&mut self, node: usize) {
        self.wipe_store(node);
        self.ids[node] = NodeId(self.ids[node].0 + 1000);
    }

    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].take().unwrap().stop();
    }

    pub(crate) fn node(&self, node: usize) -> &Running {
        self.nodes[node].as_ref().unwrap()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Running> {
        self.nodes.iter().flatten()
    }

    /// The node that hosts a shard.
    pub(crate) fn leader(&self, shard: ShardId) -> usize {
        let mut found = None;
        wait_for("a shard is hosted", || {
            found = self.nodes.iter().position(|node| node.as_ref().is_some_and(|n| n.leads(shard)));
            found.is_some()
        });
        found.unwrap()
    }

    /// Proposes records of one message each until all are applied, wherever the leader is; those that were not applied
    /// are offered again, as a home does.
    pub(crate) fn publish(
        &self,
        shard: ShardId,
        session: u64,
        sequences: std::ops::RangeInclusive<u64>,
        body: usize,
    ) {
        let began = Instant::now();
        let last = *sequences.end();
        loop {
            assert!(began.elapsed() < PATIENCE, "not applied in time");
            let leader = self.node(self.leader(shard));
            let (proposer, applied, passed) = {
                let hosted = leader.hosted.lock();
                let Some(host) = hosted.now.get(&shard) else { continue };
                let opened =
                    host.opening.sessions.iter().find(|(id, _)| id.0 == session).map_or(0, |(_, seq)| *seq);
                let passed = host.applied.lock().iter().map(|r| last_seq(r, session)).max().unwrap_or(0);
                (host.proposer.clone(), Arc::clone(&host.applied), opened.max(passed))
            };
            let from = (passed + 1).max(*sequences.start());
            if from > last {
                return;
            }
            let refused = (from..=last).any(|seq| proposer.propose(&record(session, seq, body)).is_err());
            let mut waited = Instant::now();
            while !refused && leader.leads(shard) && waited.elapsed() < Duration::from_secs(3) {
                let reached = applied.lock().iter().map(|r| last_seq(r, session)).max().unwrap_or(0);
                if reached >= last {
                    return;
                }
                if reached > passed {
                    waited = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Every running node has applied the same and has come to the same state.
    pub(crate) fn wait_same(&self, shard: ShardId) {
        let group = GroupId::from(shard);
        wait_for("all replicas are the same", || {
            let applied: Vec<u64> = self.running().map(|node| node.applied(group)).collect();
            let prints: Vec<u64> = self.running().map(|node| node.fingerprint(shard)).collect();
            applied.iter().all(|a| *a == applied[0] && *a > 0) && prints.iter().all(|p| *p == prints[0])
        });
    }
}

pub(crate) fn last_seq(record: &AppliedRecord, session: u64) -> u64 {
    let passed = record.record.ops.iter().map(|op| match op {
        Op::Enqueue(enqueue) if enqueue.session.0 == session => enqueue.last_seq,
        _ => 0,
    });
    passed.max().unwrap_or(0)
}

pub(crate) fn record(session: u64, seq: u64, body: usize) -> Record {
    let message = Message { body: Bytes::from(vec![seq as u8; body]), ..Message::default() };
    let message = EnqueuedMessage { seq, queues: vec![QueueId(1)], message };
    let enqueue = Enqueue { session: SessionId(session), last_seq: seq, messages: vec![message] };
    Record { ops: vec![Op::Enqueue(enqueue)], ..Record::default() }
}
