//! What goes wrong, and when.

use warren_broker::admin::NodeChange;

use crate::chance::Chance;
use crate::machine::Death;
use crate::network::{CLIENTS, Host};

/// Something that goes wrong now.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Processes end and come back after so long.
    Death { hosts: Vec<Host>, death: Death, back_after_ms: u64 },
    /// The power goes in the middle of a write, within so many calls to the disk.
    Doom { host: Host, calls: u64, back_after_ms: u64 },
    /// A node is stopped in order and started again.
    Stop { host: Host, back_after_ms: u64 },
    /// A process stands still.
    Pause { host: Host, for_ms: u64 },
    /// Links are cut, each in the direction that is named.
    Cut { links: Vec<(Host, Host)>, for_ms: u64 },
    /// Links are slow.
    Slow { links: Vec<(Host, Host)>, delay_ms: u64, for_ms: u64 },
    /// Connections break.
    Reset { host: Host },
    /// An fsync takes up to so long.
    SlowDisk { host: Host, sync_ms: u64, for_ms: u64 },
    /// Fsyncs fail; the node ends, and comes back when the disk is well.
    BrokenDisk { host: Host, for_ms: u64 },
    /// No new file can be made; the same.
    FullDisk { host: Host, for_ms: u64 },
    /// A machine that was not in the cluster comes.
    Join,
    /// An operator changes what a node is there for.
    Duty { host: Host, change: NodeChange },
    /// A node loses its disk, and comes back with an empty one.
    Wipe { host: Host, back_after_ms: u64 },
    /// A node hands over whatever it leads; it may get it back.
    HandOver { host: Host },
    /// Nothing, for long enough that what clients sent is recorded.
    Calm { for_ms: u64 },
}

/// How much nodes come and go in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moves {
    None,
    Some,
    /// For long enough that replicas go and come back.
    Many,
}

impl Moves {
    /// In `restless` runs always many.
    pub(crate) fn draw(chance: &mut Chance, restless: bool) -> Self {
        match chance.permille(400) {
            _ if restless => Self::Many,
            true => Self::Some,
            false => Self::None,
        }
    }

    /// How often in comparison with other faults.
    fn weight(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Some => 4,
            Self::Many => 12,
        }
    }

    /// What such a run takes more than others.
    pub(crate) fn longer_ms(self) -> u64 {
        if self == Self::Many { 25_000 } else { 0 }
    }

    /// The longest pause between faults: replicas need time to move.
    fn pause_ms(self, chance: &mut Chance) -> u64 {
        if self == Self::Many { chance.of([3000, 5000, 7000]) } else { chance.of([300, 1500, 5000]) }
    }
}

/// Chooses faults. A run has its own taste: some kinds come often in it, others never.
pub(crate) struct Nemesis {
    chance: Chance,
    nodes: usize,
    taste: Vec<u64>,
    /// How long until the next fault, at most.
    pause_ms: u64,
}

const KINDS: usize = 13;
/// Nodes come and go.
const MOVES: usize = 10;

impl Nemesis {
    /// `nodes` are all machines.
    pub(crate) fn new(mut chance: Chance, nodes: usize, moves: Moves) -> Self {
        let mut taste: Vec<u64> = (0..KINDS).map(|_| chance.of([0, 1, 3])).collect();
        if let Some(calm) = taste.last_mut() {
            *calm = 1;
        }
        if let Some(weight) = taste.get_mut(MOVES) {
            *weight = moves.weight();
        }
        let pause_ms = moves.pause_ms(&mut chance);
        Self { chance, nodes, taste, pause_ms }
    }

    /// Until the next fault.
    pub(crate) fn pause(&mut self) -> u64 {
        self.chance.within(20, self.pause_ms)
    }

    fn host(&mut self) -> Host {
        1 + self.chance.index(self.nodes)
    }

    fn kind(&mut self) -> usize {
        let total: u64 = self.taste.iter().sum();
        let mut drawn = self.chance.within(0, total);
        for (kind, weight) in self.taste.iter().enumerate() {
            match drawn.checked_sub(*weight) {
                Some(rest) => drawn = rest,
                None => return kind,
            }
        }
        KINDS - 1
    }

    /// The next fault.
    pub(crate) fn next(&mut self) -> Fault {
        let host = self.host();
        let long = self.chance.within(100, 9000);
        match self.kind() {
            0 => Fault::Death { hosts: vec![host], death: Death::Process, back_after_ms: long / 2 },
            1 => Fault::Death { hosts: vec![host], death: Death::Power, back_after_ms: long / 2 },
            2 => {
                // Everything goes dark, or all but one.
                let spared = if self.chance.permille(500) { host } else { 0 };
                let hosts = (1..=self.nodes).filter(|other| *other != spared).collect();
                Fault::Death { hosts, death: Death::Power, back_after_ms: 200 + long / 4 }
            }
            3 => Fault::Doom { host, calls: self.chance.within(0, 6), back_after_ms: long / 2 },
            4 => Fault::Stop { host, back_after_ms: long / 4 },
            5 => Fault::Pause { host, for_ms: long },
            6 => Fault::Cut { links: self.links(host), for_ms: long + self.chance.within(0, 4000) },
            7 if self.chance.permille(500) => Fault::Reset { host },
            7 => Fault::Slow { links: self.links(host), delay_ms: self.chance.within(20, 900), for_ms: long },
            8 => Fault::SlowDisk { host, sync_ms: self.chance.within(50, 2500), for_ms: long },
            9 if self.chance.permille(500) => Fault::BrokenDisk { host, for_ms: long / 4 },
            9 => Fault::FullDisk { host, for_ms: long },
            MOVES => match self.chance.within(0, 8) {
                0..3 => Fault::Join,
                3 | 4 => Fault::Duty { host, change: NodeChange::Drain },
                5 => Fault::Duty { host, change: NodeChange::Undrain },
                6 => Fault::Duty { host, change: NodeChange::Replace },
                _ => Fault::Wipe { host, back_after_ms: long / 4 },
            },
            11 => Fault::HandOver { host },
            _ => Fault::Calm { for_ms: self.chance.within(3000, 9000) },
        }
    }

    /// Links around a machine: all of them or some, both ways or one.
    fn links(&mut self, host: Host) -> Vec<(Host, Host)> {
        let ways = self.chance.index(3);
        let clients_too = self.chance.permille(250);
        let only = self.chance.permille(400).then(|| self.host());
        let others = (1..=self.nodes).chain(clients_too.then_some(CLIENTS));
        let others =
            others.filter(|other| *other != host && only.is_none_or(|only| only == *other || only == host));
        others
            .flat_map(|other| match ways {
                0 => vec![(host, other)],
                1 => vec![(other, host)],
                _ => vec![(host, other), (other, host)],
            })
            .collect()
    }
}
