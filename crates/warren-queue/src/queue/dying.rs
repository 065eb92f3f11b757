//! Messages that have left the queue and are on their way to its dead-letter exchange. The store keeps them until their
//! copies are safe, so that a new leader finds them again and does the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use warren_types::{Message, Position, PositionRange, QueueId, QueueSettings};

use super::size_of;
use crate::{DeadLetter, DeathReason};

/// Most messages of one queue in the shell's hands.
const OUT_MESSAGES: usize = 256;
/// Their size; one message always may.
const OUT_BYTES: u64 = 4 << 20;

/// Most positions that wait to be read where they are kept until somebody takes them; then nothing more dies.
const KEPT: usize = 65_536;

/// Dead messages of one queue; each position is in one of the three.
#[derive(Debug, Default)]
pub(crate) struct Dying {
    /// Must be read first.
    unread: BTreeMap<Position, DeathReason>,
    /// To be handed to the shell in this flush.
    due: VecDeque<(Position, DeathReason, Message)>,
    /// In the shell's hands, with their sizes.
    out: BTreeMap<Position, u64>,
    bytes: u64,
}

impl Dying {
    /// No more may die for now: what is out must come back first.
    pub(crate) fn is_full(&self) -> bool {
        self.due.len() + self.out.len() >= OUT_MESSAGES || self.bytes >= OUT_BYTES
    }

    /// How many more may die for now; more where they may be left for later.
    pub(crate) fn room(&self, kept: bool) -> usize {
        let now = if self.is_full() { 0 } else { OUT_MESSAGES - self.due.len() - self.out.len() };
        if kept { now + KEPT.saturating_sub(self.unread.len()) } else { now }
    }

    /// All of them.
    pub(crate) fn len(&self) -> usize {
        self.unread.len() + self.due.len() + self.out.len()
    }

    /// A message that is in memory dies.
    pub(crate) fn add(&mut self, position: Position, reason: DeathReason, message: Message) {
        self.bytes = self.bytes.saturating_add(size_of(&message));
        self.due.push_back((position, reason, message));
    }

    /// A message dies whose body must be read first.
    pub(crate) fn add_unread(&mut self, position: Position, reason: DeathReason) {
        self.unread.insert(position, reason);
    }

    /// The messages to read next: the first that is unread, and those right behind it.
    pub(crate) fn read_wanted(&self) -> Option<PositionRange> {
        if self.is_full() {
            return None;
        }
        let mut positions = self.unread.keys();
        let first = *positions.next()?;
        let mut last = first;
        for position in positions.take(OUT_MESSAGES) {
            if *position != last.next() {
                break;
            }
            last = *position;
        }
        Some(PositionRange { first, last })
    }

    /// Takes a message that was read; `false` if it is not wanted here.
    pub(crate) fn read(&mut self, position: Position, message: &Message) -> bool {
        if self.is_full() {
            return self.unread.contains_key(&position);
        }
        let Some(reason) = self.unread.remove(&position) else { return false };
        self.add(position, reason, message.clone());
        true
    }

    /// What is unread in the range is not in the store any more.
    pub(crate) fn lose(&mut self, range: PositionRange) {
        while range.count() > 0
            && let Some((position, _)) = self.unread.range(range.first..=range.last).next()
        {
            let position = *position;
            self.unread.remove(&position);
        }
    }

    /// Hands out what is due.
    pub(crate) fn take_due(
        &mut self,
        queue: QueueId,
        settings: &Arc<QueueSettings>,
    ) -> impl Iterator<Item = Box<DeadLetter>> {
        let due = std::mem::take(&mut self.due);
        for (position, _, message) in &due {
            self.out.insert(*position, size_of(message));
        }
        let settings = Arc::clone(settings);
        due.into_iter().map(move |(position, reason, message)| {
            Box::new(DeadLetter { queue, position, reason, message, settings: Arc::clone(&settings) })
        })
    }

    /// The message's copies are safe; false if it is not one of these.
    pub(crate) fn done(&mut self, position: Position) -> bool {
        let Some(size) = self.out.remove(&position) else { return false };
        self.bytes = self.bytes.saturating_sub(size);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.due.is_empty() && self.out.is_empty()
    }

    /// All of them: the store must keep these.
    pub(crate) fn positions(&self) -> impl Iterator<Item = Position> {
        let due = self.due.iter().map(|(position, _, _)| *position);
        self.unread.keys().copied().chain(due).chain(self.out.keys().copied())
    }
}
