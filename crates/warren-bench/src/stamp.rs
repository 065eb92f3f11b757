//! What a message of the bench carries at the start of its body: which one it is and when it was sent.

/// A body of `bytes` bytes that a compressing disk or file system cannot make smaller than real payloads are.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut noise: u32 = 0x9E37_79B9;
    (0..bytes)
        .map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            (noise >> 24) as u8
        })
        .collect()
}

/// Bytes of a stamp: the smallest body.
pub(crate) const STAMP_BYTES: usize = 16;

/// Sequences of one producer that a stamp can hold, and that the books are kept for.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 32;

/// What the first bytes of a body say: which message this is and when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Tells this run's messages from others' that still lay in a queue.
    pub(crate) run: u8,
    /// Which producer.
    pub(crate) producer: u16,
    /// Its how-manieth message, from 0; below [`SEQUENCE_MAX`].
    pub(crate) sequence: u64,
    /// When it was sent, or at a fixed rate: when it should have been. Monotonic nanoseconds.
    pub(crate) sent_ns: u64,
}

impl Stamp {
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let origin =
            u64::from(self.run) << 56 | u64::from(self.producer) << 40 | self.sequence & ((1 << 40) - 1);
        (u128::from(origin) << 64 | u128::from(self.sent_ns)).to_be_bytes()
    }

    /// Reads the stamp at the start of a body; none when the body is too short to be one of ours.
    #[inline]
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let bytes = body.first_chunk::<STAMP_BYTES>()?;
        let both = u128::from_be_bytes(*bytes);
        let origin = (both >> 64) as u64;
        Some(Self {
            run: (origin >> 56) as u8,
            producer: (origin >> 40) as u16,
            sequence: origin & ((1 << 40) - 1),
            sent_ns: both as u64,
        })
    }
}
