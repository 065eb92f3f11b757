//! What must always hold at a leader; checked after every flush in tests and, while it is cheap, in debug builds.

use std::collections::BTreeMap;

use crate::lane::LaneId;
use crate::queue::{ConsumerKey, Lane, Queue};
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
            .map(|queue| {
                let loaded = |lane: &Lane| lane.window.len() + lane.back.len();
                1 + queue.unacked.len() + queue.lanes().map(loaded).sum::<usize>()
            })
            .sum();
        if entries <= SMALL {
            let checked = self.check();
            debug_assert!(checked.is_ok(), "{checked:?}");
        }
    }
}

fn check_lane(lane: &Lane) -> Result<(), String> {
    if lane.delivered_to > lane.loaded_to {
        return Err("delivered beyond what is accounted for".to_owned());
    }
    let mut last = lane.delivered_to;
    for ready in &lane.window {
        if ready.position <= last || LaneId::at(ready.position) != lane.id {
            return Err(format!("window: {} after {last}", ready.position));
        }
        last = ready.position;
    }
    if last > lane.loaded_to {
        return Err(format!("window up to {last}, accounted for up to {}", lane.loaded_to));
    }
    Ok(())
}

fn check_queue(queue: &Queue) -> Result<(), String> {
    // Every position below a window is in one place.
    let mut places = PositionSet::new();
    let mut insert = |range: warren_types::PositionRange| {
        let lane = queue.lanes().find(|lane| lane.id == LaneId::at(range.first));
        if lane.is_none_or(|lane| range.last > lane.delivered_to) {
            return Err(format!("{range:?} came back but was not delivered"));
        }
        if places.insert_range(range) == range.count() {
            Ok(())
        } else {
            Err(format!("positions {range:?} are in two places"))
        }
    };
    queue.unacked.ranges(|_| true).into_iter().try_for_each(&mut insert)?;
    queue.withheld.ranges().try_for_each(&mut insert)?;
    queue.resting.positions().map(warren_types::PositionRange::one).try_for_each(&mut insert)?;
    let (mut in_windows, mut all_loaded) = (0, true);
    for lane in queue.lanes() {
        check_lane(lane)?;
        let back = lane.back.keys().map(|position| warren_types::PositionRange::one(*position));
        lane.returned.ranges().chain(back).try_for_each(&mut insert)?;
        in_windows += lane.window.len() as u64;
        all_loaded &= lane.loaded_to >= lane.tail();
    }
    let accounted = places.count() + in_windows;
    if all_loaded {
        same("live messages", queue.live, accounted)?;
    } else if accounted > queue.live {
        return Err(format!("{accounted} positions accounted for, {} live", queue.live));
    }
    let mut held: BTreeMap<ConsumerKey, u32> = BTreeMap::new();
    for (position, holder) in queue.unacked.iter() {
        let lane = queue.lanes().find(|lane| lane.id == LaneId::at(position));
        if lane.is_none_or(|lane| position > lane.mark) {
            return Err(format!("{position} was delivered above the mark"));
        }
        if let Some(subscription) = holder.subscription {
            *held.entry((holder.session, subscription)).or_default() += 1;
        }
    }
    if queue.stream.is_some() {
        // Its readers hold what others hold too.
        return Ok(());
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
