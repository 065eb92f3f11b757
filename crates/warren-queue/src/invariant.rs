//! What must always hold at a leader; checked after every flush in tests and, while it is cheap, in debug builds.

use std::collections::BTreeMap;

use crate::queue::{ConsumerKey, Queue};
use crate::{HostLeader, PositionSet};

/// Above so many entries a debug build no longer checks: a broker under load must stay usable.
#[cfg(debug_assertions)]
const SMALL: usize = 512;

impl HostLeader {
    /// Checks everything. Cost: by all that is held and loaded; for tests.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let mut cached = 0;
        for queue in self.queues.values() {
            check_queue(queue).map_err(|wrong| format!("queue {}: {wrong}", queue.id))?;
            cached += queue.loaded_bytes();
        }
        same("cached bytes", self.cache.used, cached)?;
        for (id, session) in &self.sessions.by_id {
            for (subscription, queue) in &session.subscriptions {
                let there = self
                    .queues
                    .get(queue)
                    .is_some_and(|queue| queue.consumers.contains((*id, *subscription)));
                if !there {
                    return Err(format!("session {id}: consumer {subscription} is not at queue {queue}"));
                }
            }
            if session.applied_seq > session.admitted_seq {
                return Err(format!("session {id}: applied beyond what was admitted"));
            }
        }
        Ok(())
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check_if_small(&self) {
        let entries: usize = self
            .queues
            .values()
            .map(|queue| 1 + queue.unacked.len() + queue.window.len() + queue.back.len())
            .sum();
        if entries <= SMALL {
            let checked = self.check();
            debug_assert!(checked.is_ok(), "{checked:?}");
        }
    }
}

fn check_queue(queue: &Queue) -> Result<(), String> {
    if queue.delivered_to > queue.loaded_to {
        return Err("delivered beyond what is accounted for".to_owned());
    }
    let mut last = queue.delivered_to;
    for ready in &queue.window {
        if ready.position <= last {
            return Err(format!("window: {} after {last}", ready.position));
        }
        last = ready.position;
    }
    if last > queue.loaded_to {
        return Err(format!("window up to {last}, accounted for up to {}", queue.loaded_to));
    }
    // Every position below the window is in one place.
    let mut places = PositionSet::new();
    let unacked = queue.unacked.ranges(|_| true);
    let back = queue.back.keys().map(|position| warren_types::PositionRange::one(*position));
    let ranges =
        unacked.into_iter().chain(queue.returned.ranges()).chain(queue.withheld.ranges()).chain(back);
    for range in ranges {
        if places.insert_range(range) != range.count() {
            return Err(format!("positions {range:?} are in two places"));
        }
        if range.last > queue.delivered_to {
            return Err(format!("{range:?} came back but was not delivered"));
        }
    }
    let accounted = places.count() + queue.window.len() as u64;
    if queue.loaded_to >= queue.tail() {
        same("live messages", queue.live, accounted)?;
    } else if accounted > queue.live {
        return Err(format!("{accounted} positions accounted for, {} live", queue.live));
    }
    let mut held: BTreeMap<ConsumerKey, u32> = BTreeMap::new();
    for (position, holder) in queue.unacked.iter() {
        if position > queue.mark {
            return Err(format!("{position} was delivered above the mark {}", queue.mark));
        }
        if let Some(subscription) = holder.subscription {
            *held.entry((holder.session, subscription)).or_default() += 1;
        }
    }
    for (key, consumer) in queue.consumers.iter() {
        same("a consumer's unacked", consumer.unacked, held.get(key).copied().unwrap_or_default())?;
        if !consumer.outbox.is_empty() {
            return Err("an outbox was not sent".to_owned());
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, counted: T, found: T) -> Result<(), String> {
    if counted == found { Ok(()) } else { Err(format!("{what}: counted {counted:?}, found {found:?}")) }
}
