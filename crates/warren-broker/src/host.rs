//! Spine 8, 11 to 13: the task of one host: a shard that this node leads, or this node's transient queues. It feeds
//! the leader's machine and carries out what the machine asks for.
//!
//! Before: `session` (in process or from another node). After: `warren-raft`'s proposer and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};
use warren_catalogue::{Catalogue, queue_settings};
use warren_proto::session::{HomeFrame, LeaderFrame};
use warren_proto::shard::{AppliedRecord, OpeningState, Record, StoredMessage};
use warren_queue::{
    DeadLetter, HostLeader, Input, LeaderConfig, MemoryStore, Output, QueueDirectory, SessionKey,
};
use warren_raft::{CatalogueHandle, Proposer, ShardLeadership, blocking};
use warren_store::Replica;
use warren_store::simulation::{self, Planted};
use warren_types::{NodeId, Position, QueueHost, QueueId, QueueSettings, QueueSpec, Term, UnixMillis};

use crate::clock;
use crate::dead_letter::{Burial, Buried};
use crate::mailbox::Mailbox;
use crate::pace::{Paces, Told};

/// Frames and commands that may wait for a host before their senders do.
const INPUTS_MAX: usize = 256;
/// Inputs carried out before the outputs are looked after: bounds how long a consumer waits behind publishers.
const INPUTS_PER_TURN: usize = 64;
/// Dead letters that became safe, taken in one turn.
const BURIED_PER_TURN: usize = 256;
/// How often time passes for the machine: grace periods are counted in seconds.
const TICK: Duration = Duration::from_millis(250);

/// What a host's task takes.
pub(crate) enum HostInput {
    /// A stream of frames begins; answers go to the mailbox.
    Open { key: SessionKey, answers: Arc<Mailbox<LeaderFrame>> },
    /// A frame of it.
    Frame(SessionKey, HomeFrame),
    /// It ended.
    Gone(SessionKey),
    /// A node's process is gone: what it held goes back at once.
    NodeDead(NodeId),
    /// Queues were deleted from the catalogue.
    QueuesDeleted(Arc<[QueueId]>),
}

/// A host that this node runs.
#[derive(Clone)]
pub(crate) struct HostHandle {
    inputs: mpsc::Sender<HostInput>,
    term: Term,
    stop: CancellationToken,
}

impl HostHandle {
    pub(crate) fn inputs(&self) -> &mpsc::Sender<HostInput> {
        &self.inputs
    }
}

/// The hosts that this node runs now.
pub(crate) struct Hosts {
    running: RwLock<HashMap<QueueHost, HostHandle>>,
    changed: watch::Sender<u64>,
    next_key: std::sync::atomic::AtomicU64,
    paces: Paces,
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            running: RwLock::default(),
            changed: watch::Sender::new(0),
            next_key: std::sync::atomic::AtomicU64::new(0),
            paces: Paces::default(),
        }
    }
}

impl Hosts {
    pub(crate) fn get(&self, host: QueueHost) -> Option<HostHandle> {
        self.running.read().get(&host).cloned()
    }

    pub(crate) fn all(&self) -> Vec<HostHandle> {
        self.running.read().values().cloned().collect()
    }

    /// How long this node's publishers wait.
    pub(crate) fn paces(&self) -> &Paces {
        &self.paces
    }

    /// Changes whenever a host starts or stops here.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn next_key(&self) -> SessionKey {
        SessionKey(self.next_key.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1)
    }

    fn insert(&self, host: QueueHost, handle: HostHandle) {
        let before = self.running.write().insert(host, handle);
        if let Some(before) = before {
            before.stop.cancel();
        }
        self.changed.send_modify(|version| *version += 1);
    }

    /// Stops the host of that term or an older one.
    pub(crate) fn remove(&self, host: QueueHost, term: Term) {
        let mut running = self.running.write();
        if running.get(&host).is_some_and(|handle| handle.term <= term)
            && let Some(handle) = running.remove(&host)
        {
            handle.stop.cancel();
        }
        drop(running);
        self.changed.send_modify(|version| *version += 1);
    }
}

/// What a host's task needs from its node.
#[derive(Clone)]
pub(crate) struct HostContext {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) catalogue: CatalogueHandle,
    pub(crate) cache_bytes: u64,
    /// Queues that their leader asks to be deleted.
    pub(crate) deletions: mpsc::Sender<QueueId>,
    /// Messages for dead-letter exchanges.
    pub(crate) burials: Arc<Mailbox<Burial>>,
}

/// What lies below the machine: a replicated log, or this node's memory.
enum Backend {
    Raft { proposer: Proposer, replica: Replica },
    Memory(MemoryStore),
}

/// Starts hosting a shard that this node was elected to lead.
pub(crate) fn lead_shard(context: &HostContext, leadership: ShardLeadership, nodes: &[NodeId]) {
    let ShardLeadership { shard, term, opening, applied, proposer, replica } = leadership;
    let host = QueueHost::Shard(shard);
    info!(%shard, %term, queues = opening.queues.len(), "hosting the queues of a shard");
    start(context, host, term, opening, nodes, applied, Backend::Raft { proposer, replica });
}

/// Starts hosting this node's transient queues.
pub(crate) fn host_transient(context: &HostContext, node: NodeId) {
    let (never, applied) = mpsc::channel(1);
    // The sender lives as long as the task: a memory store answers at once and sends nothing.
    let host = QueueHost::Node(node);
    start(
        context,
        host,
        Term(0),
        OpeningState::default(),
        &[],
        applied,
        Backend::Memory(MemoryStore::default()),
    );
    tokio::spawn(async move {
        never.closed().await;
    });
}

fn start(
    context: &HostContext,
    host: QueueHost,
    term: Term,
    opening: OpeningState,
    nodes: &[NodeId],
    applied: mpsc::Receiver<Vec<AppliedRecord>>,
    backend: Backend,
) {
    let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
    let stop = CancellationToken::new();
    let config = LeaderConfig {
        cache_bytes: context.cache_bytes,
        term,
        confirm_early: simulation::is_planted(Planted::ConfirmEarly),
        ..LeaderConfig::new(host)
    };
    let (loads, loaded) = mpsc::channel(64);
    let task = HostTask {
        host,
        machine: HostLeader::open(config, opening, nodes, clock::now()),
        catalogue: context.catalogue.clone(),
        deletions: context.deletions.clone(),
        burials: Arc::clone(&context.burials),
        buried: Arc::new(Buried::new()),
        paces: Told::default(),
        sessions: HashMap::new(),
        backend,
        outputs: Vec::new(),
        loads,
        inputs: receiver,
        applied,
        loaded,
        stop: stop.clone(),
    };
    let hosts = Arc::clone(&context.hosts);
    hosts.insert(host, HostHandle { inputs, term, stop });
    tokio::spawn(async move {
        task.run().await;
        hosts.remove(host, term);
    });
}

type LoadResult = (QueueId, Result<(Vec<StoredMessage>, bool), warren_store::StoreError>);

struct HostTask {
    host: QueueHost,
    machine: HostLeader,
    catalogue: CatalogueHandle,
    deletions: mpsc::Sender<QueueId>,
    burials: Arc<Mailbox<Burial>>,
    buried: Arc<Buried>,
    paces: Told,
    sessions: HashMap<SessionKey, Arc<Mailbox<LeaderFrame>>>,
    backend: Backend,
    outputs: Vec<Output>,
    loads: mpsc::Sender<LoadResult>,
    inputs: mpsc::Receiver<HostInput>,
    applied: mpsc::Receiver<Vec<AppliedRecord>>,
    loaded: mpsc::Receiver<LoadResult>,
    stop: CancellationToken,
}

/// The catalogue as the machine may ask it.
struct Directory<'a>(&'a Catalogue);

impl Directory<'_> {
    /// What the queue's arguments and the policies ask for together.
    fn effective(&self, spec: &QueueSpec) -> QueueSettings {
        queue_settings(&self.0.effective_arguments(spec))
    }
}

impl QueueDirectory for Directory<'_> {
    fn queue(&self, id: QueueId) -> Option<Arc<QueueSpec>> {
        self.0.queue_by_id(id).cloned()
    }

    fn newest(&self) -> QueueId {
        QueueId(self.0.next_queue_id().0.saturating_sub(1))
    }

    fn settings(&self, id: QueueId) -> Option<Arc<QueueSettings>> {
        self.0.queue_by_id(id).map(|spec| Arc::new(self.effective(spec)))
    }

    fn revision(&self) -> u64 {
        self.0.revision()
    }

    fn leased(&self, host: QueueHost) -> Vec<QueueId> {
        let leased = |spec: &Arc<QueueSpec>| self.effective(spec).expires_ms.map(|_| spec.id);
        self.0.queues_of_host(host).filter_map(leased).collect()
    }
}

/// What a turn of the loop woke up for.
enum Turn {
    Stop,
    Applied(Vec<AppliedRecord>),
    Inputs,
    Loaded(LoadResult),
    Buried(Vec<(QueueId, Position)>),
    /// The head of a queue has come to its time, or acknowledgements have: the flush looks at it.
    Timer,
    Tick,
}

/// Waits until the node's clock has come so far.
async fn until(at: Option<UnixMillis>) {
    tokio::time::sleep(at.map_or(Duration::from_millis(1), until_then)).await;
}

fn until_then(at: UnixMillis) -> Duration {
    Duration::from_millis(at.0.saturating_sub(clock::now().0).max(1))
}

impl HostTask {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(INPUTS_PER_TURN);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut revisions = self.catalogue.revision();
        // Set anew only when it has gone off: to set a timer for each acknowledgement costs more than to look too early.
        let mut lazy = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut lazy_is_set = false;
        loop {
            if let Some(at) = self.machine.lazy_until().filter(|_| !lazy_is_set) {
                lazy.as_mut().reset(tokio::time::Instant::now() + until_then(at));
                lazy_is_set = true;
            }
            let takes_inputs = !self.machine.is_full();
            let waits_for_catalogue = self.machine.waits_for_catalogue();
            let timer = self.machine.next_timer();
            let lease = self.machine.next_lease();
            let buried = Arc::clone(&self.buried);
            let mut safe = Vec::new();
            let turn = tokio::select! {
                biased;
                () = self.stop.cancelled() => Turn::Stop,
                applied = self.applied.recv() => applied.map_or(Turn::Stop, Turn::Applied),
                loaded = self.loaded.recv() => loaded.map_or(Turn::Stop, Turn::Loaded),
                count = self.inputs.recv_many(&mut batch, INPUTS_PER_TURN), if takes_inputs => {
                    if count == 0 { Turn::Stop } else { Turn::Inputs }
                }
                _ = buried.recv_many(&mut safe, BURIED_PER_TURN) => Turn::Buried(safe),
                () = until(timer), if timer.is_some() => Turn::Timer,
                () = lazy.as_mut(), if lazy_is_set => {
                    lazy_is_set = false;
                    Turn::Timer
                }
                () = until(lease), if lease.is_some() => Turn::Tick,
                Ok(()) = revisions.changed(), if waits_for_catalogue => Turn::Tick,
                _ = tick.tick() => Turn::Tick,
            };
            match turn {
                Turn::Stop => break,
                Turn::Applied(mut records) => {
                    while let Ok(more) = self.applied.try_recv() {
                        records.extend(more);
                    }
                    self.step(Input::Applied(records));
                    // What publishers sent meanwhile belongs in the next record.
                    if !self.machine.is_full() {
                        while batch.len() < INPUTS_PER_TURN
                            && let Ok(input) = self.inputs.try_recv()
                        {
                            batch.push(input);
                        }
                        self.take(&mut batch);
                    }
                }
                Turn::Inputs => self.take(&mut batch),
                Turn::Loaded((queue, Ok((messages, end)))) => {
                    self.step(Input::Loaded { queue, messages, end })
                }
                Turn::Loaded((queue, Err(failure))) => {
                    // The store has already reported what is fatal; leading on would withhold the queue for ever.
                    error!(host = %self.host, %queue, %failure, "a message cannot be read back: giving up the shard");
                    break;
                }
                Turn::Buried(safe) => {
                    for (queue, position) in safe {
                        self.step(Input::DeadLettered { queue, position });
                    }
                }
                Turn::Timer => {}
                Turn::Tick => self.step(Input::Tick),
            }
            self.finish_turn();
        }
        self.end();
    }

    fn take(&mut self, batch: &mut Vec<HostInput>) {
        for input in batch.drain(..) {
            match input {
                HostInput::Open { key, answers } => {
                    self.paces.greet(&answers);
                    self.sessions.insert(key, answers);
                }
                HostInput::Frame(key, frame) => self.step(Input::Frame(key, frame)),
                HostInput::Gone(key) => {
                    self.sessions.remove(&key);
                    self.step(Input::SessionLost(key));
                }
                HostInput::NodeDead(node) => self.step(Input::NodeDead(node)),
                HostInput::QueuesDeleted(queues) => {
                    for queue in queues.iter() {
                        self.step(Input::QueueDeleted(*queue));
                    }
                }
            }
        }
    }

    fn step(&mut self, input: Input) {
        let catalogue = self.catalogue.read();
        self.machine.step(clock::now(), &Directory(&catalogue), input, &mut self.outputs);
    }

    /// Lets the machine gather, and carries out what it asks for. A memory store answers at once, which may ask for
    /// more; a replicated one answers through `applied`.
    fn finish_turn(&mut self) {
        self.machine.flush(clock::now(), &mut self.outputs);
        while !self.outputs.is_empty() {
            let mut answers = Vec::new();
            for output in std::mem::take(&mut self.outputs) {
                self.act(output, &mut answers);
            }
            if answers.is_empty() {
                break;
            }
            for answer in answers {
                self.step(answer);
            }
            self.machine.flush(clock::now(), &mut self.outputs);
        }
    }

    fn act(&mut self, output: Output, answers: &mut Vec<Input>) {
        match output {
            Output::Record(record) => self.record(record, answers),
            Output::Send(key, frame) => {
                if let Some(answers) = self.sessions.get(&key) {
                    // A home that is gone says so through `Gone`.
                    let _gone = answers.push(frame);
                }
            }
            Output::Load { queue, after, max_messages, max_bytes } => {
                self.load(queue, after, max_messages, max_bytes, answers);
            }
            Output::DeadLetter(letter) => self.dead_letter(letter, answers),
            Output::DeleteQueue { queue } => {
                if self.deletions.try_send(queue).is_err() {
                    debug!(%queue, "too many queues to delete at once: the machine asks again");
                }
            }
            Output::Pace { queue, pause_ms } => self.paces.tell(queue, pause_ms, self.sessions.values()),
        }
    }

    fn dead_letter(&mut self, letter: Box<DeadLetter>, answers: &mut Vec<Input>) {
        let (queue, position) = (letter.queue, letter.position);
        let spec = self.catalogue.read().queue_by_id(queue).cloned();
        let taken =
            spec.is_some_and(|spec| self.burials.push(Burial::new(spec, letter, Arc::clone(&self.buried))));
        if !taken {
            // The queue was deleted a moment ago, and its messages with it.
            answers.push(Input::DeadLettered { queue, position });
        }
    }

    fn record(&mut self, record: Record, answers: &mut Vec<Input>) {
        match &mut self.backend {
            Backend::Raft { proposer, .. } => {
                if proposer.propose(&record).is_err() {
                    // Homes offer everything unconfirmed to the next leader.
                    debug!(host = %self.host, "no longer the leader");
                    self.stop.cancel();
                }
            }
            Backend::Memory(store) => answers.push(Input::Applied(vec![store.apply(record)])),
        }
    }

    fn load(
        &mut self,
        queue: QueueId,
        after: Position,
        max_messages: u32,
        max_bytes: u64,
        answers: &mut Vec<Input>,
    ) {
        match &self.backend {
            Backend::Memory(store) => {
                let (messages, end) = store.load(queue, after, max_messages, max_bytes);
                answers.push(Input::Loaded { queue, messages, end });
            }
            Backend::Raft { replica, .. } => {
                let (replica, loads) = (replica.clone(), self.loads.clone());
                let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
                let load = move || replica.load(queue, after, max_messages as usize, max_bytes);
                tokio::spawn(async move {
                    // A cancelled load: the runtime is going down.
                    let Ok(result) = blocking(load).await else { return };
                    // The host has stopped meanwhile: nobody wants it.
                    let _stopped = loads.send((queue, result)).await;
                });
            }
        }
    }

    fn end(self) {
        self.buried.close();
        for answers in self.sessions.values() {
            let _gone = answers.push(LeaderFrame::NotLeader);
            answers.close();
        }
        if let Backend::Raft { .. } = self.backend {
            info!(host = %self.host, "no longer hosting the queues of a shard");
        }
    }
}
