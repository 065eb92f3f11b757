//! `fanout`: every binding (0-9-1 §3.1.3.2).

use super::{Target, Targets};
use crate::topology::BindingKey;

#[derive(Clone, Debug, Default)]
pub(crate) struct Fanout(Targets);

impl Fanout {
    pub(super) fn insert(&mut self, key: &BindingKey) {
        self.0.add(&key.target);
    }

    pub(super) fn remove(&mut self, key: &BindingKey) {
        self.0.remove(&key.target);
    }

    pub(super) fn visit<'a>(&'a self, found: &mut impl FnMut(&'a Target)) {
        self.0.visit(found);
    }
}
