//! A mailbox that never makes its sender wait.
//!
//! A leader must not wait for a slow home, nor a home for a slow connection: waiting both ways round deadlocks. So
//! these run without back-pressure of their own; what bounds them is what may be outstanding: deliveries by
//! each consumer's transit window, confirms by the publisher's window, answers by the questions asked.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Many senders, one receiver.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { items: VecDeque::new(), closed: false }), wake: Notify::new() }
    }

    /// Puts it in; false when the receiver is gone.
    pub(crate) fn push(&self, item: T) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        state.items.push_back(item);
        let first = state.items.len() == 1;
        drop(state);
        if first {
            self.wake.notify_one();
        }
        true
    }

    /// Moves up to `limit` items to `into`, waiting for the first. Returns how many; 0 only when closed and empty.
    /// Cancel safe.
    pub(crate) async fn recv_many(&self, into: &mut Vec<T>, limit: usize) -> usize {
        loop {
            {
                let mut state = self.state.lock();
                let count = state.items.len().min(limit);
                if count > 0 {
                    into.extend(state.items.drain(..count));
                    return count;
                }
                if state.closed {
                    return 0;
                }
            }
            self.wake.notified().await;
        }
    }

    /// As [`Self::recv_many`], without waiting.
    pub(crate) fn try_recv_many(&self, into: &mut Vec<T>, limit: usize) -> usize {
        let mut state = self.state.lock();
        let count = state.items.len().min(limit);
        into.extend(state.items.drain(..count));
        count
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// The sum over all that wait.
    pub(crate) fn sum(&self, of_one: impl Fn(&T) -> u64) -> u64 {
        self.state.lock().items.iter().map(of_one).sum()
    }

    /// Whether it takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Takes no more; the receiver gets what is there and then 0.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_mailbox_gives_what_it_held_and_then_ends() {
        let mailbox = Mailbox::new();
        assert!(mailbox.push(1));
        assert!(mailbox.push(2));
        mailbox.close();
        assert!(!mailbox.push(3));
        let mut got = Vec::new();
        assert_eq!(mailbox.recv_many(&mut got, 10).await, 2);
        assert_eq!(mailbox.recv_many(&mut got, 10).await, 0);
        assert_eq!(got, [1, 2]);
    }
}
