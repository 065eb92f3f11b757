//! What always holds between the indexes. Checked by tests after generated logs; costs as much as there is.

use std::collections::BTreeSet;

use warren_types::{QueueHost, QueueId, QueueSpec};

use crate::state::Catalogue;
use crate::topology::{Target, Vhost};

impl Catalogue {
    /// Checks that every index agrees with every other.
    ///
    /// # Errors
    /// The first disagreement, in words: a bug, and the state is not to be trusted.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut queues: BTreeSet<QueueId> = BTreeSet::new();
        for (name, vhost) in &self.vhosts {
            vhost.check().map_err(|reason| format!("vhost '{name}': {reason}"))?;
            for queue in &vhost.queue_ids {
                let spec = self.hosting.get(*queue).ok_or_else(|| format!("queue {queue} has no host"))?;
                let known = vhost.bound_queue(*queue).is_some_and(|bound| bound.spec == *spec)
                    && (vhost.queue(&spec.name) == Some(spec) || vhost.has_history(spec));
                if !known || spec.vhost != *name || queue.0 > self.last_queue || !queues.insert(*queue) {
                    return Err(format!("queue {queue} is not the same everywhere"));
                }
            }
        }
        if queues.len() != self.hosting.len() {
            return Err("there are queues without a vhost".to_owned());
        }
        self.hosting.check()?;
        let least = self.shards.keys().map(|shard| self.hosting.count(QueueHost::Shard(*shard))).min();
        let taken = self.hosting.least_loaded().map(|shard| self.hosting.count(QueueHost::Shard(shard)));
        if least != taken {
            return Err("the shard that takes the next queue is not the one with the fewest".to_owned());
        }
        Ok(())
    }
}

impl Vhost {
    fn has_history(&self, spec: &QueueSpec) -> bool {
        self.exchanges.values().any(|exchange| exchange.history.as_deref() == Some(spec))
    }

    // Every binding is known at both its ends, and nothing else is.
    fn check(&self) -> Result<(), String> {
        let mut outgoing = 0;
        let mut incoming = 0;
        if !self.orphans.is_empty() {
            return Err("the histories of exchanges that are gone are still there".to_owned());
        }
        for (name, exchange) in &self.exchanges {
            if **name != *exchange.record.name {
                return Err(format!("exchange '{name}' is named '{}'", exchange.record.name));
            }
            outgoing += exchange.outgoing.len();
            incoming += exchange.incoming.len();
            for key in exchange.outgoing.keys() {
                let ends = match &key.target {
                    Target::Queue(queue) => self.bound_queue(*queue).map(|bound| &bound.incoming),
                    Target::Exchange(name) => self.exchanges.get(name).map(|exchange| &exchange.incoming),
                };
                if !ends.is_some_and(|incoming| incoming.contains(&(name.clone(), key.clone()))) {
                    return Err(format!("a binding of exchange '{name}' is not known at its other end"));
                }
            }
        }
        for queue in &self.queue_ids {
            incoming += self.bound_queue(*queue).map_or(0, |bound| bound.incoming.len());
        }
        // Each outgoing one is among the incoming: as many means the same.
        if outgoing != incoming {
            return Err(format!("{outgoing} bindings at their sources, {incoming} at their destinations"));
        }
        Ok(())
    }
}
