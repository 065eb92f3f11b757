//! What keeps a client from filling the node's memory: it is not read from while it takes no answers, or while all
//! connections together hold too much of what is not with its host yet ([`crate::incoming`]), or for a moment while it publishes
//! faster than consumers can take ([`crate::pace`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;
use warren_types::{AmqpError, PublishToken, ReplyCode, SessionPublish};

use super::{Done, OUT_MAX, Task, What};
use crate::incoming::{FREE_BYTES, KEPT_WHILE_BLOCKED, PROGRESS_BYTES, Turn};
use crate::registry::ConnectionEvent;

/// Events that may wait for a client that takes nothing, before it is not read from.
const EVENTS_MAX: usize = 1024;

/// What a connection has of the node's memory.
#[derive(Default)]
pub(super) struct Pressure {
    /// Bytes of answers among those that wait to be written: at most so many.
    answers: usize,
    /// As the node counts for it of messages on their way in.
    held: u64,
    turn: Option<Turn>,
    /// When an alarm stopped it last.
    pub(super) blocked_at: Option<Instant>,
}

impl Task {
    /// Whether the client takes too little of what it asked for. Deliveries have bounds of their own and do not count:
    /// a client may stop reading those and still acknowledge or publish.
    pub(super) fn takes_no_answers(&self) -> bool {
        self.ending.is_none()
            && self.out.len() >= OUT_MAX
            && (self.pressure.answers >= OUT_MAX || self.caller.mailbox.len() >= EVENTS_MAX)
    }

    /// Everything that was written since there were `before` bytes is an answer.
    pub(super) fn count_answers(&mut self, before: usize) {
        self.pressure.answers += self.out.len().saturating_sub(before);
    }

    /// Something went to the client.
    pub(super) fn count_written(&mut self) {
        self.pressure.answers = self.pressure.answers.min(self.out.len());
    }

    /// Counts what it holds of messages on their way in, and waits for its turn where that is too much.
    pub(super) fn count_incoming(&mut self) {
        let unfinished = self.machine.held_bytes();
        let waiting = self.outbox.iter().map(|(_, input)| input.message_bytes()).sum::<usize>();
        let routing = self.publisher.as_ref().map_or(0, |publisher| publisher.bytes());
        let now = unfinished + (waiting + routing) as u64;
        let incoming = self.caller.broker.incoming();
        if now != self.pressure.held {
            incoming.change(self.pressure.held, now);
            self.pressure.held = now;
        }
        if now < FREE_BYTES || !incoming.is_full() || self.is_blocked || self.ending.is_some() {
            self.pressure.turn = None;
        } else if unfinished >= FREE_BYTES && self.pressure.turn.is_none() && self.pending.is_none() {
            let (broker, mailbox) = (self.caller.broker.clone(), self.caller.mailbox.clone());
            self.wait_for(What::Turn, async move { Done::Turn(broker.incoming().turn(mailbox).await) });
        }
    }

    /// How long it is to wait after these publishes to queues in memory.
    pub(super) fn pause_after(&self, batch: &[(PublishToken, SessionPublish)]) -> Option<Duration> {
        let queues = batch.iter().flat_map(|(_, publish)| &publish.queues);
        self.caller.broker.hosts().paces().pause(queues)
    }

    pub(super) fn take_turn(&mut self, mut turn: Option<Turn>) {
        if let Some(turn) = &mut turn {
            turn.seen = self.machine.held_bytes();
        }
        self.pressure.turn = turn;
    }

    /// An alarm has just stopped it: if it keeps much, it is looked at again when it has been for long.
    pub(super) fn look_later_at_what_it_keeps(&self) {
        if self.machine.held_bytes() < FREE_BYTES {
            return;
        }
        let mailbox = Arc::clone(&self.caller.mailbox);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT_WHILE_BLOCKED).await;
            // One that is gone keeps nothing.
            let _gone = mailbox.push(ConnectionEvent::TurnSeen);
        });
    }

    /// It has had its turn for a while: what has it done with it? Or it is stopped for long: what does it keep?
    pub(super) fn look_at_turn(&mut self) {
        let now = self.machine.held_bytes();
        let stopped =
            self.is_blocked && self.pressure.blocked_at.is_some_and(|at| at.elapsed() >= KEPT_WHILE_BLOCKED);
        if stopped && now >= FREE_BYTES && self.caller.broker.alarms().cluster().memory {
            return self.close_for_room(now);
        }
        let Some(turn) = &mut self.pressure.turn else { return };
        let waits_for_others = self.pending.is_some() || !self.outbox.is_empty();
        if waits_for_others || now >= turn.seen.saturating_add(PROGRESS_BYTES) || now < turn.seen {
            turn.seen = now;
            return;
        }
        self.close_for_room(now);
    }

    fn close_for_room(&mut self, held: u64) {
        info!(connection = %self.name, held, "closed: it keeps unfinished messages while others wait for room");
        let text = "unfinished messages take room that others wait for";
        self.machine.close_connection(AmqpError::new(ReplyCode::ResourceError, text), &mut self.out);
        self.discard();
    }

    /// The connection is over and holds nothing.
    pub(super) fn forget_incoming(&mut self) {
        self.caller.broker.incoming().change(self.pressure.held, 0);
        self.pressure = Pressure::default();
    }
}
