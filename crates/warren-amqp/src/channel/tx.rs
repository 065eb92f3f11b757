//! A transaction of a channel: publishes and settlements held back until commit (0-9-1 §1.9). Knows no queue.

use amq_protocol::protocol::{AMQPClass, tx};
use warren_types::ReplyCode;

use super::{Awaited, Channel, Context, Mode};
use crate::action::{Action, Settlement};
use crate::error::{Fault, MethodId};
use crate::frame;
use crate::request::{Request, TxCommit, TxPublish};

/// Bytes that a buffered publish or settlement is counted with besides its message, here and where its route is kept.
const ENTRY_BYTES: u64 = 256;

/// What is held back.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    publishes: Vec<TxPublish>,
    settlements: Vec<(Settlement, Vec<u64>)>,
    bytes: u64,
}

impl Transaction {
    /// How many publishes it has now.
    pub(super) fn publish(&mut self, publish: TxPublish, context: &mut Context<'_>) -> Result<u64, Fault> {
        self.charge(publish.message.size() as u64, MethodId::PUBLISH, context)?;
        self.publishes.push(publish);
        Ok(self.publishes.len() as u64)
    }

    pub(super) fn settle(
        &mut self,
        outcome: Settlement,
        tags: Vec<u64>,
        id: MethodId,
        context: &mut Context<'_>,
    ) -> Result<(), Fault> {
        self.charge(tags.len() as u64 * 8, id, context)?;
        match self.settlements.last_mut() {
            Some((last, known)) if *last == outcome => known.extend(tags),
            Some(_) | None => self.settlements.push((outcome, tags)),
        }
        Ok(())
    }

    /// Bytes that are held back.
    pub(super) fn held_bytes(&self) -> u64 {
        self.bytes
    }

    fn charge(&mut self, bytes: u64, id: MethodId, context: &mut Context<'_>) -> Result<(), Fault> {
        let before = self.bytes;
        self.bytes = before.saturating_add(bytes).saturating_add(ENTRY_BYTES);
        context.hold_back(before, self.bytes, id)
    }
}

impl Channel {
    pub(super) fn on_tx(
        &mut self,
        method: &tx::AMQPMethod,
        id: MethodId,
        context: &mut Context<'_>,
    ) -> Result<Option<Action>, Fault> {
        use tx::AMQPMethod as M;
        match method {
            M::Select(_) => {
                match self.mode {
                    Mode::Confirm(_) => {
                        let text = "cannot switch from confirm to tx mode";
                        return Err(Fault::new(ReplyCode::PreconditionFailed, text, id));
                    }
                    Mode::Plain => self.mode = Mode::Transactional(Transaction::default()),
                    Mode::Transactional(_) => {}
                }
                self.answer(AMQPClass::Tx(tx::AMQPMethod::SelectOk(tx::SelectOk {})), context);
                Ok(None)
            }
            M::Commit(_) => {
                let Transaction { publishes, settlements, bytes: _ } = self.take_transaction(id, context)?;
                let settlements = settlements
                    .into_iter()
                    .map(|(outcome, tags)| (outcome, self.ledger.sources(&tags)))
                    .collect();
                let request = Request::TxCommit(TxCommit { publishes, settlements });
                Ok(Some(self.ask(id, false, Awaited::Committed, request)))
            }
            M::Rollback(_) => {
                self.take_transaction(id, context)?;
                self.ledger.end_transaction(false);
                self.answer(AMQPClass::Tx(tx::AMQPMethod::RollbackOk(tx::RollbackOk {})), context);
                Ok(Some(Action::RolledBack { channel: self.number }))
            }
            M::SelectOk(_) | M::CommitOk(_) | M::RollbackOk(_) => Err(super::unimplemented_method(id)),
        }
    }

    fn take_transaction(&mut self, id: MethodId, context: &mut Context<'_>) -> Result<Transaction, Fault> {
        match &mut self.mode {
            Mode::Transactional(transaction) => {
                let taken = std::mem::take(transaction);
                context.hold_back(taken.bytes, 0, id)?;
                Ok(taken)
            }
            Mode::Plain | Mode::Confirm(_) => {
                Err(Fault::new(ReplyCode::PreconditionFailed, "channel is not transactional", id))
            }
        }
    }

    /// The commit is done: what was settled in it is gone, and makes room for deliveries.
    pub(super) fn committed(&mut self, context: &mut Context<'_>) {
        self.ledger.end_transaction(true);
        frame::method(self.number, AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {})), context.out);
        self.deliver_waiting(context);
    }
}
