//! Exchanges that choose one destination of all, whatever the binding keys: by a hash modulo their number
//! (`x-modulus-hash`), or at random (`x-random`, `x-local-random`).

use super::{Target, Targets};
use crate::topology::BindingKey;

#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    counted: Targets,
    /// Each destination once, in order.
    list: Vec<Target>,
}

impl Choice {
    pub(super) fn insert(&mut self, key: &BindingKey) {
        if self.counted.add(&key.target)
            && let Err(place) = self.list.binary_search(&key.target)
        {
            self.list.insert(place, key.target.clone());
        }
    }

    pub(super) fn remove(&mut self, key: &BindingKey) {
        if self.counted.remove(&key.target)
            && let Ok(place) = self.list.binary_search(&key.target)
        {
            self.list.remove(place);
        }
    }

    /// The destination that a number falls on.
    pub(super) fn pick(&self, number: u64) -> Option<&Target> {
        self.list.get(place(number, self.list.len())?)
    }

    /// As [`Self::pick`], of those that are wanted.
    pub(super) fn pick_of(&self, number: u64, wanted: impl Fn(&Target) -> bool) -> Option<&Target> {
        let wanted: Vec<&Target> = self.list.iter().filter(|target| wanted(target)).collect();
        wanted.get(place(number, wanted.len())?).copied()
    }
}

fn place(number: u64, count: usize) -> Option<usize> {
    let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
    usize::try_from(number % count).ok()
}
