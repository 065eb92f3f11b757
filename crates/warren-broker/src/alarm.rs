//! Resource alarms: a node that is low on disk or memory stops publishers in the whole cluster, as RabbitMQ does, before
//! anything is full. Consumers go on, which is how it ends. Nodes tell each other with their beats.
//!
//! A connection is stopped lazily: once it publishes while an alarm is on (`connection/mod.rs`). It is not read from
//! then, and told with `connection.blocked` if it can understand that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use warren_raft::blocking;
use warren_rpc::{PeerState, Peers};
use warren_store::Store;

use crate::broker::Broker;
use crate::config::{BrokerConfig, MemoryWatermark};
use crate::registry::ConnectionEvent;

/// How often disk and memory are looked at, at least; more often when the disk could be below its limit sooner.
const LOOK: Duration = Duration::from_millis(200);
/// And at most.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// How fast a disk is taken to fill at worst: bytes in a millisecond.
const FILLS_BYTES_PER_MS: u64 = 2_000_000;
/// Memory is given back in steps and late: the alarm ends below this share of its watermark, in percent.
const MEMORY_CLEAR_PERCENT: u64 = 95;
/// The disk alarm ends with so much more room than it began with, as a share of the limit: one fifth.
const DISK_CLEAR_SHARE: u64 = 5;
/// With less room than this a node does not even start: it waits. Far below the limit, for consumers need it.
const START_BYTES: u64 = 5_000_000;
/// While the disk alarm is on, how many looks pass between two attempts to make room.
const RELIEVE_LOOKS: u32 = 25;

/// Which resources are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmSet {
    /// Memory is above its watermark.
    pub memory: bool,
    /// Free disk is below its limit.
    pub disk: bool,
}

impl AlarmSet {
    const MEMORY: u8 = 1;
    const DISK: u8 = 2;

    fn bits(self) -> u8 {
        (if self.memory { Self::MEMORY } else { 0 }) | (if self.disk { Self::DISK } else { 0 })
    }

    fn of_bits(bits: u8) -> Self {
        Self { memory: bits & Self::MEMORY != 0, disk: bits & Self::DISK != 0 }
    }

    /// What a peer tells with its beats; what this version does not know is passed over.
    fn told(alarms: u32) -> Self {
        let [bits, ..] = alarms.to_le_bytes();
        Self::of_bits(bits)
    }

    fn with(self, other: Self) -> Self {
        Self::of_bits(self.bits() | other.bits())
    }

    /// What a client is told; `None` when nothing is short.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (false, false) => None,
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (true, true) => Some("low on memory & disk"),
        }
    }
}

/// What this node measured last, for listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Memory in use at which the alarm goes on, in bytes.
    pub memory_limit: u64,
    /// Free bytes on the disk of the data directory.
    pub disk_free: u64,
    /// Free bytes below which the alarm goes on.
    pub disk_limit: u64,
}

/// The alarms of this node and of its cluster.
#[derive(Debug)]
pub(crate) struct Alarms {
    own: AtomicU8,
    cluster: AtomicU8,
    disk_free: AtomicU64,
    memory_limit: u64,
    disk_limit: u64,
}

impl Alarms {
    pub(crate) fn new(config: &BrokerConfig) -> Self {
        let memory_limit = match config.memory_high_watermark {
            MemoryWatermark::Bytes(bytes) => bytes,
            MemoryWatermark::Percent(percent) => {
                let total = memory_total(&read("/proc/meminfo"), &read("/sys/fs/cgroup/memory.max"));
                total / 100 * u64::from(percent) + total % 100 * u64::from(percent) / 100
            }
        };
        Self {
            own: AtomicU8::new(0),
            cluster: AtomicU8::new(0),
            disk_free: AtomicU64::new(0),
            memory_limit,
            disk_limit: config.disk_free_limit_bytes,
        }
    }

    /// This node's.
    pub(crate) fn own(&self) -> AlarmSet {
        AlarmSet::of_bits(self.own.load(Ordering::Relaxed))
    }

    /// Those of every node that is not known to be gone.
    pub(crate) fn cluster(&self) -> AlarmSet {
        AlarmSet::of_bits(self.cluster.load(Ordering::Acquire))
    }

    pub(crate) fn resources(&self) -> Resources {
        Resources {
            memory_limit: self.memory_limit,
            disk_free: self.disk_free.load(Ordering::Relaxed),
            disk_limit: self.disk_limit,
        }
    }

    /// What is short, given what was short before.
    fn judge(&self, before: AlarmSet, memory_used: u64, disk: Option<DiskRoom>) -> AlarmSet {
        let high =
            if before.memory { self.memory_limit / 100 * MEMORY_CLEAR_PERCENT } else { self.memory_limit };
        AlarmSet {
            memory: self.memory_limit != 0 && memory_used > high,
            // What cannot be measured stays as it was.
            disk: disk.map_or(before.disk, |disk| {
                let more = if before.disk { self.disk_limit / DISK_CLEAR_SHARE } else { 0 };
                disk.is_short(self.disk_limit, more)
            }),
        }
    }
}

/// Free bytes, and those of them that the store will need whatever happens.
#[derive(Clone, Copy, Debug)]
struct DiskRoom {
    free: u64,
    spoken_for: u64,
}

impl DiskRoom {
    fn is_short(self, limit: u64, more: u64) -> bool {
        limit != 0 && self.free < limit.saturating_add(more).saturating_add(self.spoken_for)
    }

    /// When to look again, so that a disk that fills fast is not full before that.
    fn next_look(self, limit: u64) -> Duration {
        let left = self.free.saturating_sub(limit.saturating_add(self.spoken_for));
        if limit == 0 || left == 0 {
            return LOOK;
        }
        Duration::from_millis(left / FILLS_BYTES_PER_MS).clamp(LOOK_SOON, LOOK)
    }
}

/// Measures this node's resources until it stops.
pub(crate) async fn measure(broker: Arc<Broker>, store: Store, running: CancellationToken) {
    let (mut looks, mut wait) = (0_u32, LOOK);
    loop {
        tokio::select! {
            () = running.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
        let alarms = broker.alarms();
        let before = alarms.own();
        looks = if before.disk { looks.wrapping_add(1) } else { 0 };
        if looks % RELIEVE_LOOKS == 1 {
            relieve(&broker, &store).await;
        }
        let (directory, asked) = (broker.config().data_dir.clone(), store.clone());
        // A sick disk may take its time: nobody waits for this but the next look.
        let looked = blocking(move || (room(&asked, &directory), resident_bytes(&read("/proc/self/status"))));
        let looked = looked.await;
        let (disk, memory_used) = looked.unwrap_or((None, 0));
        if let Some(disk) = disk {
            alarms.disk_free.store(disk.free, Ordering::Relaxed);
        }
        let now = alarms.judge(before, memory_used, disk);
        wait = disk.filter(|_| !now.disk).map_or(LOOK, |disk| disk.next_look(alarms.disk_limit));
        if now != before {
            alarms.own.store(now.bits(), Ordering::Relaxed);
            tell_log(before, now, memory_used, alarms.resources());
            broker.peers().set_alarms(now.bits().into());
            refresh(&broker);
        }
    }
}

/// Passes on what the other nodes tell, until this one stops.
pub(crate) async fn follow_peers(broker: Arc<Broker>, running: CancellationToken) {
    let mut peers = broker.peers().liveness();
    loop {
        tokio::select! {
            () = running.cancelled() => break,
            changed = peers.changed() => if changed.is_err() { break },
        }
        peers.mark_unchanged();
        refresh(&broker);
    }
}

/// The alarms that a peer has told; none of one whose process is gone.
pub(crate) fn of_peer(peers: &Peers, node: warren_types::NodeId) -> AlarmSet {
    let table = peers.table();
    let peer = table.get(&node).filter(|peer| peer.state != PeerState::Dead);
    peer.map(|peer| AlarmSet::told(peer.alarms)).unwrap_or_default()
}

/// Works out the cluster's alarms, and lets connections go on when the last is over.
fn refresh(broker: &Broker) {
    let alarms = broker.alarms();
    let table = broker.peers().table();
    let of_others = table
        .values()
        .filter(|peer| peer.state != PeerState::Dead)
        .map(|peer| AlarmSet::told(peer.alarms))
        .fold(AlarmSet::default(), AlarmSet::with);
    let now = alarms.own().with(of_others);
    let before = AlarmSet::of_bits(alarms.cluster.swap(now.bits(), Ordering::AcqRel));
    if now == before {
        return;
    }
    match now.reason() {
        Some(reason) => warn!("publishers are blocked: the cluster is {reason}"),
        None => {
            info!("publishers go on: no alarm is left");
            for connection in broker.connections().all() {
                // One that is gone needs no word.
                let _gone = connection.mailbox.push(ConnectionEvent::AlarmsOver);
            }
        }
    }
}

/// Gives the disk back what can be given. First the logs are purged: what is flushed while it is still needed would be
/// on the disk twice, which is what there is no room for.
async fn relieve(broker: &Broker, store: &Store) {
    broker.raft().checkpoint().await;
    let store = store.clone();
    match blocking(move || store.relieve()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "no room made on the disk"),
        Err(error) => debug!(%error, "no room made on the disk"),
    }
}

/// Waits until a node that is about to start has some room: without, it would only fail.
pub(crate) async fn wait_for_room(config: &BrokerConfig) {
    let wanted = START_BYTES.min(config.disk_free_limit_bytes);
    let mut told = false;
    loop {
        // The directory itself may have to be made first.
        let place = config.data_dir.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
        let free = rustix::fs::statvfs(place).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
        match free {
            Ok(free) if free < wanted => {
                if !std::mem::replace(&mut told, true) {
                    warn!(free, wanted, "the disk is full: this node starts when there is room");
                }
            }
            Ok(_) | Err(_) => return,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn room(store: &Store, directory: &Path) -> Option<DiskRoom> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let spoken_for = store.spoken_for_bytes().ok()?;
    Some(DiskRoom { free: found.f_bavail.saturating_mul(found.f_frsize), spoken_for })
}

fn tell_log(before: AlarmSet, now: AlarmSet, used: u64, resources: Resources) {
    let Resources { memory_limit, disk_free, disk_limit } = resources;
    match (before.disk, now.disk) {
        (false, true) => {
            warn!(disk_free, disk_limit, "disk alarm: publishers are stopped until there is room")
        }
        (true, false) => info!(disk_free, disk_limit, "disk alarm is over"),
        (false, false) | (true, true) => {}
    }
    match (before.memory, now.memory) {
        (false, true) => warn!(used, memory_limit, "memory alarm: publishers are stopped until it is over"),
        (true, false) => info!(used, memory_limit, "memory alarm is over"),
        (false, false) | (true, true) => {}
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn resident_bytes(status: &str) -> u64 {
    kibibytes(status, "VmRSS:").unwrap_or(0)
}

/// The machine's memory, or the control group's if that is less; 0 when neither can be read.
fn memory_total(meminfo: &str, cgroup: &str) -> u64 {
    let machine = kibibytes(meminfo, "MemTotal:").unwrap_or(0);
    // cgroup v2 says "max" where nothing limits.
    cgroup
        .trim()
        .parse::<u64>()
        .map_or(machine, |limit| if machine == 0 { limit } else { limit.min(machine) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn alarms(memory_limit: u64, disk_limit: u64) -> Alarms {
        Alarms {
            own: AtomicU8::new(0),
            cluster: AtomicU8::new(0),
            disk_free: AtomicU64::new(0),
            memory_limit,
            disk_limit,
        }
    }

    #[test]
    fn alarms_survive_their_way_to_a_peer_and_unknown_ones_do_no_harm() {
        for bits in 0..4 {
            let set = AlarmSet::of_bits(bits);
            assert_eq!(AlarmSet::told(set.bits().into()), set);
            assert_eq!(AlarmSet::told(u32::from(bits) | 0xffff_fff0), set);
        }
    }

    #[test]
    fn a_disk_that_could_soon_be_short_is_looked_at_more_often() {
        let next = |free, limit| DiskRoom { free, spoken_for: 30 * MB }.next_look(limit);
        assert_eq!(next(100_000 * MB, 50 * MB), LOOK);
        assert_eq!(next(280 * MB, 50 * MB), Duration::from_millis(100));
        assert_eq!(next(90 * MB, 50 * MB), LOOK_SOON);
        // Short already, or never.
        assert_eq!((next(60 * MB, 50 * MB), next(90 * MB, 0)), (LOOK, LOOK));
    }

    #[test]
    fn clients_are_told_rabbitmqs_words() {
        let words: Vec<_> = (0..4).map(|bits| AlarmSet::of_bits(bits).reason()).collect();
        assert_eq!(words, [None, Some("low on memory"), Some("low on disk"), Some("low on memory & disk")]);
    }

    #[test]
    fn the_disk_is_short_before_what_is_in_memory_would_fill_it() {
        let short = |free: u64, spoken_for: u64| DiskRoom { free: free * MB, spoken_for: spoken_for * MB };
        assert!(!short(51, 0).is_short(50 * MB, 0));
        assert!(short(49, 0).is_short(50 * MB, 0));
        assert!(short(100, 60).is_short(50 * MB, 0));
        assert!(!short(0, 0).is_short(0, 0), "0 turns it off");
    }

    #[test]
    fn the_disk_alarm_ends_when_there_is_a_fifth_more_room() {
        let alarms = alarms(0, 50 * MB);
        let room = |free: u64| Some(DiskRoom { free: free * MB, spoken_for: 0 });
        let calm = AlarmSet::default();
        let short = alarms.judge(calm, 0, room(49));
        assert!(
            short.disk && alarms.judge(short, 0, room(59)).disk && !alarms.judge(short, 0, room(60)).disk
        );
        assert!(!alarms.judge(calm, 0, room(50)).disk);
    }

    #[test]
    fn the_memory_alarm_ends_a_little_below_its_watermark() {
        let alarms = alarms(1000, 0);
        let calm = AlarmSet::default();
        let high = alarms.judge(calm, 1001, None);
        assert!(high.memory && !alarms.judge(calm, 1000, None).memory);
        assert!(alarms.judge(high, 960, None).memory && !alarms.judge(high, 950, None).memory);
    }

    #[test]
    fn what_cannot_be_measured_stays_as_it_was() {
        let alarms = alarms(0, MB);
        let short = AlarmSet { memory: false, disk: true };
        assert_eq!(alarms.judge(short, u64::MAX, None), short);
    }

    #[test]
    fn the_smaller_of_machine_and_control_group_counts() {
        let machine = "MemTotal:       1000 kB\n";
        assert_eq!(memory_total(machine, "max\n"), 1_024_000);
        assert_eq!(memory_total(machine, "5000\n"), 5000);
        assert_eq!(memory_total(machine, "99999999999\n"), 1_024_000);
        assert_eq!((memory_total("", "7"), memory_total("", "")), (7, 0));
    }
}
