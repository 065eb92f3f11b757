//! What the node's connections hold of messages that are not with their host yet: unfinished, uncommitted, or waiting for
//! room there. Together they may hold so much; beyond that a few go on at a time, and the others are not read from
//! until it is their turn. Nobody waits for ever for one that stands still: it loses its turn with its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::mailbox::Mailbox;
use crate::registry::ConnectionEvent;

/// Where the memory has no watermark to take a share of.
const LIMIT_DEFAULT: u64 = 1 << 30;
/// Share of the memory watermark that they may have: a quarter.
const SHARE: u64 = 4;
/// A connection that holds less goes on whatever the others have.
pub(crate) const FREE_BYTES: u64 = 1 << 20;
/// Connections that go on beyond the limit, at a time.
const TURNS: usize = 2;
/// A connection that an alarm has stopped may keep an unfinished message for so long: it cannot be told from one whose
/// client has gone, for it is not read from, and what it keeps may be what the alarm is about.
pub(crate) const KEPT_WHILE_BLOCKED: Duration = Duration::from_secs(30);
/// How often it is asked whether who has a turn uses it.
const LOOK: Duration = Duration::from_secs(10);
/// What must have come meanwhile, less does not use the turn.
pub(crate) const PROGRESS_BYTES: u64 = 1 << 20;

/// Bytes that all connections hold.
#[derive(Debug)]
pub(crate) struct Incoming {
    held: AtomicU64,
    limit: u64,
    turns: Arc<Semaphore>,
}

/// The right to go on although too much is held. Dropping it gives it to the next.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    _over: oneshot::Sender<()>,
    /// What the connection held when it was last looked at.
    pub(crate) seen: u64,
}

impl Incoming {
    /// `watermark`: of memory, in bytes; 0 where there is none.
    pub(crate) fn new(watermark: u64) -> Self {
        let limit = if watermark == 0 { LIMIT_DEFAULT } else { watermark / SHARE };
        Self { held: AtomicU64::new(0), limit, turns: Arc::new(Semaphore::new(TURNS)) }
    }

    /// A connection held `before` and holds `now`.
    pub(crate) fn change(&self, before: u64, now: u64) {
        if now >= before {
            self.held.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Whether only who has a turn may go on.
    pub(crate) fn is_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.limit
    }

    /// Waits for a turn. While it is held, the mailbox is asked now and then what was made of it
    /// ([`ConnectionEvent::TurnSeen`]). `None` when the node is stopping.
    pub(crate) async fn turn(&self, mailbox: Arc<Mailbox<ConnectionEvent>>) -> Option<Turn> {
        let place = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let (over, mut is_over) = oneshot::channel();
        tokio::spawn(async move {
            while tokio::time::timeout(LOOK, &mut is_over).await.is_err() {
                if !mailbox.push(ConnectionEvent::TurnSeen) {
                    break;
                }
            }
        });
        Some(Turn { _place: place, _over: over, seen: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_limit_two_have_a_turn_and_the_next_waits_until_one_gives_it_back() {
        let incoming = Incoming::new(4 * 100);
        incoming.change(0, 99);
        assert!(!incoming.is_full());
        incoming.change(99, 100);
        assert!(incoming.is_full());
        let mailbox = || Arc::new(Mailbox::new());
        let first = incoming.turn(mailbox()).await.unwrap();
        let _second = incoming.turn(mailbox()).await.unwrap();
        let third = incoming.turn(mailbox());
        tokio::pin!(third);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut third).await.is_err());
        drop(first);
        assert!(third.await.is_some());
        incoming.change(100, 0);
        assert!(!incoming.is_full());
    }
}
