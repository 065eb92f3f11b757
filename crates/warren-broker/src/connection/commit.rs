//! `tx.commit` (0-9-1 §1.9.2.3): what was published, and routed then, is sent like any publish; when every host has it, what
//! was acknowledged is settled and the client gets commit-ok. All-or-nothing per host, as in RabbitMQ per queue.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use warren_amqp::{Publish, Reply, Settlement, TxCommit, TxPublish};
use warren_types::{AmqpError, ChannelNumber, DeliveryRef, Message, PublishToken, ReplyCode, SessionPublish};

use super::{Done, Task, What};
use crate::delay::take_delay;
use crate::request::publish::{HostBatch, View, is_miss};
use crate::request::{Performed, Remember};
use crate::router::Route;
use crate::session::SessionInput;

/// Marks the confirm number of a publish that belongs to a commit.
pub(super) const COMMIT: u64 = 1 << 63;

/// A message as it goes to queues, and to which.
type Routed = (Message, Arc<Route>);

/// Where the publishes of open transactions go, as was found when they were published: what changes until the commit does
/// not matter to them.
#[derive(Default)]
pub(super) struct Transactions(HashMap<ChannelNumber, (u32, Vec<Option<Routed>>)>);

impl Transactions {
    /// `place` counts from 1 in each transaction. Without a route it is routed at the commit.
    pub(super) fn keep(
        &mut self,
        (channel, opening, place): (ChannelNumber, u32, u64),
        publish: Option<Routed>,
    ) {
        let (of, routed) = self.0.entry(channel).or_default();
        if *of != opening || place <= 1 {
            *of = opening;
            routed.clear();
        }
        // Whatever came before: each stands at its place.
        routed.resize_with(usize::try_from(place.saturating_sub(1)).unwrap_or_default(), || None);
        routed.push(publish);
    }

    /// It was rolled back, or its channel is gone.
    pub(super) fn forget(&mut self, channel: ChannelNumber) {
        self.0.remove(&channel);
    }

    fn take(&mut self, channel: ChannelNumber, opening: u32) -> Vec<Option<Routed>> {
        let found = self.0.remove(&channel).filter(|(of, _)| *of == opening);
        found.map(|(_, routed)| routed).unwrap_or_default()
    }

    fn give_back(&mut self, channel: ChannelNumber, opening: u32, routed: Vec<Option<Routed>>) {
        self.0.insert(channel, (opening, routed));
    }
}

/// A commit whose publishes are not routed yet.
pub(super) struct Asked {
    pub(super) channel: ChannelNumber,
    pub(super) opening: u32,
    pub(super) commit: TxCommit,
}

/// A commit under way.
pub(super) struct Commit {
    channel: ChannelNumber,
    opening: u32,
    outstanding: usize,
    rejected: bool,
    settlements: Vec<(Settlement, Vec<DeliveryRef>)>,
    done: oneshot::Sender<Result<(), AmqpError>>,
}

impl Task {
    pub(super) fn commit(&mut self, channel: ChannelNumber, opening: u32, commit: TxCommit, view: View) {
        let mut routed = self.transactions.take(channel, opening);
        match view {
            View::MayLag if self.misses(channel, opening, &commit, &routed) => {
                let broker = Arc::clone(&self.caller.broker);
                self.transactions.give_back(channel, opening, routed);
                let asked = Box::new(Asked { channel, opening, commit });
                self.wait_for(
                    What::Commit,
                    async move { Done::Commit(asked, broker.linearize_miss().await) },
                );
                return;
            }
            // Nothing may be acknowledged on the strength of what may not be true.
            View::Unanswered(error) if self.misses(channel, opening, &commit, &routed) => {
                self.machine.reply(channel, Err(error), &mut self.out);
                return;
            }
            View::MayLag | View::Current | View::Unanswered(_) => {}
        }
        self.commits_begun += 1;
        let number = COMMIT | self.commits_begun;
        let token = PublishToken { connection: self.caller.connection, channel, opening, number };
        let mut hosts: Vec<HostBatch> = Vec::new();
        let mut outstanding = 0;
        routed.resize_with(commit.publishes.len(), || None);
        for (TxPublish { mandatory, message }, routed) in commit.publishes.into_iter().zip(routed) {
            let Some(publisher) = &mut self.publisher else { return };
            publisher.refresh(&self.caller);
            let mut publish = Publish { channel, opening, number: 0, mandatory, message };
            let route = match routed {
                Some((message, route)) => {
                    publish.message = message;
                    Ok(route)
                }
                None => publisher.route_one(&self.caller, &mut publish),
            };
            let route = match route {
                Ok(route) => route,
                Err(error) => {
                    self.machine.reply(channel, Err(error), &mut self.out);
                    return;
                }
            };
            if route.unroutable && publish.mandatory {
                self.machine.return_message(
                    channel,
                    opening,
                    ReplyCode::NoRoute,
                    &publish.message,
                    &mut self.out,
                );
            }
            publisher.trace(channel, &publish.message, &route);
            publisher.count(&route, publish.mandatory);
            self.wake.published(&route);
            let delay_ms = if route.delays { take_delay(&mut publish.message) } else { 0 };
            for (host, queues) in &route.targets {
                let message =
                    SessionPublish { queues: queues.clone(), message: publish.message.clone(), delay_ms };
                match hosts.iter_mut().find(|(known, _)| known == host) {
                    Some((_, batch)) => batch.push((token, message)),
                    None => hosts.push((*host, vec![(token, message)])),
                }
                outstanding += 1;
            }
        }
        if let Some(publisher) = &mut self.publisher {
            let counted = std::mem::take(&mut publisher.counted);
            self.caller.broker.connections().traffic().add(counted);
        }
        self.trace_published();
        if outstanding == 0 {
            self.settle_all(&commit.settlements);
            self.machine.reply(channel, Ok(Reply::Done), &mut self.out);
            return;
        }
        for (host, batch) in hosts {
            self.send(host, SessionInput::publish(batch));
        }
        let (done, committed) = oneshot::channel();
        let settlements = commit.settlements;
        let commit = Commit { channel, opening, outstanding, rejected: false, settlements, done };
        self.commits.insert(number, commit);
        self.wait_for(What::Request { channel }, async move {
            let reply = match committed.await {
                Ok(result) => result.map(|()| Reply::Done),
                Err(_) => Err(AmqpError::new(ReplyCode::InternalError, "the transaction was forgotten")),
            };
            Done::Performed(Performed { reply, remember: Remember::Nothing })
        });
    }

    /// Whether any of the publishes that are not routed finds no exchange or no queue here.
    fn misses(
        &mut self,
        channel: ChannelNumber,
        opening: u32,
        commit: &TxCommit,
        routed: &[Option<Routed>],
    ) -> bool {
        let Some(publisher) = &mut self.publisher else { return false };
        publisher.refresh(&self.caller);
        let is_routed = |place: usize| routed.get(place).is_some_and(Option::is_some);
        commit.publishes.iter().enumerate().filter(|(place, _)| !is_routed(*place)).any(|(_, kept)| {
            let TxPublish { mandatory, message } = kept;
            let message = message.clone();
            let mut publish = Publish { channel, opening, number: 0, mandatory: *mandatory, message };
            is_miss(&publisher.route_one(&self.caller, &mut publish))
        })
    }

    /// One host has one of the commit's messages, or refuses it.
    pub(super) fn on_commit_confirm(&mut self, number: u64, rejected: bool) {
        let Some(commit) = self.commits.get_mut(&number) else { return };
        commit.outstanding -= 1;
        commit.rejected |= rejected;
        if commit.outstanding > 0 {
            return;
        }
        let Some(commit) = self.commits.remove(&number) else { return };
        let result = if commit.rejected {
            Err(AmqpError::new(ReplyCode::PreconditionFailed, "partial tx completion"))
        } else {
            // A channel that was closed meanwhile has given its deliveries back: others may hold them.
            if self.machine.is_open(commit.channel, commit.opening) {
                self.settle_all(&commit.settlements);
            }
            Ok(())
        };
        // Nobody waits when the connection is being closed.
        let _closing = commit.done.send(result);
    }

    fn settle_all(&mut self, settlements: &[(Settlement, Vec<DeliveryRef>)]) {
        for (outcome, deliveries) in settlements {
            self.settle(*outcome, deliveries);
        }
    }
}
