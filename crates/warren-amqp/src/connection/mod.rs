//! Spine 3: the machine of one connection: each frame to its channel, channels opened and closed, actions in order.
//! Knows no socket, clock, user or queue.
//! Before: `frame/decode.rs`. After: `channel`.

mod answer;
mod close;
mod config;
mod dispatch;
mod handshake;
mod heartbeat;
mod tune;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use warren_types::{ChannelNumber, DeliveryRef, FieldTable};

pub use config::{ConnectionConfig, External};
pub use handshake::{RABBITMQ_VERSION, server_properties};
pub use heartbeat::{Beat, Heartbeat};
pub use tune::Limits;

use crate::action::{Action, Mechanism, Settlement};
use crate::channel::{Channel, Context, HandedOver};
use crate::error::{Fault, MethodId};
use crate::frame::{self, Frame, INITIAL_FRAME_MAX, method_id, next_frame};

/// Most deliveries that one [`Action::Settle`] gathers from several frames.
const SETTLE_MAX: usize = 1024;

/// Where a connection is in its life, as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Until the client is known.
    Starting,
    /// Until limits are agreed.
    Tuning,
    /// Until a virtual host is open.
    Opening,
    /// In use.
    Running,
    /// In use, and not read from: an alarm.
    Blocked,
    /// One side has said that it closes.
    Closing,
    /// Over.
    Closed,
}

/// A channel as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its number.
    pub number: ChannelNumber,
    /// Which opening of it.
    pub opening: u32,
    /// Its consumers.
    pub consumers: usize,
    /// Deliveries that the client holds.
    pub unacknowledged: usize,
    /// Deliveries that the channel-wide prefetch holds back.
    pub waiting: usize,
    /// Publishes not yet confirmed; `None` when not in confirm mode.
    pub unconfirmed: Option<u64>,
    /// In transactional mode.
    pub transactional: bool,
    /// Prefetch of consumers that start from now on; 0 is no limit.
    pub prefetch: u16,
    /// Prefetch of all consumers together; 0 is no limit.
    pub channel_prefetch: u16,
}

/// How many channels the connection's user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelQuota {
    /// Most, on all its connections.
    pub limit: u64,
    /// Those on its other connections.
    pub elsewhere: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitingHeader,
    Starting,
    Authenticating {
        mechanism: Mechanism,
    },
    Tuning,
    AwaitingOpen,
    Opening,
    Running,
    /// The client said close; the shell cleans up.
    ClosingByClient,
    /// The server said close.
    AwaitingCloseOk,
    /// Whatever is read is discarded.
    Ended,
}

#[derive(Debug)]
enum Slot {
    Free,
    Open(Box<Channel>),
    /// The client said close; `close-ok` is written when the shell is done.
    ClosingByClient,
    /// The server said close: everything is ignored until `close-ok`.
    AwaitingCloseOk {
        /// The client said close at the same time, and may take our `close-ok` for the end of it.
        client_closed: bool,
    },
}

#[derive(Debug)]
enum Item {
    Action(Action),
    ChannelCloseOk(ChannelNumber),
}

/// Settlements that may still grow by the next frame.
#[derive(Debug)]
struct Settling {
    channel: ChannelNumber,
    outcome: Settlement,
    deliveries: Vec<DeliveryRef>,
}

/// Read, and to be dealt with once every publish before it is routed.
#[derive(Debug)]
enum Held {
    Frame(Frame),
    /// What a settlement or a piece of content did wrong.
    Fault {
        number: ChannelNumber,
        opening: u32,
        fault: Fault,
    },
}

/// The server's end of one connection, without its socket.
///
/// The shell reads into a buffer and calls [`Self::next`] until it gives `None`, carries out each [`Action`], and
/// writes what was appended to `out`. After any other call that may close a channel or the connection it calls `next`
/// again, also without new input.
#[derive(Debug)]
pub struct Connection {
    config: Arc<ConnectionConfig>,
    phase: Phase,
    limits: Limits,
    heartbeat: Heartbeat,
    user: String,
    vhost: String,
    client_properties: FieldTable,
    blocked: bool,
    /// By channel number; as long as the highest number used so far.
    channels: Vec<Slot>,
    /// Slots that are not free.
    occupied: usize,
    quota: Option<ChannelQuota>,
    openings: u32,
    items: VecDeque<Item>,
    settling: Option<Settling>,
    /// Publishes were given out since the shell last had a reason to route them.
    published: bool,
    held: Option<Held>,
    /// The channel whose request is not answered.
    awaiting: Option<ChannelNumber>,
    /// The channel and opening that asked last.
    last_asked: (ChannelNumber, u32),
    handed_over: Vec<HandedOver>,
    /// Bytes of messages that are not complete or not committed, of all channels.
    held_bytes: u64,
    /// A content frame was read since the shell last asked.
    content_came: bool,
    /// The shell's clock, as it last told.
    now_ms: u64,
}

/// Whether a frame may be answered by the machine itself, so that it must wait for the publishes before it: one that is
/// refused closes the channel, and nothing after it is answered. Content, settlements and publishes are not: waiting for
/// those would route messages one by one.
fn is_in_turn(frame: &Frame) -> bool {
    match frame {
        Frame::Method(_, payload) => {
            !matches!(method_id(payload), Some(MethodId { class: 60, method: 40 | 80 | 90 | 120 }))
        }
        Frame::Header(..) | Frame::Body(..) | Frame::Heartbeat => false,
    }
}

impl Connection {
    /// A connection that waits for the protocol header.
    #[must_use]
    pub fn new(config: Arc<ConnectionConfig>) -> Self {
        Self {
            config,
            phase: Phase::AwaitingHeader,
            limits: Limits { channel_max: 0, frame_max: INITIAL_FRAME_MAX, heartbeat_s: 0 },
            heartbeat: Heartbeat::new(0),
            user: String::new(),
            vhost: String::new(),
            client_properties: FieldTable::default(),
            blocked: false,
            channels: Vec::new(),
            occupied: 0,
            quota: None,
            openings: 0,
            items: VecDeque::new(),
            settling: None,
            published: false,
            held: None,
            awaiting: None,
            last_asked: (ChannelNumber(0), 0),
            handed_over: Vec::new(),
            held_bytes: 0,
            content_came: false,
            now_ms: 0,
        }
    }

    /// Takes frames off the front of `input` until something must be done outside, or until no whole frame is left
    /// (`None`). What the protocol itself answers is appended to `out`. While an answer is owed by the shell nothing
    /// more is read.
    pub fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Option<Action> {
        let action = self.next_action(input, out);
        match &action {
            Some(Action::Publish(_)) => self.published = true,
            // Before anything else the shell routes.
            Some(_) => self.published = false,
            None => {}
        }
        action
    }

    fn next_action(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Option<Action> {
        loop {
            match self.items.pop_front() {
                Some(Item::Action(action)) => return Some(action),
                Some(Item::ChannelCloseOk(number)) => {
                    self.finish_channel_close(number, out);
                    continue;
                }
                None => {}
            }
            if let Some(settling) = &self.settling
                && (self.held.is_some()
                    || settling.deliveries.len() >= SETTLE_MAX
                    || !frame::next_is_settle(input, settling.channel))
            {
                self.flush_settling();
                continue;
            }
            match self.phase {
                Phase::AwaitingHeader => {
                    if !self.on_protocol_header(input, out) {
                        return None;
                    }
                    continue;
                }
                Phase::Authenticating { .. } | Phase::Opening | Phase::ClosingByClient => return None,
                Phase::Ended => {
                    input.clear();
                    return None;
                }
                Phase::Running if self.awaiting.is_some() => return None,
                Phase::Starting
                | Phase::Tuning
                | Phase::AwaitingOpen
                | Phase::Running
                | Phase::AwaitingCloseOk => {}
            }
            if self.held.is_some() && self.published {
                return Some(Action::Route);
            }
            let frame = match self.held.take() {
                None => next_frame(input, self.limits.frame_max_or_all()),
                Some(Held::Frame(frame)) => Ok(Some(frame)),
                Some(Held::Fault { number, opening, fault }) => {
                    if self.is_open(number, opening) {
                        self.fail(number, fault, out);
                    }
                    continue;
                }
            };
            let action = match frame {
                Ok(None) => return None,
                Ok(Some(frame)) if self.published && is_in_turn(&frame) => {
                    self.held = Some(Held::Frame(frame));
                    continue;
                }
                Ok(Some(frame)) => self.on_frame(frame, out),
                Err(error) => {
                    self.on_frame_error(&error, out);
                    None
                }
            };
            if let Some(action) = action {
                if let Action::Request { channel, opening, .. } = &action {
                    self.awaiting = Some(*channel);
                    self.last_asked = (*channel, *opening);
                }
                // Nothing is queued while frames are read.
                debug_assert!(self.items.is_empty());
                return Some(action);
            }
        }
    }

    /// The channels, and what one of them works with.
    fn split<'a>(&'a mut self, out: &'a mut BytesMut) -> (&'a mut Vec<Slot>, Context<'a>) {
        let context = Context {
            out,
            handed_over: &mut self.handed_over,
            config: &self.config,
            frame_max: self.limits.frame_max_or_all(),
            held_bytes: &mut self.held_bytes,
            now_ms: self.now_ms,
        };
        (&mut self.channels, context)
    }

    /// Queues an action behind the settlements that were read before it.
    fn push(&mut self, action: Action) {
        self.flush_settling();
        self.items.push_back(Item::Action(action));
    }

    fn flush_settling(&mut self) {
        if let Some(Settling { channel, outcome, deliveries }) = self.settling.take()
            && !deliveries.is_empty()
        {
            self.items.push_back(Item::Action(Action::Settle { channel, outcome, deliveries }));
        }
    }

    /// Where the connection is in its life.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        match self.phase {
            Phase::AwaitingHeader | Phase::Starting | Phase::Authenticating { .. } => {
                ConnectionState::Starting
            }
            Phase::Tuning => ConnectionState::Tuning,
            Phase::AwaitingOpen | Phase::Opening => ConnectionState::Opening,
            Phase::Running if self.blocked => ConnectionState::Blocked,
            Phase::Running => ConnectionState::Running,
            Phase::ClosingByClient | Phase::AwaitingCloseOk => ConnectionState::Closing,
            Phase::Ended => ConnectionState::Closed,
        }
    }

    /// The user's name, once known; empty before.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The virtual host, once asked for; empty before.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// What the client said about itself.
    #[must_use]
    pub fn client_properties(&self) -> &FieldTable {
        &self.client_properties
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How many channels are open.
    #[must_use]
    pub fn open_channels(&self) -> usize {
        self.occupied
    }

    /// Whether any content was read since this was last asked: the client publishes.
    pub fn take_content_came(&mut self) -> bool {
        std::mem::take(&mut self.content_came)
    }

    /// Bytes of messages that are not complete or not committed, of all channels.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// From now on the user's channels on all its connections together are limited so; `None`: they are not.
    pub fn set_channel_quota(&mut self, quota: Option<ChannelQuota>) {
        self.quota = quota;
    }

    /// The open channels, by number.
    pub fn channels(&self) -> impl Iterator<Item = ChannelInfo> {
        self.channels.iter().filter_map(|slot| match slot {
            Slot::Open(channel) => Some(channel.info()),
            Slot::Free | Slot::ClosingByClient | Slot::AwaitingCloseOk { .. } => None,
        })
    }
}
