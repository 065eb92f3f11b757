//! Spine 12: a publish that went to several hosts is confirmed when all of them have said so.

use std::collections::HashMap;

use warren_types::PublishToken;

/// The publishes of one connection that more than one host must confirm.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    several: HashMap<PublishToken, Outstanding>,
}

#[derive(Debug)]
struct Outstanding {
    hosts: usize,
    rejected: bool,
}

/// What a host's word means for the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Other hosts have not said.
    Wait,
    /// All have it.
    Confirmed,
    /// At least one refused it.
    Rejected,
}

impl Confirms {
    /// Notes that `hosts` of them must say so; one need not be noted.
    pub(crate) fn expect(&mut self, token: PublishToken, hosts: usize) {
        if hosts > 1 && token.number != 0 {
            self.several.insert(token, Outstanding { hosts, rejected: false });
        }
    }

    /// One host has said so.
    pub(crate) fn on_host(&mut self, token: PublishToken, rejected: bool) -> Verdict {
        let rejected = match self.several.get_mut(&token) {
            None => rejected,
            Some(outstanding) => {
                outstanding.hosts -= 1;
                outstanding.rejected |= rejected;
                if outstanding.hosts > 0 {
                    return Verdict::Wait;
                }
                let rejected = outstanding.rejected;
                self.several.remove(&token);
                rejected
            }
        };
        if rejected { Verdict::Rejected } else { Verdict::Confirmed }
    }
}

#[cfg(test)]
mod tests {
    use warren_types::{ChannelNumber, ConnectionId};

    use super::*;

    #[test]
    fn a_publish_to_two_hosts_is_rejected_when_one_of_them_refuses_it() {
        let token =
            PublishToken { connection: ConnectionId(1), channel: ChannelNumber(1), opening: 1, number: 7 };
        let mut confirms = Confirms::default();
        confirms.expect(token, 2);
        assert_eq!(confirms.on_host(token, true), Verdict::Wait);
        assert_eq!(confirms.on_host(token, false), Verdict::Rejected);
        assert_eq!(
            confirms.on_host(token, false),
            Verdict::Confirmed,
            "one host is the usual case and is not noted"
        );
    }
}
