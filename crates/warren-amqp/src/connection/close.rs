//! How channels and connections end, from either side (0-9-1 §1.4.2.10, §1.5.2.5), and what the shell must clean up.

use amq_protocol::protocol::{AMQPClass, channel, connection};
use bytes::BytesMut;
use warren_types::table::ShortString;
use warren_types::{AmqpError, ChannelNumber};

use super::{Connection, Item, Phase, Slot};
use crate::action::{Action, Ending};
use crate::channel::Channel;
use crate::error::{Fault, MethodId};
use crate::frame;

fn connection_class(method: connection::AMQPMethod) -> AMQPClass {
    AMQPClass::Connection(method)
}

/// Reply texts are cut at 255 bytes where they are made. Without an explanation it is the code's bare name, as
/// RabbitMQ says that it failed for a reason of its own.
fn reply_text(error: &AmqpError) -> ShortString {
    let text = if error.text.is_empty() { error.code.name().to_owned() } else { error.reply_text() };
    ShortString::try_new(text).unwrap_or_default()
}

impl Connection {
    /// Closes what the fault closes: errors before a channel is known close the connection.
    pub(super) fn fail(&mut self, number: ChannelNumber, fault: Fault, out: &mut BytesMut) {
        if number.0 == 0 || fault.closes_connection() {
            self.fail_connection(fault, out);
            return;
        }
        let Some(slot) = self.channels.get_mut(usize::from(number.0)) else { return };
        let Slot::Open(channel) = std::mem::replace(slot, Slot::AwaitingCloseOk { client_closed: false })
        else {
            debug_assert!(false, "only an open channel fails");
            return;
        };
        let close = channel::Close {
            reply_code: fault.error.code.code(),
            reply_text: reply_text(&fault.error),
            class_id: fault.id.class,
            method_id: fault.id.method,
        };
        frame::method(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)), out);
        self.bury(number, *channel);
    }

    /// Reports what a channel leaves behind.
    fn bury(&mut self, number: ChannelNumber, channel: Channel) {
        if self.awaiting == Some(number) {
            self.awaiting = None;
        }
        let opening = channel.opening();
        self.held_bytes = self.held_bytes.saturating_sub(channel.held_bytes());
        let remains = channel.close();
        self.push(Action::ChannelClosed {
            channel: number,
            opening,
            returned: remains.returned,
            waiting: remains.waiting,
            subscriptions: remains.subscriptions,
        });
    }

    fn bury_all(&mut self) {
        for (number, slot) in std::mem::take(&mut self.channels).into_iter().enumerate() {
            if let Slot::Open(channel) = slot {
                self.bury(ChannelNumber(u16::try_from(number).unwrap_or_default()), *channel);
            }
        }
        self.occupied = 0;
        self.awaiting = None;
    }

    /// The client closes a channel: `close-ok` follows once the shell has dealt with what it leaves behind.
    pub(super) fn on_channel_close(&mut self, number: ChannelNumber) {
        let Some(slot) = self.channels.get_mut(usize::from(number.0)) else { return };
        if let Slot::Open(channel) = std::mem::replace(slot, Slot::ClosingByClient) {
            self.bury(number, *channel);
            self.items.push_back(Item::ChannelCloseOk(number));
        }
    }

    /// Writes the `close-ok` that was held back, and frees the number.
    pub(super) fn finish_channel_close(&mut self, number: ChannelNumber, out: &mut BytesMut) {
        frame::method(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})), out);
        self.free(number);
    }

    pub(super) fn free(&mut self, number: ChannelNumber) {
        if let Some(slot) = self.channels.get_mut(usize::from(number.0)) {
            *slot = Slot::Free;
            self.occupied = self.occupied.saturating_sub(1);
        }
    }

    /// The client closes the connection.
    pub(super) fn on_connection_close(&mut self) {
        self.bury_all();
        self.phase = Phase::ClosingByClient;
        self.push(Action::Closing);
    }

    /// The answer to [`Action::Closing`]: exclusive queues are gone, the client may know.
    pub fn closing_done(&mut self, out: &mut BytesMut) {
        if self.phase == Phase::ClosingByClient {
            self.write_close_ok(out);
            // One who closes again is answered again.
            self.phase = Phase::AwaitingCloseOk;
            self.push(Action::Closed(Ending::Graceful));
        }
    }

    pub(super) fn write_close_ok(&self, out: &mut BytesMut) {
        let ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
        frame::method(ChannelNumber(0), connection_class(ok), out);
    }

    /// The server closes the connection, because of an error or of its own.
    pub(super) fn fail_connection(&mut self, fault: Fault, out: &mut BytesMut) {
        self.fail_connection_as(fault, Ending::ByServer, out);
    }

    /// As [`Self::fail_connection`], with another end than waiting for `close-ok`.
    pub(super) fn fail_connection_as(&mut self, fault: Fault, ending: Ending, out: &mut BytesMut) {
        match self.phase {
            Phase::Running
            | Phase::Authenticating { .. }
            | Phase::Tuning
            | Phase::AwaitingOpen
            | Phase::Opening => {}
            // Nobody is there yet whom it could be told.
            Phase::AwaitingHeader | Phase::Starting => {
                self.end_silently();
                return;
            }
            Phase::ClosingByClient | Phase::AwaitingCloseOk | Phase::Ended => return,
        }
        let close = connection::Close {
            reply_code: fault.error.code.code(),
            reply_text: reply_text(&fault.error),
            class_id: fault.id.class,
            method_id: fault.id.method,
        };
        frame::method(ChannelNumber(0), connection_class(connection::AMQPMethod::Close(close)), out);
        self.bury_all();
        self.phase = Phase::AwaitingCloseOk;
        self.push(Action::Closed(ending));
    }

    /// Closes the connection from outside: an operator, a shutdown (320).
    pub fn close_connection(&mut self, error: AmqpError, out: &mut BytesMut) {
        self.fail_connection(Fault { error, id: MethodId::NONE }, out);
    }

    /// Nothing more is read and nothing more is asked.
    pub(super) fn end(&mut self, ending: Ending) {
        self.bury_all();
        self.phase = Phase::Ended;
        self.push(Action::Closed(ending));
    }

    /// The socket is gone: what must still be done, in order. Only publishes, settlements and closed channels are
    /// among it. A request that was asked for and not answered is the shell's to finish or to undo.
    pub fn disconnected(&mut self) -> Vec<Action> {
        self.bury_all();
        self.flush_settling();
        self.phase = Phase::Ended;
        self.items
            .drain(..)
            .filter_map(|item| match item {
                Item::Action(action) => match action {
                    Action::Publish(_) | Action::Settle { .. } | Action::ChannelClosed { .. } => Some(action),
                    Action::CheckPublish(_)
                    | Action::RolledBack { .. }
                    | Action::Route
                    | Action::Prefetch { .. }
                    | Action::Authenticate { .. }
                    | Action::OpenVhost { .. }
                    | Action::Request { .. }
                    | Action::Closing
                    | Action::Closed(_) => None,
                },
                Item::ChannelCloseOk(_) => None,
            })
            .collect()
    }
}
