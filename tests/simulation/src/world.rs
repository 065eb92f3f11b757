//! One run: a cluster and its clients, faults, and the judgement.

mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::chance::Chance;
use crate::clients::{Consumer, Field, Publisher, Switches};
use crate::faults::{Fault, Moves, Nemesis};
use crate::history::History;
use crate::kinds::Kind;
use crate::machine::{Death, Machine, Plan, Turn};
use crate::network::{Host, Net};
use crate::runtime::Processor;
use crate::trace::Trace;
use parking_lot::Mutex;

/// How long a cluster may take to form, and clients to declare.
const FORM_MS: u64 = 60_000;
/// Until every node knows what was declared on one.
const KNOWN_MS: u64 = 1000;
/// After the last fault: until publishers have their answers.
const ANSWER_MS: u64 = 60_000;
/// Until every queue is empty, or fewer messages are left than so long before.
const DRAIN_MS: u64 = 60_000;
/// How often the history is told that something still goes on.
const DISTURBED_EVERY_MS: u64 = 100;

/// How a run went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) faults: u64,
    pub(crate) confirmed: u64,
    pub(crate) deliveries: u64,
}

struct World {
    trace: Trace,
    net: Net,
    history: History,
    field: Field,
    clients: Processor,
    machines: Vec<Machine>,
    chance: Chance,
    /// When machines that are down are started.
    back_at: BTreeMap<Host, u64>,
    back_after: BTreeMap<Host, u64>,
    paused_until: BTreeMap<Host, u64>,
    /// When links are healed.
    heal_at: Option<u64>,
    disk_until: BTreeMap<Host, u64>,
    /// Machines whose disk is made to fail: their nodes may say so and end.
    sick: BTreeSet<Host>,
    cut: Vec<Host>,
    calm_until: u64,
    /// Machines that are not in the cluster.
    spare: BTreeSet<Host>,
    /// Machines that may find that they were removed from it.
    leaving: BTreeSet<Host>,
    moves: Moves,
    /// A disk was lost.
    wiped: bool,
    faults: u64,
}

/// Runs a seed. The clock and the chance of this process must be the simulation's.
pub(crate) fn run(seed: u64, directory: &Path, prints: bool, restless: bool) -> std::io::Result<Outcome> {
    warren_store::simulation::begin();
    let mut chance = Chance::new(seed);
    let trace = Trace::new(prints);
    let net = Net::new(chance.fork(), trace.clone());
    let nodes = if chance.permille(150) { 5 } else { 3 };
    let moves = Moves::draw(&mut chance, restless);
    let spare = if moves == Moves::None { 0 } else { 1 + chance.index(2) };
    let replication = if moves == Moves::None { nodes as u32 } else { 3 };
    let shards = 1 + chance.within(0, 3) as u32;
    let plan = Plan { nodes, shards, replication, checkpoints: Plan::checkpoints(&mut chance) };
    let queues = 1 + chance.index(4);
    let kinds: Arc<[Kind]> = Kind::draw(&mut chance, queues).into();
    let history = History::new(trace.clone(), Arc::clone(&kinds));
    let machines = (1..=nodes + spare)
        .map(|host| {
            let directory = directory.join(format!("node-{host}"));
            Machine::new(host, directory, net.clone(), trace.clone(), chance.fork(), &plan)
        })
        .collect();
    let switches = Arc::new(Switches::default());
    switches.nodes.store(nodes, Ordering::Relaxed);
    trace.note(format_args!(
        "seed {seed}: {nodes} nodes and {spare} to come, {} shards, queues {kinds:?}",
        plan.shards
    ));
    let field = Field { net: net.clone(), history: history.clone(), trace: trace.clone(), kinds, switches };
    let mut world = World {
        trace,
        net,
        history,
        field,
        clients: Processor::new()?,
        machines,
        chance,
        back_at: BTreeMap::new(),
        back_after: BTreeMap::new(),
        paused_until: BTreeMap::new(),
        heal_at: None,
        disk_until: BTreeMap::new(),
        sick: BTreeSet::new(),
        cut: Vec::new(),
        calm_until: 0,
        spare: (nodes + 1..=nodes + spare).collect(),
        leaving: BTreeSet::new(),
        moves,
        wiped: false,
        faults: 0,
    };
    world.live(plan);
    let (confirmed, deliveries) = world.history.counts();
    Ok(Outcome {
        violations: world.history.violations(),
        hash: world.trace.hash(),
        events: world.trace.events(),
        simulated_ms: world.trace.now_ms(),
        faults: world.faults,
        confirmed,
        deliveries,
    })
}

impl World {
    fn live(&mut self, plan: Plan) {
        for host in 1..=plan.nodes {
            self.start(host);
        }
        if !self.form() {
            return self.history.violation(format_args!("stuck: no cluster, or no queues in it"));
        }
        self.clients_come();
        self.go_wrong();
        self.get_well();
        let switches = Arc::clone(&self.field.switches);
        switches.enough.store(true, Ordering::Relaxed);
        let answered = self.until(ANSWER_MS, |_| switches.publishers.load(Ordering::Relaxed) == 0);
        if !answered {
            self.history.violation(format_args!("stuck: a publisher has no answer"));
        }
        switches.drain.store(true, Ordering::Relaxed);
        if self.drain() {
            self.history.judge();
        } else {
            self.not_drained();
        }
        self.compare(plan.shards);
    }

    /// Lets a millisecond pass.
    fn tick(&mut self) {
        // The clock of this thread: it moves by this and by nothing else.
        std::thread::sleep(Duration::from_millis(1));
        let now = self.trace.now_ms() + 1;
        self.trace.set_now(now);
        self.mend(now);
        self.net.deliver();
        for host in 1..=self.machines.len() {
            if self.paused_until.contains_key(&host) {
                continue;
            }
            let Some(machine) = self.machines.get_mut(host - 1) else { continue };
            match machine.turn() {
                Turn::Nothing => {}
                Turn::Dark => {
                    self.trace.note(format_args!("node {host}: dark in the middle of a write"));
                    self.die(host, Death::Power);
                }
                Turn::Stopped => {
                    self.trace.note(format_args!("node {host}: stopped"));
                    self.die(host, Death::Process);
                }
                Turn::Fatal(reason) if self.has_left(host, &reason) => self.take_away(host),
                Turn::Fatal(reason) => {
                    self.trace.note(format_args!("node {host}: ends itself: {reason}"));
                    if !self.sick.contains(&host) {
                        self.history.violation(format_args!("node {host} ends itself: {reason}"));
                    }
                    // What a failed fsync was to write may be gone.
                    self.die(host, Death::Power);
                }
            }
        }
        if self.clients.has_work(now) {
            self.clients.work(now);
        }
    }

    /// Passes time until something is so, or too much has passed.
    fn until(&mut self, most_ms: u64, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.trace.now_ms() + most_ms;
        while self.trace.now_ms() < end {
            self.tick();
            if is_so(self) {
                return true;
            }
        }
        false
    }

    fn start(&mut self, host: Host) {
        let Some(machine) = self.machines.get_mut(host - 1) else { return };
        let started = machine.start();
        self.trace.note(format_args!("node {host}: start {}", machine.starts));
        if machine.disk.is_dark() {
            self.die(host, Death::Power);
        } else if let Err(reason) = started {
            if self.sick.contains(&host) {
                self.back_at.insert(host, self.trace.now_ms() + 500);
            } else {
                self.history.violation(format_args!("node {host} does not start: {reason}"));
            }
        }
    }

    fn die(&mut self, host: Host, death: Death) {
        self.history.died(host);
        self.history.disturbed(&[host]);
        if let Some(machine) = self.machines.get_mut(host - 1) {
            machine.kill(death);
        }
        self.paused_until.remove(&host);
        let after = self.back_after.remove(&host).unwrap_or(500);
        self.back_at.entry(host).or_insert(self.trace.now_ms() + after);
    }

    fn form(&mut self) -> bool {
        let declared = Arc::new(Mutex::new(false));
        let (field, chance, done) = (self.field.clone(), self.chance.fork(), Arc::clone(&declared));
        self.clients.spawn(async move {
            field.declare(chance).await;
            *done.lock() = true;
        });
        let there = self.until(FORM_MS, |_| *declared.lock());
        // A node learns of what another one has declared by the next heartbeat: until then it routes as before.
        self.until(KNOWN_MS, |_| false);
        there
    }

    fn clients_come(&mut self) {
        let publishers = 1 + self.chance.within(0, 4) as u32;
        self.field.switches.publishers.store(publishers, Ordering::Relaxed);
        for number in 0..publishers {
            let publisher =
                Publisher { number, field: self.field.clone(), chance: self.chance.fork(), keys: 0 };
            self.clients.spawn(publisher.run());
        }
        let queues = self.field.kinds.len();
        for number in 0..queues as u32 + self.chance.within(0, 3) as u32 {
            let queue = number as usize % queues;
            let consumer = Consumer {
                number,
                field: self.field.clone(),
                chance: self.chance.fork(),
                queue,
                read_up_to: BTreeMap::new(),
            };
            self.clients.spawn(consumer.run());
        }
    }

    fn go_wrong(&mut self) {
        let mut nemesis = Nemesis::new(self.chance.fork(), self.machines.len(), self.moves);
        let end = self.trace.now_ms() + self.chance.within(6_000, 25_000) + self.moves.longer_ms();
        let mut next = self.trace.now_ms() + 1500;
        while self.trace.now_ms() < end {
            self.tick();
            if self.trace.now_ms() >= next && self.trace.now_ms() >= self.calm_until {
                let fault = nemesis.next();
                self.trace.note(format_args!("{fault:?}"));
                self.strike(fault);
                next = self.trace.now_ms() + nemesis.pause();
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        self.faults += 1;
        let now = self.trace.now_ms();
        match fault {
            Fault::Death { hosts, death, back_after_ms } => {
                for host in hosts {
                    if self.is_up(host) {
                        self.back_after.insert(host, back_after_ms);
                        self.die(host, death);
                    }
                }
            }
            Fault::Doom { host, calls, back_after_ms } => {
                self.back_after.insert(host, back_after_ms);
                if let Some(machine) = self.machines.get(host - 1).filter(|machine| machine.is_up()) {
                    machine.disk.doom(calls);
                }
            }
            Fault::Stop { host, back_after_ms } => {
                self.back_after.insert(host, back_after_ms);
                self.history.disturbed(&[host]);
                if let Some(machine) = self.machines.get_mut(host - 1) {
                    machine.stop();
                }
            }
            Fault::Pause { host, for_ms } => {
                if self.is_up(host) {
                    self.paused_until.insert(host, now + for_ms);
                }
            }
            Fault::Cut { links, for_ms } => {
                for (from, to) in links {
                    self.net.cut(from, to);
                    self.cut.extend([from, to]);
                }
                self.heal_at = Some(now + for_ms);
            }
            Fault::Slow { links, delay_ms, for_ms } => {
                for (from, to) in links {
                    self.net.slow(from, to, delay_ms);
                    self.cut.extend([from, to]);
                }
                self.heal_at = Some(now + for_ms);
            }
            Fault::Reset { host } => {
                self.net.reset_some(host);
                self.history.disturbed(&[host]);
            }
            Fault::SlowDisk { host, sync_ms, for_ms } => {
                if let Some(machine) = self.machines.get_mut(host - 1) {
                    machine.sync_ms = sync_ms;
                }
                self.disk_until.insert(host, now + for_ms);
            }
            Fault::BrokenDisk { host, for_ms } | Fault::FullDisk { host, for_ms } => {
                if let Some(machine) = self.machines.get_mut(host - 1) {
                    match fault {
                        Fault::FullDisk { .. } => machine.disk.set_full(true),
                        _ => machine.disk.set_broken(true),
                    }
                }
                self.sick.insert(host);
                self.disk_until.insert(host, now + for_ms);
            }
            Fault::Join => self.join(),
            Fault::Duty { host, change } => self.set_duty(host, change),
            Fault::Wipe { host, back_after_ms } => self.wipe(host, back_after_ms),
            Fault::HandOver { host } => {
                self.history.disturbed(&[]);
                if let Some(machine) = self.machines.get(host - 1) {
                    machine.hand_over();
                }
            }
            Fault::Calm { for_ms } => {
                self.faults -= 1;
                self.mend_all();
                self.calm_until = now + for_ms;
            }
        }
    }

    fn is_up(&self, host: Host) -> bool {
        self.machines.get(host - 1).is_some_and(Machine::is_up)
    }

    /// Ends what has lasted long enough.
    fn mend(&mut self, now: u64) {
        self.paused_until.retain(|_, until| *until > now);
        if self.heal_at.is_some_and(|at| at <= now) {
            self.heal_at = None;
            self.cut.clear();
            self.net.heal();
        }
        let well: Vec<Host> =
            self.disk_until.iter().filter(|(_, until)| **until <= now).map(|(host, _)| *host).collect();
        for host in well {
            self.disk_until.remove(&host);
            // A node that has found its disk sick may still be about to say so.
            let ends = self.sick.remove(&host);
            if let Some(machine) = self.machines.get_mut(host - 1) {
                machine.disk.set_broken(false);
                machine.disk.set_full(false);
                machine.sync_ms = 3;
            }
            if ends && self.is_up(host) {
                self.die(host, Death::Process);
            }
        }
        let back: Vec<Host> =
            self.back_at.iter().filter(|(_, at)| **at <= now).map(|(host, _)| *host).collect();
        for host in back {
            self.back_at.remove(&host);
            self.start(host);
        }
        if now.is_multiple_of(DISTURBED_EVERY_MS) {
            let mut hosts: Vec<Host> = self.back_at.keys().chain(self.paused_until.keys()).copied().collect();
            hosts.extend(self.disk_until.keys().chain(&self.cut));
            if hosts.is_empty() {
                self.history.calm();
            } else {
                self.history.disturbed(&hosts);
            }
        }
    }

    fn mend_all(&mut self) {
        let now = self.trace.now_ms();
        self.heal_at = Some(now);
        self.paused_until.clear();
        self.disk_until.values_mut().for_each(|until| *until = now);
        self.back_at.values_mut().for_each(|at| *at = now);
    }

    fn get_well(&mut self) {
        self.trace.note(format_args!("no more faults"));
        self.mend_all();
        for machine in &self.machines {
            // A power cut that has not come must not come any more.
            machine.disk.doom(u64::MAX);
        }
    }

    /// Waits until every queue is empty, as clients and the broker say: for as long as they get emptier.
    fn drain(&mut self) -> bool {
        // Half a minute: a client may wait for 20 s for the answer of a node that is gone before it reads its stream.
        const LOOKS_MOST: u64 = 60;
        let empty = Arc::new(AtomicU64::new(0));
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let (field, mut chance) = (self.field.clone(), self.chance.fork());
        let (told, depth) = (Arc::clone(&empty), Arc::clone(&left));
        self.clients.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let depths = field.depths(chance.fork()).await;
                if let Some(depths) = &depths {
                    depth.store(depths.iter().copied().map(u64::from).sum(), Ordering::Relaxed);
                }
                if depths.is_some_and(|depths| depths.iter().all(|depth| *depth == 0)) {
                    told.fetch_add(1, Ordering::Relaxed);
                } else {
                    told.store(0, Ordering::Relaxed);
                }
            }
        });
        loop {
            let before = left.load(Ordering::Relaxed);
            let drained = self.until(DRAIN_MS, |world| {
                let now = world.trace.now_ms();
                now % 100 == 0
                    && empty.load(Ordering::Relaxed) >= 6
                    && (world.history.outstanding().is_empty() || empty.load(Ordering::Relaxed) >= LOOKS_MOST)
            });
            if drained || left.load(Ordering::Relaxed) >= before {
                return drained;
            }
        }
    }

    fn not_drained(&self) {
        let left: Vec<String> = self
            .history
            .outstanding()
            .iter()
            .map(|(queue, ids)| {
                format!(
                    "q{queue}: {} ({})",
                    ids.len(),
                    ids.first().map(ToString::to_string).unwrap_or_default()
                )
            })
            .collect();
        self.history.violation(format_args!(
            "stuck: queues do not become empty; confirmed and not consumed: {}",
            left.join(", ")
        ));
    }
}
