//! A machine of the cluster: its disk and directory stay, its process comes and goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use warren_broker::admin::NodeChange;
use warren_broker::{BrokerConfig, Checkpoints, MemoryWatermark, Node, SimulatedWorld};
use warren_store::simulation::LogWriter;
use warren_store::{Store, StoreOptions};
use warren_types::{NodeId, ShardId};

use crate::chance::Chance;
use crate::disk::Disk;
use crate::network::{Host, Net, NodeNet};
use crate::runtime::Processor;
use crate::trace::Trace;

/// Files of the log: small, so that they are used again within a run.
const SEGMENT_BYTES: u64 = 256 << 10;
/// As the log's writer does: after so long without a write the last one is sealed.
const SEAL_MS: u64 = 100;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The system goes on.
    Process,
    /// So does what was not synced.
    Power,
}

/// What a cluster begins as.
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) shards: u32,
    pub(crate) replication: u32,
    pub(crate) checkpoints: Checkpoints,
}

impl Plan {
    /// Seldom, as in life, or so often that followers need snapshots.
    pub(crate) fn checkpoints(chance: &mut Chance) -> Checkpoints {
        if chance.permille(400) {
            return Checkpoints::default();
        }
        Checkpoints {
            bytes: chance.of([32 << 10, 200 << 10, 1 << 20]),
            interval: Duration::from_millis(chance.of([700, 4000, 20_000])),
            keep_log_bytes: chance.of([0, 16 << 10, 128 << 10]),
        }
    }
}

pub(crate) struct Machine {
    pub(crate) host: Host,
    directory: PathBuf,
    pub(crate) disk: Disk,
    net: Net,
    trace: Trace,
    chance: Chance,
    config: BrokerConfig,
    checkpoints: Checkpoints,
    /// Most milliseconds of an fsync.
    pub(crate) sync_ms: u64,
    process: Option<Process>,
    /// How often a process was started.
    pub(crate) starts: u64,
}

type Started = Arc<Mutex<Option<Result<Node, String>>>>;

struct Process {
    // Dropped in this order: tasks, then what they used.
    processor: Processor,
    started: Started,
    node: Option<Node>,
    stopped: Option<Arc<Mutex<bool>>>,
    writer: LogWriter,
    store: Store,
    /// When the batch that was taken is on disk.
    busy_until: Option<u64>,
    last_write: Option<u64>,
}

/// What became of a machine in a turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Nothing,
    /// The node stops itself, with its reason.
    Fatal(String),
    /// The power went in the middle of a write.
    Dark,
    /// It has stopped in order.
    Stopped,
}

impl Machine {
    pub(crate) fn new(
        host: Host,
        directory: PathBuf,
        net: Net,
        trace: Trace,
        mut chance: Chance,
        plan: &Plan,
    ) -> Self {
        let address = |host: Host| format!("n{host}:25672");
        let config = BrokerConfig {
            data_dir: directory.clone(),
            node_name: format!("warren-{host}"),
            cluster_advertise: address(host),
            seeds: (1..=plan.nodes).map(address).collect(),
            expect: plan.nodes,
            shards: plan.shards,
            replication_factor: plan.replication,
            disk_free_limit_bytes: 0,
            memory_high_watermark: MemoryWatermark::Bytes(0),
            guest_loopback_only: false,
            ..BrokerConfig::default()
        };
        let disk = Disk::new(chance.fork());
        Self {
            host,
            directory,
            disk,
            net,
            trace,
            chance,
            config,
            checkpoints: plan.checkpoints,
            sync_ms: 3,
            process: None,
            starts: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.process.as_ref().map(|process| &process.store)
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.process.as_ref().and_then(|process| process.node.as_ref())
    }

    /// Starts a process.
    ///
    /// # Errors
    /// Why it does not start, as a sentence.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.starts += 1;
        let directory = self.directory.join("store");
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let options = StoreOptions {
            log_segment_bytes: SEGMENT_BYTES,
            // Small enough that bodies are moved out of it.
            log_bytes: 4 * SEGMENT_BYTES,
            state_memtable_bytes: 4 << 20,
            tail_bytes: 256 << 10,
            ..StoreOptions::default()
        };
        let opened = warren_store::simulation::open(&directory, options, self.disk.directory());
        let (store, writer) = opened.map_err(|error| error.to_string())?;
        let processor = Processor::new().map_err(|error| error.to_string())?;
        let (node_sender, nodes) = mpsc::channel(256);
        let (client_sender, clients) = mpsc::channel(256);
        self.net.start(self.host, node_sender, client_sender);
        let network = Arc::new(NodeNet { net: self.net.clone(), host: self.host });
        let world =
            SimulatedWorld { store: store.clone(), network, nodes, clients, checkpoints: self.checkpoints };
        let started = Started::default();
        let (slot, config) = (Arc::clone(&started), self.config.clone());
        processor.spawn(async move {
            let node = Node::start_simulated(config, world).await;
            *slot.lock() = Some(node.map_err(|error| error.to_string()));
        });
        self.process = Some(Process {
            processor,
            started,
            node: None,
            stopped: None,
            writer,
            store,
            busy_until: None,
            last_write: None,
        });
        Ok(())
    }

    /// Ends the process without a word.
    pub(crate) fn kill(&mut self, death: Death) {
        self.net.stop(self.host, death == Death::Process);
        match death {
            Death::Process => self.disk.process_died(),
            Death::Power => self.disk.power_cut(),
        }
        self.process = None;
    }

    /// Its disk is replaced by an empty one, while no process runs.
    pub(crate) fn wipe(&mut self) {
        debug_assert!(self.process.is_none(), "a running process would lose its files");
        self.disk.replace();
        drop(std::fs::remove_dir_all(&self.directory));
    }

    /// Asks the cluster, through this node, to change what a machine is there for.
    pub(crate) fn operate(&self, host: Host, change: NodeChange) {
        let Some((process, node)) =
            self.process.as_ref().and_then(|process| Some((process, process.node.as_ref()?)))
        else {
            return;
        };
        let (admin, trace) = (node.admin(), self.trace.clone());
        process.processor.spawn(async move {
            let said = admin.change_node(&format!("warren-{host}"), change).await;
            trace.note(format_args!("{change:?} of node {host}: {said:?}"));
        });
    }

    /// Has the node hand over whatever it leads.
    pub(crate) fn hand_over(&self) {
        let Some((process, node)) =
            self.process.as_ref().and_then(|process| Some((process, process.node.as_ref()?)))
        else {
            return;
        };
        process.processor.spawn(node.hand_over());
    }

    /// Its node's number.
    pub(crate) fn id(&self) -> Option<NodeId> {
        self.node()?.admin().nodes().iter().find(|node| node.this).map(|node| node.id)
    }

    /// Whether every shard has the replicas that it should have, as this node knows; `None` without a node.
    pub(crate) fn is_settled(&self) -> Option<bool> {
        Some(self.node()?.admin().shards().iter().all(|shard| shard.settled && shard.leader.is_some()))
    }

    /// Asks the node to stop in order; [`Turn::Stopped`] tells when it has.
    pub(crate) fn stop(&mut self) {
        let Some(process) = &mut self.process else { return };
        let Some(node) = process.node.take() else { return };
        let stopped = Arc::new(Mutex::new(false));
        process.stopped = Some(Arc::clone(&stopped));
        process.processor.spawn(async move {
            node.stop().await;
            *stopped.lock() = true;
        });
    }

    /// Lets the process work, and its disk.
    pub(crate) fn turn(&mut self) -> Turn {
        let now = self.trace.now_ms();
        let Some(process) = &mut self.process else { return Turn::Nothing };
        let mut has_work = process.processor.has_work(now);
        if process.busy_until.is_some_and(|until| until <= now) {
            process.busy_until = None;
            process.last_write = Some(now);
            let writer = &mut process.writer;
            process.processor.enter(|| writer.finish());
            has_work = true;
        } else if process.last_write.is_some_and(|last| last + SEAL_MS <= now) && process.busy_until.is_none()
        {
            process.last_write = None;
            process.writer.seal();
        }
        if self.disk.is_dark() {
            return Turn::Dark;
        }
        if !has_work {
            return Turn::Nothing;
        }
        process.processor.work(now);
        if process.busy_until.is_none() && process.writer.take() {
            process.busy_until = Some(now + self.chance.within(1, self.sync_ms + 1));
        }
        match process.started.lock().take() {
            Some(Ok(node)) => process.node = Some(node),
            Some(Err(reason)) => return Turn::Fatal(format!("does not start: {reason}")),
            None => {}
        }
        if process.stopped.as_ref().is_some_and(|stopped| *stopped.lock()) {
            process.writer.finish();
            while process.writer.take() {
                process.writer.finish();
            }
            process.writer.seal();
            return Turn::Stopped;
        }
        match process.node.as_ref().and_then(|node| node.fatal().borrow().clone()) {
            Some(reason) => Turn::Fatal(reason),
            None => Turn::Nothing,
        }
    }

    /// What a shard's replica here has applied, and its state as one number.
    pub(crate) fn replica(&self, shard: ShardId) -> Option<(u64, u64)> {
        let replica = self.store()?.replica(shard).ok()?;
        Some((replica.applied().0.0, replica.fingerprint()))
    }
}
