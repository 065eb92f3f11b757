//! Chance that follows from the seed.

/// SplitMix64: a small generator, good enough to choose faults with.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x632b_e59b_d9b4_e019))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Another one, which what is drawn here later does not change.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// `from..to`; `from` if that is empty.
    pub(crate) fn within(&mut self, from: u64, to: u64) -> u64 {
        let width = to.saturating_sub(from);
        if width == 0 { from } else { from + self.next() % width }
    }

    pub(crate) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.within(0, count as u64)).unwrap_or_default()
    }

    /// One of these.
    pub(crate) fn of<T: Copy + Default, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices.get(self.index(N)).copied().unwrap_or_default()
    }

    /// True so many times in a thousand.
    pub(crate) fn permille(&mut self, times: u64) -> bool {
        self.within(0, 1000) < times
    }
}
