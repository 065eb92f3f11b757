//! What a client does next must find what it did before, also where a message of its went on to a dead-letter exchange: it
//! rejects a message and looks for it in the queue of the dead. RabbitMQ promises nothing there, but its queues are so
//! quick that clients count on it. Before a question about a queue the connection asks those queues that may have sent a
//! message of its on to tell when that is where it goes, and waits a little.

use std::sync::Arc;
use std::time::Duration;

use warren_amqp::Request;
use warren_catalogue::queue_settings;
use warren_proto::session::Ask;
use warren_types::{DeliveryRef, QueueHost, QueueId};

use crate::broker::Broker;
use crate::router::Route;

/// Routes and queues that are remembered from one question to the next.
const REMEMBERED_MAX: usize = 16;
/// How long a question waits for them: where messages die all the time, some are always on their way.
const PATIENCE: Duration = Duration::from_millis(250);

/// Where messages of this connection may have died since it last asked.
#[derive(Default)]
pub(crate) struct Wake {
    /// What it published to.
    routes: Vec<Arc<Route>>,
    /// Where it rejected something.
    queues: Vec<(QueueHost, QueueId)>,
}

impl Wake {
    pub(crate) fn published(&mut self, route: &Arc<Route>) {
        let known = |known: &Arc<Route>| Arc::ptr_eq(known, route);
        if !self.routes.last().is_some_and(known)
            && self.routes.len() < REMEMBERED_MAX
            && !self.routes.iter().any(known)
        {
            self.routes.push(Arc::clone(route));
        }
    }

    pub(super) fn rejected(&mut self, delivery: &DeliveryRef) {
        let queue = (delivery.host, delivery.queue);
        if self.queues.len() < REMEMBERED_MAX && !self.queues.contains(&queue) {
            self.queues.push(queue);
        }
    }

    /// The queues that send on what dies in them; forgets them.
    fn take(&mut self, broker: &Broker) -> Vec<(QueueHost, QueueId)> {
        let mut queues = std::mem::take(&mut self.queues);
        for route in self.routes.drain(..) {
            for (host, ids) in &route.targets {
                queues.extend(ids.iter().map(|id| (*host, *id)));
            }
        }
        if queues.is_empty() {
            return queues;
        }
        queues.sort_unstable();
        queues.dedup();
        let catalogue = broker.catalogue().read();
        queues.retain(|(_, id)| {
            let arguments = catalogue.queue_by_id(*id).map(|spec| catalogue.effective_arguments(spec));
            arguments.is_some_and(|arguments| queue_settings(&arguments).dead_letter_exchange.is_some())
        });
        queues.truncate(REMEMBERED_MAX);
        queues
    }

    /// What the request must wait for, if it is a question about what is in a queue.
    pub(super) fn before(
        &mut self,
        request: &Request,
        broker: &Arc<Broker>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let queues = match request {
            Request::Get(_) | Request::QueueDeclare(_) | Request::QueuePurge(_) | Request::QueueDelete(_) => {
                self.take(broker)
            }
            Request::ExchangeDeclare(_)
            | Request::ExchangeDelete(_)
            | Request::ExchangeBind(_)
            | Request::ExchangeUnbind(_)
            | Request::QueueBind(_)
            | Request::QueueUnbind(_)
            | Request::Consume(_)
            | Request::Cancel(_)
            | Request::Recover(_)
            | Request::TxCommit(_)
            | Request::UpdateSecret(_) => Vec::new(),
        };
        let broker = Arc::clone(broker);
        async move {
            if queues.is_empty() {
                return;
            }
            let told = queues.into_iter().map(|(host, queue)| {
                let session = broker.session(host);
                async move { session.ask(Ask::Info { queue, uses: false, after_deaths: true }).await }
            });
            // Whoever takes too long is not waited for: the answer says what is there.
            let _late = tokio::time::timeout(PATIENCE, futures_util::future::join_all(told)).await;
        }
    }
}
