//! Octets that a peer, a client or a disk could hand in, made from good ones by chance, and what must hold of everything
//! that reads them: no panic, no more work or memory than the octets are worth, and what is understood means the same
//! when it is written and read again.
//!
//! Everything follows from a seed, so that a failure can be had again: it names target, seed and round.

pub mod amqp;
pub mod mutate;
pub mod records;

use mutate::Chance;

/// One decoder and what must hold of it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Good octets to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Feeds octets in and panics when something does not hold.
    pub run: fn(&[u8], &mut Chance),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "amqp", seeds: amqp::seeds, run: amqp::run },
    Target { name: "table", seeds: records::table_seeds, run: records::table },
    Target { name: "command", seeds: records::command_seeds, run: records::command },
    Target { name: "catalogue-snapshot", seeds: records::snapshot_seeds, run: records::snapshot },
    Target { name: "record", seeds: records::record_seeds, run: records::record },
    Target { name: "shard-log", seeds: records::log_seeds, run: records::log },
    Target { name: "home-frame", seeds: records::record_seeds, run: records::home_frame },
    Target { name: "leader-frame", seeds: records::record_seeds, run: records::leader_frame },
];

/// What one round feeds in: chosen and changed by chance, the same for the same seed and round.
#[must_use]
pub fn input(target: &Target, seeds: &[Vec<u8>], seed: u64, round: u64) -> (Vec<u8>, Chance) {
    let name = target.name.bytes().fold(0_u64, |sum, octet| sum.wrapping_mul(31) ^ u64::from(octet));
    let mut chance = Chance::new(seed ^ name.rotate_left(32) ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let octets = mutate::make(seeds, &mut chance);
    (octets, chance)
}
