//! Exchanges and queues: methods become requests, with the last declared queue put in where a name is left out. Knows
//! no catalogue.

use amq_protocol::protocol::{AMQPClass, exchange, queue};
use warren_types::ReplyCode;

use super::{Awaited, Channel, unimplemented_method};
use crate::action::Action;
use crate::error::{Fault, MethodId};
use crate::request::{
    Binding, ExchangeBinding, ExchangeDeclare, ExchangeDelete, QueueDeclare, QueueDelete, QueuePurge, Request,
};

/// RabbitMQ drops line ends from names where entities are declared, deleted and bound.
fn without_line_ends(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}

impl Channel {
    pub(super) fn on_exchange(
        &mut self,
        method: exchange::AMQPMethod,
        id: MethodId,
    ) -> Result<Action, Fault> {
        use exchange::AMQPMethod as M;
        let (no_wait, ok, request) = match method {
            M::Declare(declare) => (
                declare.nowait,
                M::DeclareOk(exchange::DeclareOk {}),
                Request::ExchangeDeclare(ExchangeDeclare {
                    name: without_line_ends(declare.exchange.as_str()),
                    kind: declare.kind.into(),
                    passive: declare.passive,
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: declare.arguments,
                }),
            ),
            M::Delete(delete) => (
                delete.nowait,
                M::DeleteOk(exchange::DeleteOk {}),
                Request::ExchangeDelete(ExchangeDelete {
                    name: without_line_ends(delete.exchange.as_str()),
                    if_unused: delete.if_unused,
                }),
            ),
            M::Bind(bind) => (
                bind.nowait,
                M::BindOk(exchange::BindOk {}),
                Request::ExchangeBind(ExchangeBinding {
                    destination: without_line_ends(bind.destination.as_str()),
                    source: without_line_ends(bind.source.as_str()),
                    routing_key: bind.routing_key.into(),
                    arguments: bind.arguments,
                }),
            ),
            M::Unbind(unbind) => (
                unbind.nowait,
                M::UnbindOk(exchange::UnbindOk {}),
                Request::ExchangeUnbind(ExchangeBinding {
                    destination: without_line_ends(unbind.destination.as_str()),
                    source: without_line_ends(unbind.source.as_str()),
                    routing_key: unbind.routing_key.into(),
                    arguments: unbind.arguments,
                }),
            ),
            M::DeclareOk(_) | M::DeleteOk(_) | M::BindOk(_) | M::UnbindOk(_) => {
                return Err(unimplemented_method(id));
            }
        };
        Ok(self.ask(id, no_wait, Awaited::Done(AMQPClass::Exchange(ok)), request))
    }

    pub(super) fn on_queue(&mut self, method: queue::AMQPMethod, id: MethodId) -> Result<Action, Fault> {
        use queue::AMQPMethod as M;
        let (no_wait, awaited, request) = match method {
            M::Declare(declare) => (
                declare.nowait,
                Awaited::QueueDeclared,
                Request::QueueDeclare(QueueDeclare {
                    name: without_line_ends(declare.queue.as_str()),
                    passive: declare.passive,
                    durable: declare.durable,
                    exclusive: declare.exclusive,
                    auto_delete: declare.auto_delete,
                    no_wait: declare.nowait,
                    arguments: declare.arguments,
                }),
            ),
            M::Bind(bind) => {
                let (queue, routing_key) =
                    self.bound_queue(bind.queue.as_str(), bind.routing_key.as_str(), id)?;
                let exchange = without_line_ends(bind.exchange.as_str());
                let binding = Binding { queue, exchange, routing_key, arguments: bind.arguments };
                let ok = AMQPClass::Queue(M::BindOk(queue::BindOk {}));
                (bind.nowait, Awaited::Done(ok), Request::QueueBind(binding))
            }
            M::Unbind(unbind) => {
                let (queue, routing_key) =
                    self.bound_queue(unbind.queue.as_str(), unbind.routing_key.as_str(), id)?;
                let exchange = without_line_ends(unbind.exchange.as_str());
                let binding = Binding { queue, exchange, routing_key, arguments: unbind.arguments };
                let ok = AMQPClass::Queue(M::UnbindOk(queue::UnbindOk {}));
                (false, Awaited::Done(ok), Request::QueueUnbind(binding))
            }
            M::Purge(purge) => {
                let queue = self.queue_or_last(purge.queue.as_str(), id)?;
                (purge.nowait, Awaited::Purged, Request::QueuePurge(QueuePurge { queue }))
            }
            M::Delete(delete) => {
                let queue = self.queue_or_last(&without_line_ends(delete.queue.as_str()), id)?;
                let (if_unused, if_empty) = (delete.if_unused, delete.if_empty);
                let request = Request::QueueDelete(QueueDelete { queue, if_unused, if_empty });
                (delete.nowait, Awaited::Deleted, request)
            }
            M::DeclareOk(_) | M::BindOk(_) | M::PurgeOk(_) | M::DeleteOk(_) | M::UnbindOk(_) => {
                return Err(unimplemented_method(id));
            }
        };
        Ok(self.ask(id, no_wait, awaited, request))
    }

    /// The queue of that name, or the last one declared on this channel when the name is empty.
    pub(super) fn queue_or_last(&self, name: &str, id: MethodId) -> Result<String, Fault> {
        if !name.is_empty() {
            return Ok(name.to_owned());
        }
        self.last_queue
            .clone()
            .ok_or_else(|| Fault::new(ReplyCode::NotFound, "no previously declared queue", id))
    }

    /// When both queue and key are left out, the last declared queue's name is the key, too.
    fn bound_queue(&self, name: &str, key: &str, id: MethodId) -> Result<(String, String), Fault> {
        let queue = self.queue_or_last(&without_line_ends(name), id)?;
        let key = if name.is_empty() && key.is_empty() { queue.clone() } else { key.to_owned() };
        Ok((queue, key))
    }
}
