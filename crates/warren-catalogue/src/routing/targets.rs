//! Destinations that are reached in the same way, counted: bindings that differ only in their arguments lead to one.

use std::collections::BTreeMap;

use crate::topology::Target;

#[derive(Clone, Debug, Default)]
pub(super) struct Targets(BTreeMap<Target, u32>);

impl Targets {
    /// True when it was not there.
    pub(super) fn add(&mut self, target: &Target) -> bool {
        match self.0.get_mut(target) {
            Some(count) => {
                *count += 1;
                false
            }
            None => self.0.insert(target.clone(), 1).is_none(),
        }
    }

    /// True when it is gone now.
    pub(super) fn remove(&mut self, target: &Target) -> bool {
        let Some(count) = self.0.get_mut(target) else { return false };
        *count -= 1;
        *count == 0 && self.0.remove(target).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn visit<'a>(&'a self, found: &mut impl FnMut(&'a Target)) {
        self.0.keys().for_each(found);
    }
}
