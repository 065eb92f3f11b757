//! One virtual host's exchanges, queues and bindings, with every binding indexed from both its ends: removing
//! either end costs as much as it has bindings, not as much as there are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use warren_proto::catalogue::{ExchangeKind, ExchangeRecord, VhostLimits, VhostMetadata};
use warren_types::{AMQPValue, AmqpError, ExclusiveOwner, FieldTable, QueueId, QueueSpec, ReplyCode, table};

use crate::arguments::QUEUE_TYPE;
use crate::lookup::Lookup;
use crate::names::{is_hidden, refuse, remembers};
use crate::policy::Policies;
use crate::routing::Router;

/// Names an exchange to fall back on.
pub(crate) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Queue(QueueId),
    Exchange(Arc<str>),
}

/// What tells a binding from the others of its source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BindingKey {
    pub(crate) target: Target,
    pub(crate) routing_key: Arc<str>,
    /// Encoded, ordered by key.
    pub(crate) arguments: Arc<[u8]>,
}

impl BindingKey {
    pub(crate) fn new(target: Target, routing_key: &str, arguments: &FieldTable) -> Self {
        let mut encoded = Vec::new();
        if !arguments.inner().is_empty() {
            table::encode(arguments, &mut encoded);
        }
        Self { target, routing_key: Arc::from(routing_key), arguments: Arc::from(encoded) }
    }
}

/// A binding as its destination knows it.
pub(crate) type Incoming = (Arc<str>, BindingKey);

/// An exchange and the bindings at it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) record: ExchangeRecord,
    pub(crate) alternate: Option<Arc<str>>,
    /// The bindings it is the source of.
    pub(crate) outgoing: BTreeMap<BindingKey, FieldTable>,
    /// The bindings that lead to it.
    pub(crate) incoming: BTreeSet<Incoming>,
    /// The outgoing ones, as its type looks them up.
    pub(crate) router: Router,
    /// The queue that keeps what came last, where its type does that.
    pub(crate) history: Option<Arc<QueueSpec>>,
}

/// A queue and the bindings that lead to it.
#[derive(Clone, Debug)]
pub(crate) struct BoundQueue {
    pub(crate) spec: Arc<QueueSpec>,
    pub(crate) incoming: BTreeSet<Incoming>,
}

/// One virtual host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vhost {
    /// The catalogue's revision at the last change in here.
    pub(crate) topology_revision: u64,
    pub(crate) metadata: VhostMetadata,
    pub(crate) limits: VhostLimits,
    /// Queues that nobody has declared: behind reply consumers.
    hidden: usize,
    pub(crate) policies: Policies,
    pub(crate) exchanges: BTreeMap<Arc<str>, Exchange>,
    pub(crate) queue_ids: BTreeSet<QueueId>,
    /// Histories of exchanges that are gone, for `apply` to delete.
    pub(crate) orphans: Vec<QueueId>,
    /// Without histories, which have no name for anybody.
    by_name: Lookup<Arc<str>, Arc<QueueSpec>>,
    queues: Lookup<QueueId, BoundQueue>,
}

impl Vhost {
    pub(crate) fn queue(&self, name: &str) -> Option<&Arc<QueueSpec>> {
        self.by_name.get(name)
    }

    pub(crate) fn bound_queue(&self, queue: QueueId) -> Option<&BoundQueue> {
        self.queues.get(&queue)
    }

    /// Adds an exchange that is not there.
    pub(crate) fn insert_exchange(&mut self, record: ExchangeRecord) {
        let exchange = Exchange {
            alternate: alternate_of(&record, &self.policies),
            outgoing: BTreeMap::new(),
            incoming: BTreeSet::new(),
            router: Router::new(&record),
            history: None,
            record,
        };
        self.exchanges.insert(Arc::from(exchange.record.name.as_str()), exchange);
    }

    /// Lets the exchanges know that the policies are others.
    pub(crate) fn apply_policies(&mut self) {
        for exchange in self.exchanges.values_mut() {
            exchange.alternate = alternate_of(&exchange.record, &self.policies);
        }
    }

    /// How many queues there are that somebody has declared.
    pub(crate) fn declared_queues(&self) -> usize {
        self.queue_ids.len().saturating_sub(self.hidden)
    }

    /// A queue's arguments as they are stored: what is declared without a type gets the virtual host's default, if the
    /// queue is of the kind that every type can be; what is there has its type already.
    pub(crate) fn arguments_of<'a>(
        &self,
        name: &str,
        durable: bool,
        exclusive: Option<ExclusiveOwner>,
        auto_delete: bool,
        declared: &'a FieldTable,
    ) -> Cow<'a, FieldTable> {
        let default = self.metadata.default_queue_type.as_str();
        if default.is_empty() || declared.contains_key(QUEUE_TYPE) {
            return Cow::Borrowed(declared);
        }
        let default = match self.queue(name) {
            Some(existing) => match existing.arguments.inner().get(QUEUE_TYPE) {
                Some(existing) => existing.clone(),
                None => return Cow::Borrowed(declared),
            },
            None if default == "classic" || (durable && exclusive.is_none() && !auto_delete) => {
                AMQPValue::LongString(default.into())
            }
            None => AMQPValue::LongString("classic".into()),
        };
        let mut arguments = declared.clone();
        arguments.insert(QUEUE_TYPE.into(), default);
        Cow::Owned(arguments)
    }

    /// # Errors
    /// 406 `cannot declare queue 'q': queue limit in vhost '/' (10) is reached`.
    pub(crate) fn check_queue_limit(&self, vhost: &str, queue: &str) -> Result<(), AmqpError> {
        let count = u64::try_from(self.declared_queues()).unwrap_or(u64::MAX);
        match self.limits.max_queues {
            Some(limit) if count >= limit && !is_hidden(queue) => Err(refuse(
                ReplyCode::PreconditionFailed,
                format!(
                    "cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached"
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Adds a queue that is not there, or replaces what is known of it; its bindings stay.
    pub(crate) fn put_queue(&mut self, spec: Arc<QueueSpec>) {
        if self.queue_ids.insert(spec.id) && is_hidden(&spec.name) {
            self.hidden += 1;
        }
        match remembers(&spec.name).and_then(|exchange| self.exchanges.get_mut(exchange)) {
            Some(exchange) => exchange.history = Some(Arc::clone(&spec)),
            None => {
                self.by_name.insert(Arc::clone(&spec.name), Arc::clone(&spec));
            }
        }
        match self.queues.get_mut(&spec.id) {
            Some(bound) => bound.spec = spec,
            None => {
                self.queues.insert(spec.id, BoundQueue { spec, incoming: BTreeSet::new() });
            }
        }
    }

    /// Binds; false when the binding is there. Both ends must exist.
    ///
    /// # Errors
    /// 406 when the source's type does not take it; nothing has changed then.
    pub(crate) fn bind(
        &mut self,
        source: &str,
        key: BindingKey,
        arguments: FieldTable,
    ) -> Result<bool, AmqpError> {
        let Some(source_name) = self.exchanges.get_key_value(source).map(|(name, _)| Arc::clone(name)) else {
            return Ok(false);
        };
        let Some(exchange) = self.exchanges.get_mut(source) else { return Ok(false) };
        if exchange.outgoing.contains_key(&key) {
            return Ok(false);
        }
        exchange.router.insert(&key, &arguments)?;
        exchange.outgoing.insert(key.clone(), arguments);
        if let Some(incoming) = self.incoming_mut(&key.target) {
            incoming.insert((source_name, key));
        }
        Ok(true)
    }

    /// Unbinds; false when there is no such binding. An auto-delete source goes with its last one.
    pub(crate) fn unbind(&mut self, source: &str, key: &BindingKey) -> bool {
        let Some(exchange) = self.exchanges.get_mut(source) else { return false };
        if exchange.outgoing.remove(key).is_none() {
            return false;
        }
        exchange.router.remove(key);
        if let Some(incoming) = self.incoming_mut(&key.target) {
            incoming.remove(&(Arc::from(source), key.clone()));
        }
        self.collect_unused(BTreeSet::from([Arc::from(source)]));
        true
    }

    /// Removes a queue and its bindings, and the auto-delete exchanges that lose their last one.
    pub(crate) fn remove_queue(&mut self, queue: QueueId) -> Option<Arc<QueueSpec>> {
        let bound = self.queues.remove(&queue)?;
        if self.queue_ids.remove(&queue) && is_hidden(&bound.spec.name) {
            self.hidden = self.hidden.saturating_sub(1);
        }
        match remembers(&bound.spec.name).and_then(|exchange| self.exchanges.get_mut(exchange)) {
            Some(exchange) => exchange.history = None,
            None => {
                self.by_name.remove(&*bound.spec.name);
            }
        }
        let lost = self.detach(bound.incoming);
        self.collect_unused(lost);
        Some(bound.spec)
    }

    /// Removes an exchange and its bindings, and the auto-delete exchanges that lose their last one.
    pub(crate) fn remove_exchange(&mut self, name: &str) -> bool {
        let there = self.exchanges.contains_key(name);
        let lost = self.drop_exchange(name);
        self.collect_unused(lost);
        there
    }

    fn incoming_mut(&mut self, target: &Target) -> Option<&mut BTreeSet<Incoming>> {
        match target {
            Target::Queue(queue) => self.queues.get_mut(queue).map(|bound| &mut bound.incoming),
            Target::Exchange(name) => self.exchanges.get_mut(name).map(|exchange| &mut exchange.incoming),
        }
    }

    // Takes bindings, whose destination is gone, from their sources, which it returns.
    fn detach(&mut self, incoming: BTreeSet<Incoming>) -> BTreeSet<Arc<str>> {
        let mut sources = BTreeSet::new();
        for (source, key) in incoming {
            if let Some(exchange) = self.exchanges.get_mut(&source)
                && exchange.outgoing.remove(&key).is_some()
            {
                exchange.router.remove(&key);
                sources.insert(source);
            }
        }
        sources
    }

    // Removes an exchange with its bindings and history, and returns the sources that lost one by it.
    fn drop_exchange(&mut self, name: &str) -> BTreeSet<Arc<str>> {
        let Some((name, exchange)) = self.exchanges.remove_entry(name) else { return BTreeSet::new() };
        self.orphans.extend(exchange.history.map(|history| history.id));
        for key in exchange.outgoing.into_keys() {
            if let Some(incoming) = self.incoming_mut(&key.target) {
                incoming.remove(&(Arc::clone(&name), key));
            }
        }
        self.detach(exchange.incoming)
    }

    // Of exchanges that lost a binding, the auto-delete ones without any go, and so on from there.
    fn collect_unused(&mut self, mut lost: BTreeSet<Arc<str>>) {
        while let Some(name) = lost.pop_first() {
            let unused = self
                .exchanges
                .get(&name)
                .is_some_and(|exchange| exchange.record.auto_delete && exchange.outgoing.is_empty());
            if unused {
                lost.append(&mut self.drop_exchange(&name));
            }
        }
    }
}

// The argument wins over a policy.
fn alternate_of(exchange: &ExchangeRecord, policies: &Policies) -> Option<Arc<str>> {
    let by_policy = policies.of_exchange(&exchange.name).definition;
    let argument = exchange.arguments.inner().get(ALTERNATE_EXCHANGE);
    match argument.or_else(|| by_policy.inner().get(ALTERNATE_EXCHANGE)) {
        Some(AMQPValue::LongString(name)) => std::str::from_utf8(name.as_bytes()).ok().map(Arc::from),
        Some(_) | None => None,
    }
}

/// The exchanges that every virtual host begins with.
pub(crate) fn predeclared() -> impl Iterator<Item = ExchangeRecord> {
    [
        ("", ExchangeKind::Direct, false),
        ("amq.direct", ExchangeKind::Direct, false),
        ("amq.fanout", ExchangeKind::Fanout, false),
        ("amq.headers", ExchangeKind::Headers, false),
        ("amq.match", ExchangeKind::Headers, false),
        ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
        ("amq.topic", ExchangeKind::Topic, false),
    ]
    .into_iter()
    .map(|(name, kind, internal)| ExchangeRecord {
        name: name.to_owned(),
        kind,
        durable: true,
        auto_delete: false,
        internal,
        arguments: FieldTable::default(),
    })
}
