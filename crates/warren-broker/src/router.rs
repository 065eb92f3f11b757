//! Spine 6: exchange and routing key become queues, by host. A cache in front of the catalogue's routing, dropped
//! whenever the catalogue changes.
//!
//! Before: `request::publish`. After: `session`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use warren_amqp::properties::Properties;
use warren_catalogue::routing::{HashedProperty, RouteInput, RouteSet};
use warren_catalogue::{Access, Catalogue, ExchangeKind, Resource, no_exchange};
use warren_types::{AmqpError, Message, QueueHost, QueueId, ReplyCode};

use crate::broker::random;

/// Routes kept per connection. A publisher that uses more keys than this is routed afresh.
const CACHE_MAX: usize = 4096;

/// Where a message goes: queues grouped by their host, also those that remember it for an exchange.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// The exchange is one of those that delay.
    pub(crate) delays: bool,
    /// No queue takes it, though an exchange may remember it.
    pub(crate) unroutable: bool,
    pub(crate) targets: Vec<(QueueHost, Vec<QueueId>)>,
}

/// One connection's routes, for its user and vhost.
pub(crate) struct Router {
    vhost: Arc<str>,
    user: Arc<str>,
    revision: u64,
    last: Option<(Bytes, Bytes, Arc<Route>)>,
    routes: HashMap<(Bytes, Bytes), Arc<Route>>,
    allowed: HashMap<Bytes, ()>,
    /// Whether this node serves the queues of a host.
    is_local: Box<dyn Fn(QueueHost) -> bool + Send + Sync>,
}

impl Router {
    pub(crate) fn new(
        vhost: Arc<str>,
        user: Arc<str>,
        is_local: impl Fn(QueueHost) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            vhost,
            user,
            revision: 0,
            last: None,
            routes: HashMap::new(),
            allowed: HashMap::new(),
            is_local: Box::new(is_local),
        }
    }

    /// Drops what was learnt from another revision of the catalogue; true when there was another.
    pub(crate) fn refresh(&mut self, revision: u64) -> bool {
        let changed = self.revision != revision;
        if changed {
            self.revision = revision;
            self.last = None;
            self.routes.clear();
            self.allowed.clear();
        }
        changed
    }

    /// The route, if it is known for this revision.
    pub(crate) fn cached(&mut self, message: &Message) -> Option<Arc<Route>> {
        let (exchange, key) = (message.exchange.bytes(), message.routing_key.bytes());
        if let Some((last_exchange, last_key, route)) = &self.last
            && last_exchange == exchange
            && last_key == key
        {
            return Some(Arc::clone(route));
        }
        // The key is a pair of shared slices: the look-up allocates nothing.
        let pair = (exchange.clone(), key.clone());
        let route = Arc::clone(self.routes.get(&pair)?);
        self.last = Some((pair.0, pair.1, Arc::clone(&route)));
        Some(route)
    }

    /// Checks that the user may publish to the exchange.
    ///
    /// # Errors
    /// 403 without write permission or for an internal exchange, 404 for an unknown exchange.
    pub(crate) fn allow(&mut self, catalogue: &Catalogue, message: &Message) -> Result<(), AmqpError> {
        let exchange = message.exchange.as_str();
        if self.allowed.contains_key(message.exchange.bytes()) {
            return Ok(());
        }
        catalogue.check_access(&self.user, &self.vhost, Access::Write, Resource::Exchange(exchange))?;
        let record =
            catalogue.exchange(&self.vhost, exchange).ok_or_else(|| no_exchange(&self.vhost, exchange))?;
        if record.internal {
            return Err(AmqpError::new(
                ReplyCode::AccessRefused,
                format!("cannot publish to internal exchange '{exchange}' in vhost '{}'", self.vhost),
            ));
        }
        self.allowed.insert(copied(message.exchange.bytes()), ());
        Ok(())
    }

    /// Asks the catalogue; `extra` are routing keys besides the message's own.
    ///
    /// # Errors
    /// As [`Self::allow`]; 403 for a topic that the user may not write to.
    pub(crate) fn resolve(
        &mut self,
        catalogue: &Catalogue,
        message: &Message,
        extra: &[String],
    ) -> Result<Arc<Route>, AmqpError> {
        self.allow(catalogue, message)?;
        let exchange = message.exchange.as_str();
        let mut set = RouteSet::default();
        let keys: Vec<&str> =
            std::iter::once(message.routing_key.as_str()).chain(extra.iter().map(String::as_str)).collect();
        for key in &keys {
            catalogue.check_topic_access(&self.user, &self.vhost, exchange, Access::Write, key)?;
        }
        let headers = || Properties::new(&message.properties).headers();
        let property = |property| hashed_property(message, property);
        let input = RouteInput {
            property: &property,
            random: &draw,
            is_local: &self.is_local,
            ..RouteInput::new(&keys, &headers)
        };
        catalogue.route(&self.vhost, exchange, input, &mut set)?;
        let kind = catalogue.exchange(&self.vhost, exchange).map(|record| record.kind);
        let mut route = Route {
            delays: kind == Some(ExchangeKind::DelayedMessage),
            unroutable: set.is_empty(),
            ..Route::default()
        };
        for (host, queue) in set.iter().chain(set.histories()) {
            match route.targets.iter_mut().find(|(known, _)| *known == host) {
                Some((_, queues)) => queues.push(queue),
                None => route.targets.push((host, vec![queue])),
            }
        }
        let route = Arc::new(route);
        if !set.varies() && extra.is_empty() {
            if self.routes.len() >= CACHE_MAX {
                self.routes.clear();
            }
            let pair = (copied(message.exchange.bytes()), copied(message.routing_key.bytes()));
            self.last = Some((pair.0.clone(), pair.1.clone(), Arc::clone(&route)));
            self.routes.insert(pair, Arc::clone(&route));
        }
        Ok(route)
    }
}

// A cached key must not hold the read buffer that it came in.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A number for exchanges that choose at random.
pub(crate) fn draw() -> u64 {
    // Where the system has none to give, all messages go one way: better than nowhere.
    random::<8>().map(u64::from_be_bytes).unwrap_or_default()
}

/// A property as `x-consistent-hash` hashes it.
pub(crate) fn hashed_property(message: &Message, property: HashedProperty) -> Option<Vec<u8>> {
    let properties = Properties::new(&message.properties);
    match property {
        HashedProperty::MessageId => properties.message_id().map(|text| text.as_bytes().to_vec()),
        HashedProperty::CorrelationId => properties.correlation_id().map(|text| text.as_bytes().to_vec()),
        HashedProperty::Timestamp => properties.timestamp().map(|number| number.to_be_bytes().to_vec()),
    }
}
