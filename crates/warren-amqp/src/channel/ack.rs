//! Acks, rejects and nacks become deliveries that are settled; recover gives everything back (0-9-1 §1.8.3.13 to
//! 1.8.3.16 and RabbitMQ's nack). Knows no queue.

use amq_protocol::protocol::{AMQPClass, basic};
use warren_types::{DeliveryRef, ReplyCode};

use super::ledger::AckScope;
use super::{Awaited, Channel, Context, Mode};
use crate::action::{Action, Settlement};
use crate::error::{Fault, MethodId};
use crate::frame;
use crate::request::{Recover, Request};

/// `basic.ack`, `basic.reject` or `basic.nack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settle {
    pub(crate) id: MethodId,
    pub(crate) scope: AckScope,
    pub(crate) outcome: Settlement,
}

impl Channel {
    /// Adds what is settled to `settled`, or keeps it for the commit.
    ///
    /// # Errors
    /// 406 for a tag that is not outstanding; nothing is settled then.
    pub(crate) fn on_settle(
        &mut self,
        settle: Settle,
        settled: &mut Vec<DeliveryRef>,
        context: &mut Context<'_>,
    ) -> Result<(), Fault> {
        let Settle { id, scope, outcome } = settle;
        if let Mode::Transactional(transaction) = &mut self.mode {
            let tags = self
                .ledger
                .settle_in_transaction(scope)
                .map_err(|cause| Fault::new(ReplyCode::PreconditionFailed, cause.to_string(), id))?;
            return transaction.settle(outcome, tags, id, context);
        }
        self.ledger
            .settle(scope, |source| settled.push(source))
            .map_err(|cause| Fault::new(ReplyCode::PreconditionFailed, cause.to_string(), id))?;
        self.deliver_waiting(context);
        Ok(())
    }

    /// `basic.recover` and, without an answer, `basic.recover-async`.
    pub(super) fn on_recover(&mut self, id: MethodId, requeue: bool, answer: bool) -> Result<Action, Fault> {
        if !requeue {
            return Err(Fault::new(ReplyCode::NotImplemented, "requeue=false", id));
        }
        let mut deliveries = Vec::new();
        // Cannot fail: no tag is named.
        self.ledger.settle(AckScope::AllOutstanding, |source| deliveries.push(source)).unwrap_or_default();
        Ok(self.ask(id, !answer, Awaited::Recovered, Request::Recover(Recover { deliveries })))
    }

    /// What was held has gone back: there is room for more.
    pub(super) fn recovered(&mut self, no_wait: bool, context: &mut Context<'_>) {
        if !no_wait {
            let ok = AMQPClass::Basic(basic::AMQPMethod::RecoverOk(basic::RecoverOk {}));
            frame::method(self.number, ok, context.out);
        }
        self.deliver_waiting(context);
    }
}
