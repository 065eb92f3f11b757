//! The same short run each time, as part of all tests.
#![allow(clippy::panic, reason = "tests")]

use warren_fuzz::{TARGETS, input};

const SEED: u64 = 20_261_124;
const ROUNDS: u64 = 3_000;

#[test]
fn good_octets_hold() {
    for target in TARGETS {
        for octets in (target.seeds)() {
            (target.run)(&octets, &mut warren_fuzz::mutate::Chance::new(SEED));
        }
    }
}

#[test]
fn changed_octets_hold_in_a_short_fixed_run() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        for round in 0..ROUNDS {
            let (octets, mut chance) = input(target, &seeds, SEED, round);
            let ran =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (target.run)(&octets, &mut chance)));
            assert!(ran.is_ok(), "--target {} --seed {SEED} --round {round}: {octets:02x?}", target.name);
        }
    }
}

#[test]
fn the_same_seed_and_round_make_the_same_octets() {
    let Some(target) = TARGETS.first() else { panic!("no target") };
    let seeds = (target.seeds)();
    let made: Vec<Vec<u8>> = (0..50).map(|round| input(target, &seeds, 1, round).0).collect();
    let again: Vec<Vec<u8>> = (0..50).map(|round| input(target, &seeds, 1, round).0).collect();
    assert_eq!(made, again);
    assert_ne!(made.first(), made.get(1));
}
