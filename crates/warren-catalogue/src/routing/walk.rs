//! The walk over exchanges: bindings between exchanges and alternate exchanges, each exchange once.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use warren_types::{AmqpError, FieldTable};

use super::hash::{HashOn, stable_hash};
use super::history;
use super::{RouteInput, RouteSet, Router};
use crate::names::{exchange_resource, no_exchange, no_vhost, refuse};
use crate::state::Catalogue;
use crate::topology::{Target, Vhost};

impl Catalogue {
    /// Finds the queues that a message published to `exchange` goes to; what `out` held before is forgotten.
    ///
    /// Bindings between exchanges are followed, each exchange once, so that cycles end; an exchange that nothing
    /// matches at hands over to its alternate exchange. The default exchange finds queues by name.
    ///
    /// Cost: for `direct` a look-up, for `topic` about the number of words, for `headers` the number of its bindings.
    ///
    /// # Errors
    /// 404 for an exchange that does not exist, 530 for such a virtual host.
    pub fn route(
        &self,
        vhost: &str,
        exchange: &str,
        message: RouteInput<'_>,
        out: &mut RouteSet,
    ) -> Result<(), AmqpError> {
        out.clear();
        let vhost_state = self.vhosts.get(vhost).ok_or_else(|| no_vhost(vhost))?;
        let (name, _) =
            vhost_state.exchanges.get_key_value(exchange).ok_or_else(|| no_exchange(vhost, exchange))?;
        let mut walk = Walk {
            vhost: vhost_state,
            message,
            headers: OnceCell::new(),
            seen: BTreeSet::new(),
            next: Vec::new(),
            out,
        };
        walk.visit(name);
        while let Some(name) = walk.next.pop() {
            walk.visit(name);
        }
        out.finish();
        Ok(())
    }

    /// May clients publish to the exchange?
    ///
    /// # Errors
    /// 404 when it does not exist, 403 `cannot publish to internal exchange 'x' in vhost '/'`.
    pub fn check_publishable(&self, vhost: &str, exchange: &str) -> Result<(), AmqpError> {
        let record = self.exchange(vhost, exchange).ok_or_else(|| no_exchange(vhost, exchange))?;
        if record.internal {
            return Err(refuse(
                warren_types::ReplyCode::AccessRefused,
                format!("cannot publish to internal {}", exchange_resource(vhost, exchange)),
            ));
        }
        Ok(())
    }
}

struct Walk<'a, 'out> {
    vhost: &'a Vhost,
    message: RouteInput<'a>,
    headers: OnceCell<FieldTable>,
    /// The exchanges met so far, but for those that nothing leads to a second time.
    seen: BTreeSet<&'a str>,
    next: Vec<&'a Arc<str>>,
    out: &'out mut RouteSet,
}

impl<'a> Walk<'a, '_> {
    fn visit(&mut self, name: &'a Arc<str>) {
        if name.is_empty() {
            self.visit_default();
            return;
        }
        let Some(exchange) = self.vhost.exchanges.get(name) else { return };
        if !self.seen.insert(name) {
            return;
        }
        let (vhost, message) = (self.vhost, self.message);
        let mut matched = false;
        let (out, next) = (&mut *self.out, &mut self.next);
        let headers_of = || self.headers.get_or_init(|| (message.headers)().unwrap_or_default());
        let hash_of_keys = || stable_hash(message.routing_keys.iter().map(|key| key.as_bytes()));
        let is_local = |target: &Target| match target {
            Target::Queue(queue) => {
                vhost.bound_queue(*queue).is_some_and(|bound| (message.is_local)(bound.spec.host))
            }
            Target::Exchange(_) => false,
        };
        let mut varies = false;
        let mut found = |target: &'a Target| {
            matched = true;
            match target {
                Target::Queue(queue) => {
                    if let Some(bound) = vhost.bound_queue(*queue) {
                        out.push(bound.spec.host, *queue);
                    }
                }
                Target::Exchange(name) => next.push(name),
            }
        };
        match &exchange.router {
            Router::Direct(direct) => {
                message.routing_keys.iter().for_each(|key| direct.visit(key, &mut found));
            }
            Router::Fanout(fanout) => fanout.visit(&mut found),
            Router::Topic(topic) => {
                message.routing_keys.iter().for_each(|key| topic.visit(key, &mut found));
            }
            Router::Headers(headers) => {
                if !headers.is_empty() {
                    varies = true;
                    headers.visit(headers_of(), &mut found);
                }
            }
            Router::ConsistentHash(hash) => {
                let number = match &hash.on {
                    HashOn::RoutingKeys => hash_of_keys(),
                    HashOn::Header(name) => {
                        varies = true;
                        HashOn::of_header(headers_of().inner().get(name.as_str()))
                    }
                    HashOn::Property(property) => {
                        varies = true;
                        HashOn::of_property((message.property)(*property).as_deref())
                    }
                };
                hash.pick(number).into_iter().for_each(&mut found);
            }
            Router::ModulusHash(choice) => choice.pick(hash_of_keys()).into_iter().for_each(&mut found),
            Router::Random(choice) => {
                varies = true;
                choice.pick((message.random)()).into_iter().for_each(&mut found);
            }
            Router::LocalRandom(choice) => {
                varies = true;
                choice.pick_of((message.random)(), is_local).into_iter().for_each(&mut found);
            }
        }
        if let Some(history) = &exchange.history {
            varies = true;
            if history::keeps(headers_of()) {
                out.histories.push((history.host, history.id));
            }
        }
        self.out.varies |= varies;
        if !matched && let Some(alternate) = &exchange.alternate {
            self.next.push(alternate);
        }
    }

    // Every routing key is a queue's name.
    fn visit_default(&mut self) {
        for key in self.message.routing_keys {
            if let Some(queue) = self.vhost.queue(key) {
                self.out.push(queue.host, queue.id);
            }
        }
    }
}
