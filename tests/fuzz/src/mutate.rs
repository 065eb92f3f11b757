//! Chance from a seed, and good octets changed by it: bits, lengths, numbers at their limits, pieces moved, cut, repeated.

/// A row of numbers that follows from its seed (SplitMix64).
pub struct Chance(u64);

impl Chance {
    /// The row of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.draw() % limit).unwrap_or(0)
    }
}

/// Most octets of an input.
const MAX: usize = 64 * 1024;
/// Numbers at which decoders err.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0xce, 0x41, 0x46];

/// An input: a seed with some changes, or rarely nothing but chance.
pub fn make(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    if seeds.is_empty() || chance.below(50) == 0 {
        let length = chance.below(300);
        return (0..length).map(|_| chance.draw().to_le_bytes()[0]).collect();
    }
    let mut octets = seeds.get(chance.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=chance.below(6) {
        change(&mut octets, seeds, chance);
    }
    octets.truncate(MAX);
    octets
}

fn change(octets: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let length = octets.len();
    let at = chance.below(length);
    let until = at + chance.below((length - at).min(64) + 1);
    match chance.below(9) {
        0 => {
            if let Some(octet) = octets.get_mut(at) {
                *octet ^= 1 << chance.below(8);
            }
        }
        1 => {
            if let Some(octet) = octets.get_mut(at) {
                *octet = EDGES.get(chance.below(EDGES.len())).copied().unwrap_or(0);
            }
        }
        // A length or a number, wide, at its limits or nearly right.
        2 => {
            let width = 1 << chance.below(4);
            let edge =
                [0, u64::MAX, 1, u64::MAX >> 1, length as u64, (length as u64).wrapping_sub(at as u64)];
            let number = edge.get(chance.below(edge.len())).copied().unwrap_or(0).to_be_bytes();
            for (octet, new) in octets.iter_mut().skip(at).zip(number.iter().skip(8 - width)) {
                *octet = *new;
            }
        }
        3 => octets.truncate(at),
        4 => {
            octets.drain(at..until);
        }
        5 => {
            let piece: Vec<u8> = octets.get(at..until).unwrap_or_default().to_vec();
            for _ in 0..=chance.below(40) {
                octets.splice(at..at, piece.iter().copied());
                if octets.len() > MAX {
                    break;
                }
            }
        }
        6 => {
            let other = seeds.get(chance.below(seeds.len())).map(Vec::as_slice).unwrap_or_default();
            let from = chance.below(other.len());
            octets.splice(at..until, other.iter().skip(from).copied());
        }
        7 => {
            let other = chance.below(length);
            if at < length && other < length {
                octets.swap(at, other);
            }
        }
        _ => {
            let new = (0..=chance.below(8)).map(|_| chance.draw().to_le_bytes()[0]).collect::<Vec<_>>();
            octets.splice(at..at, new);
        }
    }
}
