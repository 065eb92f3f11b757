//! What listings and limits want to know of a connection's channels.

use std::sync::Arc;

use warren_amqp::ChannelQuota;

use super::Task;
use crate::admin::ChannelInfo;

impl Task {
    /// The channels with their consumers.
    pub(super) fn describe(&self) -> Vec<ChannelInfo> {
        let channels = self.machine.channels();
        channels
            .map(|channel| ChannelInfo {
                number: channel.number.0,
                unacknowledged: channel.unacknowledged as u64,
                unconfirmed: channel.unconfirmed,
                transactional: channel.transactional,
                prefetch: channel.prefetch,
                global_prefetch: channel.channel_prefetch,
                consumers: self
                    .described
                    .iter()
                    .filter(|(subscription, _)| {
                        self.consumers.get(subscription).is_some_and(|known| known.channel == channel.number)
                    })
                    .map(|(_, info)| info.clone())
                    .collect(),
            })
            .collect()
    }

    /// Tells the machine how many channels its user may have now, if that is limited.
    pub(super) fn apply_channel_limit(&mut self) {
        let catalogue = self.caller.broker.catalogue();
        let revision = catalogue.current_revision();
        if self.limits_revision != Some(revision) && self.vhost_is_open() {
            self.limits_revision = Some(revision);
            self.channel_limit = catalogue.read().user_limits(&self.caller.user).max_channels;
            if self.channel_limit.is_none() {
                self.machine.set_channel_quota(None);
            }
        }
        if let Some(limit) = self.channel_limit {
            let here = self.caller.broker.connections().channels_of(&self.caller.user);
            let others = here.saturating_sub(self.channels_counted as u64);
            let elsewhere = others.saturating_add(self.channels_elsewhere);
            self.machine.set_channel_quota(Some(ChannelQuota { limit, elsewhere }));
        }
    }

    /// Counts this connection's channels for its user, as many as there are now.
    pub(super) fn count_channels(&mut self) {
        let now = self.machine.open_channels();
        if now != self.channels_counted {
            let user = Arc::clone(&self.caller.user);
            self.caller.broker.connections().count_channels(&user, self.channels_counted, now);
            self.channels_counted = now;
        }
    }

    /// The connection is over: none of its channels counts any more.
    pub(super) fn forget_channels(&mut self) {
        if self.channels_counted > 0 {
            let connections = self.caller.broker.connections();
            connections.count_channels(&self.caller.user, self.channels_counted, 0);
            self.channels_counted = 0;
        }
    }
}
