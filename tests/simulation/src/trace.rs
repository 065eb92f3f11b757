//! What happened, as one running number: two runs of a seed must come to the same one.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Cheap to clone; all clones are the same trace and the same clock.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    now_ms: u64,
    hash: u64,
    events: u64,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { prints, hash: 0xcbf2_9ce4_8422_2325, ..Inner::default() })))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.0.lock().now_ms
    }

    pub(crate) fn set_now(&self, now_ms: u64) {
        self.0.lock().now_ms = now_ms;
    }

    /// Adds an event: a line where lines are wanted.
    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        let text = event.to_string();
        let mut inner = self.0.lock();
        let now = inner.now_ms;
        inner.mix(&now.to_le_bytes());
        inner.mix(text.as_bytes());
        if inner.prints {
            println!("{now:>8} {text}");
        }
    }

    /// Adds octets, without a line.
    pub(crate) fn octets(&self, place: u64, octets: &[u8]) {
        let mut inner = self.0.lock();
        let now = inner.now_ms;
        inner.mix(&now.to_le_bytes());
        inner.mix(&place.to_le_bytes());
        inner.mix(octets);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.lock().hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.0.lock().events
    }
}

impl Inner {
    /// FNV-1a, eight octets at a time.
    fn mix(&mut self, octets: &[u8]) {
        self.events += 1;
        for word in octets.chunks(8) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
            self.hash = (self.hash ^ u64::from_le_bytes(padded)).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
    }
}
