//! One number for a whole state, to compare replicas that have applied the same entry.

use super::apply::ShardState;

impl ShardState {
    /// Equal on replicas with equal state; different, but for chance, on others. Says nothing about where bodies are,
    /// which each replica decides for itself.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut mix = Mix(0x9e37_79b9_7f4a_7c15);
        mix.add(self.applied.0);
        mix.add(self.term.0);
        mix.add(self.queues.len() as u64);
        for (id, queue) in &self.queues {
            mix.add(id.0);
            mix.add(queue.meta.next);
            mix.add(queue.meta.mark);
            mix.add(u64::from(queue.meta.used));
            mix.add(queue.live);
            mix.add(queue.runs.len() as u64);
            for run in queue.runs.iter() {
                mix.add(run.first);
                mix.add(run.entry);
                mix.add(u64::from(run.ordinal()) << 32 | u64::from(run.count));
                mix.add(u64::from(run.live) << 32 | u64::from(run.bytes));
            }
            mix.add(queue.settled.ranges() as u64);
            for (first, last) in queue.settled.iter() {
                mix.add(first);
                mix.add(last);
            }
            mix.add(queue.counts.len() as u64);
            for (position, count) in &queue.counts {
                mix.add(*position);
                mix.add(u64::from(*count));
            }
        }
        mix.add(self.sessions.len() as u64);
        for (session, seq) in &self.sessions {
            mix.add(session.0);
            mix.add(*seq);
            for refused in self.refused_of(*session) {
                mix.add(refused);
            }
        }
        mix.0
    }
}

/// Mixes 64-bit words (the finishing steps of MurmurHash3 over a running sum). Not for secrets.
struct Mix(u64);

impl Mix {
    fn add(&mut self, word: u64) {
        let mut x = self.0.rotate_left(5).wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.0 = x ^ (x >> 33);
    }
}
