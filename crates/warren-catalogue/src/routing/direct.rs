//! `direct`: the binding key equals a routing key (0-9-1 §3.1.3.1).

use std::sync::Arc;

use super::{Target, Targets};
use crate::lookup::Lookup;
use crate::topology::BindingKey;

#[derive(Clone, Debug, Default)]
pub(crate) struct Direct(Lookup<Arc<str>, Targets>);

impl Direct {
    pub(super) fn insert(&mut self, key: &BindingKey) {
        self.0.or_default(Arc::clone(&key.routing_key)).add(&key.target);
    }

    pub(super) fn remove(&mut self, key: &BindingKey) {
        if let Some(targets) = self.0.get_mut(&key.routing_key) {
            targets.remove(&key.target);
            if targets.is_empty() {
                self.0.remove(&key.routing_key);
            }
        }
    }

    pub(super) fn visit<'a>(&'a self, routing_key: &str, found: &mut impl FnMut(&'a Target)) {
        if let Some(targets) = self.0.get(routing_key) {
            targets.visit(found);
        }
    }
}
