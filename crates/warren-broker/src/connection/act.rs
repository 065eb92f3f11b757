//! Spine 5: what the machine asks for is carried out, or begun; what was begun and is done is answered.

use std::sync::Arc;

use tracing::{debug, info};
use warren_amqp::{Action, Mechanism, Publish, Reply, Request};
use warren_types::{AckMode, AmqpError, ChannelNumber, QueueHost, ReplyCode, ShortStr, SubscriptionId};

use super::commit::Asked;
use super::{Consumer, Done, Pending, Task, What};
use crate::broker::LoginError;
use crate::request::direct_reply::PSEUDO_QUEUE;
use crate::request::publish::{Publisher, Routed, Verdict, View, is_miss};
use crate::request::{Performed, Remember, asked_timeout_ms, perform};
use crate::session::SessionInput;

impl Task {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Publish(publish) => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.push(publish);
                }
            }
            // The step that led here has done it.
            Action::Route => {}
            Action::CheckPublish(publish) => self.check(Box::new(publish), View::MayLag),
            Action::RolledBack { channel } => self.transactions.forget(channel),
            Action::Authenticate { mechanism, user, password } => {
                let (broker, from) = (Arc::clone(&self.caller.broker), self.peer.ip());
                let external = self.external.clone();
                self.wait_for(What::Login, async move {
                    if !broker.announced().await {
                        debug!("a login is decided by an old catalogue: this node is not in contact with a majority");
                    }
                    match mechanism {
                        Mechanism::Plain | Mechanism::AmqPlain => {
                            let result = broker.authenticate(&user, &password, from);
                            Done::Login { mechanism, result: result.map(|()| user.clone()), user }
                        }
                        Mechanism::External => {
                            let user = external.clone().unwrap_or_default();
                            let result = external.and_then(|user| broker.recognise(user, from));
                            Done::Login { mechanism, result, user }
                        }
                    }
                });
            }
            Action::OpenVhost { vhost } => {
                self.caller.vhost = Arc::from(vhost.as_str());
                let caller = self.caller.clone();
                self.wait_for(
                    What::Vhost,
                    async move { Done::Vhost(caller.broker.open_vhost(&caller).await) },
                );
            }
            Action::Settle { channel, outcome, deliveries } => {
                let at_once = match &mut self.publisher {
                    Some(publisher) => publisher.settle_in_turn(channel, outcome, deliveries),
                    None => Some(deliveries),
                };
                if let Some(deliveries) = at_once {
                    self.settle(outcome, &deliveries);
                }
            }
            Action::Prefetch { limits } => self.set_prefetch(&limits),
            Action::Request { channel, opening, request } => self.request(channel, opening, request),
            Action::ChannelClosed { channel, returned, waiting, subscriptions, .. } => {
                self.transactions.forget(channel);
                self.channel_closed(&returned, &waiting, &subscriptions);
            }
            Action::Closing => {
                if self.owns_queues {
                    let caller = self.caller.clone();
                    self.owns_queues = false;
                    self.wait_for(What::Closing, async move {
                        caller.broker.release_owner(caller.owner()).await;
                        Done::Released
                    });
                } else {
                    self.machine.closing_done(&mut self.out);
                }
            }
            Action::Closed(ending) => self.end(ending),
        }
    }

    pub(super) fn request(&mut self, channel: ChannelNumber, opening: u32, request: Request) {
        match request {
            Request::Recover(recover) => {
                self.give_back(&recover.deliveries, false, true);
                self.machine.reply(channel, Ok(Reply::Done), &mut self.out);
            }
            Request::TxCommit(commit) => self.commit(channel, opening, commit, View::MayLag),
            Request::Cancel(cancel) => self.cancel(channel, cancel.subscription),
            Request::Consume(consume) if consume.queue == PSEUDO_QUEUE => {
                let taken = self.publisher.as_ref().is_some_and(|publisher| publisher.takes_replies(channel));
                let refusal = match (consume.ack_mode, taken) {
                    (AckMode::Manual, _) => Some("reply consumer cannot acknowledge"),
                    (AckMode::Automatic, true) => Some("reply consumer already set"),
                    (AckMode::Automatic, false) => None,
                };
                match refusal {
                    Some(text) => {
                        let error = AmqpError::new(ReplyCode::PreconditionFailed, text);
                        self.machine.reply(channel, Err(error), &mut self.out);
                    }
                    None => {
                        // Even when the answer is an error: the queue behind it may have been made.
                        self.owns_queues = true;
                        self.begin(channel, Request::Consume(consume));
                    }
                }
            }
            other => self.begin(channel, other),
        }
    }

    fn begin(&mut self, channel: ChannelNumber, request: Request) {
        let subscription = self.caller.broker.next_subscription();
        let caller = self.caller.clone();
        let dead = self.wake.before(&request, &caller.broker);
        self.wait_for(What::Request { channel }, async move {
            dead.await;
            Done::Performed(perform(caller, request, subscription).await)
        });
    }

    /// Forgets a consumer that is gone, or is to go.
    pub(super) fn forget_consumer(&mut self, subscription: SubscriptionId) -> Option<Consumer> {
        if let Some(publisher) = &mut self.publisher {
            publisher.end_replies(subscription);
        }
        self.described.remove(&subscription);
        self.consumers.remove(&subscription)
    }

    pub(super) fn on_done(&mut self, done: Done) {
        let Some(Pending { what, .. }) = self.pending.take() else { return };
        match (what, done) {
            (What::Request { channel }, Done::Performed(performed)) => self.on_performed(channel, performed),
            (What::LastDeliveries { channel, subscription }, Done::Delivered) => {
                self.end_consumer(channel, subscription);
            }
            (What::Login, Done::Login { mechanism, user, result }) => self.on_login(mechanism, &user, result),
            (What::Catalogue, Done::Catalogue(read)) => self.route(&View::from(read)),
            (What::Check, Done::Check(publish, read)) => self.check(publish, View::from(read)),
            (What::Commit, Done::Commit(asked, read)) => {
                let Asked { channel, opening, commit } = *asked;
                if self.machine.is_open(channel, opening) {
                    self.commit(channel, opening, commit, View::from(read));
                }
            }
            (What::Turn, Done::Turn(turn)) => self.take_turn(turn),
            (What::Pace, Done::Paced) => {}
            (What::Vhost, Done::Vhost(result)) => {
                let result = result.map(|channels| self.channels_elsewhere = channels);
                if result.is_ok() {
                    self.publisher = Some(Publisher::new(&self.caller));
                }
                self.machine.vhost_opened(result, &mut self.out);
                self.note_state();
            }
            (What::Closing, Done::Released) => self.machine.closing_done(&mut self.out),
            (What::ClosingByServer, Done::ReleasedBeforeClose(gone)) => {
                self.owns_queues = !gone;
                self.holds_back = false;
            }
            // The connection has moved on meanwhile.
            (
                What::Request { .. }
                | What::LastDeliveries { .. }
                | What::Login
                | What::Catalogue
                | What::Check
                | What::Commit
                | What::Turn
                | What::Pace
                | What::Vhost
                | What::Closing
                | What::ClosingByServer,
                _,
            ) => {}
        }
    }

    pub(super) fn on_login(&mut self, mechanism: Mechanism, user: &str, result: Result<String, LoginError>) {
        if let Err(reason) = &result {
            info!(connection = %self.name, user, mechanism = mechanism.name(), %reason, "login refused");
        }
        let result = result.map_err(|_| {
            AmqpError::new(
                ReplyCode::AccessRefused,
                format!(
                    "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                    mechanism.name()
                ),
            )
        });
        if let Ok(user) = &result {
            self.caller.user = Arc::from(user.as_str());
        }
        self.machine.authenticated(result, &mut self.out);
    }

    pub(super) fn on_performed(&mut self, channel: ChannelNumber, performed: Performed) {
        let rechecked = matches!(performed.remember, Remember::Rechecked);
        match performed.remember {
            Remember::Nothing | Remember::Rechecked => {}
            Remember::Owner => self.owns_queues = true,
            Remember::Consumer { subscription, host, queue, auto_delete, counts, timeout_ms, info } => {
                self.look_sooner(timeout_ms);
                let timeout_ms = asked_timeout_ms(&info.arguments);
                self.described.insert(subscription, *info);
                let consumer = Consumer { host, channel, queue, auto_delete, counts, timeout_ms };
                self.consumers.insert(subscription, consumer);
            }
            Remember::ReplyConsumer { subscription, queue } => {
                let host = queue.host;
                let consumer = Consumer {
                    host,
                    channel,
                    queue: queue.id,
                    auto_delete: true,
                    counts: false,
                    timeout_ms: None,
                };
                self.consumers.insert(subscription, consumer);
                if let (Some(publisher), Ok(name)) = (&mut self.publisher, ShortStr::try_from(&*queue.name)) {
                    publisher.begin_replies(channel, subscription, name);
                }
            }
            Remember::NoConsumer { subscription } => {
                self.forget_consumer(subscription);
            }
        }
        if let Ok(Reply::Got(Some(got))) = &performed.reply {
            self.got_from(got.source.queue);
        }
        if let Ok(Reply::Got(Some(got))) = &performed.reply
            && self.is_traced()
        {
            self.trace_delivered(got.source.queue, &[(channel, got.redelivered, got.message.clone())]);
        }
        self.machine.reply(channel, performed.reply, &mut self.out);
        if rechecked {
            self.recheck_consumers();
        }
        for (subscription, host, queue, deliveries) in std::mem::take(&mut self.early) {
            self.deliver(subscription, host, queue, deliveries);
        }
        for subscription in std::mem::take(&mut self.cancelled) {
            self.on_cancelled(subscription);
        }
        self.note_state();
    }

    /// Routes the gathered publishes and sends them on.
    pub(super) fn route(&mut self, view: &View) {
        let Some(publisher) = &mut self.publisher else { return };
        let (mut hosts, mut verdicts) = (Vec::new(), Vec::new());
        let routed = publisher.route(
            &self.caller,
            &mut self.confirms,
            &mut self.wake,
            view,
            &mut hosts,
            &mut verdicts,
        );
        let mut counted = std::mem::take(&mut publisher.counted);
        let mut pause = None;
        for (host, batch) in hosts {
            if let QueueHost::Node(_) = host {
                pause = pause.max(self.pause_after(&batch));
            }
            self.send(host, SessionInput::publish(batch));
        }
        self.trace_published();
        for verdict in verdicts {
            match verdict {
                Verdict::Unroutable(publish) => {
                    let (channel, opening) = (publish.channel, publish.opening);
                    if publish.mandatory {
                        let message = &publish.message;
                        self.machine.return_message(
                            channel,
                            opening,
                            ReplyCode::NoRoute,
                            message,
                            &mut self.out,
                        );
                    }
                    if publish.number != 0 {
                        counted.confirm += 1;
                        self.machine.confirm(channel, opening, &[publish.number], &mut self.out);
                    }
                }
                // A return would say that no queue takes it.
                Verdict::Returned(Publish { channel, opening, message, .. }) => {
                    self.machine.return_message(
                        channel,
                        opening,
                        ReplyCode::NoRoute,
                        &message,
                        &mut self.out,
                    );
                }
                Verdict::Unknown(Publish { channel, opening, number, .. }) if number != 0 => {
                    self.machine.reject_publish(channel, opening, &[number], &mut self.out);
                }
                Verdict::Unknown(_) => {}
                Verdict::Settled(outcome, deliveries) => self.settle(outcome, &deliveries),
                // It goes with what else the channel held.
                Verdict::Unsaid(deliveries) => self.give_back(&deliveries, true, true),
                Verdict::Refused { channel, opening, error } => {
                    self.machine.fail_channel(channel, opening, error, 60, 40, &mut self.out);
                }
            }
        }
        self.caller.broker.connections().traffic().add(counted);
        if matches!(routed, Routed::AskCluster) {
            let broker = Arc::clone(&self.caller.broker);
            self.wait_for(What::Catalogue, async move { Done::Catalogue(broker.linearize_miss().await) });
        } else if let Some(pause) = pause {
            self.wait_for(What::Pace, async move {
                tokio::time::sleep(pause).await;
                Done::Paced
            });
        }
    }

    /// Checks a publish that its transaction keeps.
    fn check(&mut self, mut publish: Box<Publish>, view: View) {
        let Some(publisher) = &mut self.publisher else { return };
        publisher.refresh(&self.caller);
        let asked = (publish.channel, publish.opening, publish.number);
        // What routing takes out of them is wanted again where it must be done again.
        let properties = publish.message.properties.clone();
        let route = publisher.route_one(&self.caller, &mut publish);
        let error = match (view, route) {
            (View::MayLag, route) if is_miss(&route) => {
                publish.message.properties = properties;
                let broker = Arc::clone(&self.caller.broker);
                self.wait_for(
                    What::Check,
                    async move { Done::Check(publish, broker.linearize_miss().await) },
                );
                return;
            }
            // At the commit somebody may be able to tell.
            (View::Unanswered(_), Ok(route)) if route.unroutable => {
                self.transactions.keep(asked, None);
                return;
            }
            (_, Ok(route)) => {
                self.transactions.keep(asked, Some((publish.message, route)));
                return;
            }
            (View::Unanswered(error), Err(missing)) if missing.code == ReplyCode::NotFound => error,
            (View::MayLag | View::Current | View::Unanswered(_), Err(missing)) => missing,
        };
        self.machine.fail_channel(publish.channel, publish.opening, error, 60, 40, &mut self.out);
    }
}
