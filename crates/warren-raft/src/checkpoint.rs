//! Checkpoints for all groups of the node at once, and the purge of the logs after them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use warren_store::StoreError;
use warren_types::LogIndex;

use crate::apply::progress::Progress;
use crate::blocking;
use crate::group::Group;
use crate::node::Shared;
use crate::status;

/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_millis(200);
/// Log that is kept at most for a follower that is alive and behind; further behind, it gets a snapshot.
const BEHIND_BYTES: u64 = 64 << 20;

/// Bodies that one checkpoint moves to the message store, of all groups together. They are in memory up to three times
/// while it is written; where more is to be moved another checkpoint follows at once.
const MOVE_BYTES: usize = 16 << 20;

/// Makes checkpoints until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut last_bytes = 0;
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        let bytes: u64 = shared.groups.all().iter().map(|group| group.log.appended_bytes()).sum();
        let due = bytes.saturating_sub(last_bytes) >= shared.options.checkpoint_bytes
            || last.elapsed() >= shared.options.checkpoint_interval;
        if !due {
            continue;
        }
        loop {
            match make(&shared).await {
                Ok(Moved::All) => break,
                Ok(Moved::Part) if shared.stop.is_cancelled() => return,
                Ok(Moved::Part) => {}
                Err(error) => {
                    if !shared.stop.is_cancelled() {
                        shared.fail(&format!("no checkpoint: {error}"));
                    }
                    return;
                }
            }
        }
        last_bytes = bytes;
        last = Instant::now();
    }
}

/// Whether a checkpoint moved everything that stood in the way of the purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    All,
    Part,
}

/// Makes one checkpoint of every group that has changed, and purges their logs.
///
/// # Errors
/// [`StoreError`]: the node must stop.
pub(crate) async fn make(shared: &Shared) -> Result<Moved, StoreError> {
    let _one_at_a_time = shared.checkpointing.lock().await;
    let started = Instant::now();
    let surplus = shared.store.log_surplus();
    let targets: Vec<(Arc<Group>, LogIndex)> = shared
        .groups
        .all()
        .into_iter()
        .map(|group| {
            let surplus = surplus.get(&group.id).copied().unwrap_or(LogIndex(0));
            let target = purge_target(shared, &group, surplus);
            (group, target)
        })
        .collect();
    let made = blocking(move || {
        let mut parts = Vec::new();
        let mut budget = MOVE_BYTES;
        let mut moved = Moved::All;
        let mut done: Vec<(Arc<Group>, Progress, LogIndex)> = Vec::new();
        for (group, target) in targets {
            match group.machine.checkpoint_part(target, &mut budget)? {
                Some((part, progress)) => {
                    if part.purge_up_to() < target.min(progress.index()) {
                        moved = Moved::Part;
                    }
                    let purge = target.min(part.purge_up_to()).min(progress.index());
                    parts.push(part);
                    done.push((group, progress, purge));
                }
                // Checkpointed before, when a follower still needed its log.
                None if target > group.log.purged_index() => {
                    let progress = group.machine.durable();
                    done.push((group, progress, target));
                }
                None => {}
            }
        }
        Ok((parts, done, moved))
    });
    let (parts, done, moved) = made.await.unwrap_or(Err(StoreError::ShutDown))?;
    // What a majority has is applied though this node's disk may not have it: a state must not outlive the bodies that it
    // speaks of.
    let (tell, written) = oneshot::channel();
    shared.store.when_written(Box::new(move |outcome| drop(tell.send(outcome))));
    written.await.unwrap_or(Err(StoreError::ShutDown))?;
    let store = shared.store.clone();
    blocking(move || store.checkpoint(parts)).await.unwrap_or(Err(StoreError::ShutDown))?;
    if done.is_empty() {
        return Ok(moved);
    }
    tracing::debug!(groups = done.len(), took = ?started.elapsed(), "checkpoint");
    for (group, progress, _) in &done {
        group.machine.set_durable(progress.clone());
    }
    let purges = done.iter().filter(|(_, _, purge)| purge.0 > 0).map(|(group, _, purge)| group.purge(*purge));
    futures_util::future::join_all(purges).await;
    Ok(moved)
}

/// Up to where a group's log goes: what neither a follower nor a queue needs; and `surplus`, from which bodies must be moved
/// because the node's log is too long.
fn purge_target(shared: &Shared, group: &Group, surplus: LogIndex) -> LogIndex {
    let unasked = unasked_by_followers(shared, group).min(group.machine.needless());
    unasked.max(surplus)
}

/// Up to where followers do not need the log.
fn unasked_by_followers(shared: &Shared, group: &Group) -> LogIndex {
    let Some(target) = group.log.index_before_last(shared.options.keep_log_bytes) else {
        return LogIndex(0);
    };
    let table = shared.peers.table();
    let behind = status::of(group)
        .replicas
        .into_iter()
        .filter(|replica| table.get(&replica.node).is_some_and(|peer| peer.is_connected()))
        .map(|replica| replica.matched)
        .min();
    match behind.filter(|behind| *behind < target) {
        Some(behind) => behind.max(group.log.index_before_last(BEHIND_BYTES).unwrap_or(LogIndex(0))),
        None => target,
    }
}
