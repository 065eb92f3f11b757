//! The network between machines: connections whose octets take their time, links that are cut one way or both, machines
//! that are gone with or without a word.
//!
//! As with TCP, what a connection loses is sent again: loss, duplicates and reordering of packets show as delay. What is cut
//! for good shows as silence.

mod endpoint;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::Waker;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use warren_rpc::network::{Network, Wire};

use self::endpoint::Endpoint;
use crate::chance::Chance;
use crate::trace::Trace;

/// A machine. Clients are all on one.
pub(crate) type Host = usize;
/// Where clients are.
pub(crate) const CLIENTS: Host = 1000;

/// A connection's octets that its reader has not taken.
const WINDOW_BYTES: usize = 512 << 10;
/// How often a lost SYN is sent again.
const DIAL_AGAIN_MS: u64 = 500;

/// What a machine listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    Cluster,
    Amqp,
}

/// All machines' network. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<State>>);

struct State {
    machines: BTreeMap<Host, Machine>,
    connections: BTreeMap<u64, Connection>,
    dials: Vec<Dial>,
    next: u64,
    /// From, to.
    cut: BTreeSet<(Host, Host)>,
    /// Milliseconds that are added on a link.
    slow: BTreeMap<(Host, Host), u64>,
    chance: Chance,
    trace: Trace,
}

#[derive(Default)]
struct Machine {
    /// Which start of its process.
    life: u64,
    has_process: bool,
    has_power: bool,
    listeners: BTreeMap<Port, mpsc::Sender<Box<dyn Wire>>>,
}

struct Connection {
    hosts: [Host; 2],
    lives: [u64; 2],
    /// `pipes[i]` is read by `hosts[i]`.
    pipes: [Pipe; 2],
    /// The endpoint is dropped.
    closed: [bool; 2],
}

#[derive(Default)]
struct Pipe {
    on_the_way: VecDeque<(u64, Parcel)>,
    last_due: u64,
    arrived: VecDeque<Vec<u8>>,
    bytes: usize,
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Parcel {
    Octets(Vec<u8>),
    End(End),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

struct Dial {
    due: u64,
    from: Host,
    life: u64,
    to: Host,
    port: Port,
    answer: oneshot::Sender<io::Result<Box<dyn Wire>>>,
}

impl Net {
    pub(crate) fn new(chance: Chance, trace: Trace) -> Self {
        let clients = Machine { life: 1, has_process: true, has_power: true, listeners: BTreeMap::new() };
        Self(Arc::new(Mutex::new(State {
            machines: BTreeMap::from([(CLIENTS, clients)]),
            connections: BTreeMap::new(),
            dials: Vec::new(),
            next: 0,
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            chance,
            trace,
        })))
    }

    /// A process begins on the machine and listens.
    pub(crate) fn start(
        &self,
        host: Host,
        nodes: mpsc::Sender<Box<dyn Wire>>,
        clients: mpsc::Sender<Box<dyn Wire>>,
    ) {
        let mut state = self.0.lock();
        let machine = state.machines.entry(host).or_default();
        machine.life += 1;
        machine.has_process = true;
        machine.has_power = true;
        machine.listeners = BTreeMap::from([(Port::Cluster, nodes), (Port::Amqp, clients)]);
    }

    /// The process is gone. Where the machine has power, its system closes what was open.
    pub(crate) fn stop(&self, host: Host, has_power: bool) {
        let mut state = self.0.lock();
        let State { machines, connections, chance, slow, trace, .. } = &mut *state;
        let Some(machine) = machines.get_mut(&host) else { return };
        let life = machine.life;
        machine.life += 1;
        machine.has_process = false;
        machine.has_power = has_power;
        machine.listeners.clear();
        let now = trace.now_ms();
        for connection in connections.values_mut() {
            for side in 0..2 {
                let own =
                    connection.hosts.get(side) == Some(&host) && connection.lives.get(side) == Some(&life);
                if own && has_power {
                    connection.send(side, Parcel::End(End::Reset), now, chance, slow);
                }
            }
        }
    }

    /// Connects from a machine's present process.
    pub(crate) fn connect(
        &self,
        from: Host,
        to: Host,
        port: Port,
    ) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.0.lock();
        let due = state.trace.now_ms() + 1 + state.delay(from, to);
        let life = state.machines.get(&from).map_or(0, |machine| machine.life);
        state.dials.push(Dial { due, from, life, to, port, answer });
        Box::pin(async move { answered.await.unwrap_or(Err(io::ErrorKind::TimedOut.into())) })
    }

    pub(crate) fn cut(&self, from: Host, to: Host) {
        self.0.lock().cut.insert((from, to));
    }

    pub(crate) fn slow(&self, from: Host, to: Host, delay_ms: u64) {
        self.0.lock().slow.insert((from, to), delay_ms);
    }

    /// All links are as they should be.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        state.cut.clear();
        state.slow.clear();
    }

    /// Closes some connections of a machine as if a router had forgotten them.
    pub(crate) fn reset_some(&self, host: Host) {
        let mut state = self.0.lock();
        let State { connections, chance, slow, trace, .. } = &mut *state;
        let now = trace.now_ms();
        for connection in connections.values_mut() {
            if connection.hosts.contains(&host) && chance.permille(400) {
                connection.send(0, Parcel::End(End::Reset), now, chance, slow);
                connection.send(1, Parcel::End(End::Reset), now, chance, slow);
            }
        }
    }

    /// Hands over what has come to its time.
    pub(crate) fn deliver(&self) {
        let mut wakers = Vec::new();
        let mut answers = Vec::new();
        {
            let mut state = self.0.lock();
            state.answer_dials(&self.0, &mut answers);
            state.move_octets(&mut wakers);
        }
        for (answer, connected) in answers {
            // Whoever dialled has given up: the connection is dropped.
            drop(answer.send(connected));
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

type Answer = (oneshot::Sender<io::Result<Box<dyn Wire>>>, io::Result<Box<dyn Wire>>);

impl State {
    fn delay(&mut self, from: Host, to: Host) -> u64 {
        delay(&mut self.chance, &self.slow, from, to)
    }

    fn is_life(&self, host: Host, life: u64) -> bool {
        self.machines.get(&host).is_some_and(|machine| machine.life == life && machine.has_process)
    }

    fn answer_dials(&mut self, shared: &Arc<Mutex<Self>>, answers: &mut Vec<Answer>) {
        let now = self.trace.now_ms();
        for mut dial in std::mem::take(&mut self.dials) {
            if !self.is_life(dial.from, dial.life) || dial.answer.is_closed() {
                continue;
            }
            if dial.due > now {
                self.dials.push(dial);
                continue;
            }
            let cut = self.cut.contains(&(dial.from, dial.to)) || self.cut.contains(&(dial.to, dial.from));
            let Some(machine) = self.machines.get(&dial.to).filter(|machine| machine.has_power && !cut)
            else {
                dial.due += DIAL_AGAIN_MS;
                self.dials.push(dial);
                continue;
            };
            let (life, listener) = (machine.life, machine.listeners.get(&dial.port).cloned());
            let Some(listener) = listener else {
                answers.push((dial.answer, Err(io::ErrorKind::ConnectionRefused.into())));
                continue;
            };
            self.next += 1;
            let connection = self.next;
            let end = |side| Box::new(Endpoint::new(Arc::clone(shared), connection, side));
            self.connections.insert(
                connection,
                Connection {
                    hosts: [dial.from, dial.to],
                    lives: [dial.life, life],
                    pipes: [Pipe::default(), Pipe::default()],
                    closed: [false, false],
                },
            );
            let (ours, theirs) = (end(0), end(1));
            match listener.try_send(theirs) {
                Ok(()) => answers.push((dial.answer, Ok(ours))),
                Err(refused) => {
                    self.connections.remove(&connection);
                    answers.push((dial.answer, Err(io::ErrorKind::ConnectionRefused.into())));
                    // Dropped where this lock is not held.
                    for end in [ours as Box<dyn Wire>, refused.into_inner()] {
                        answers.push((oneshot::channel().0, Ok(end)));
                    }
                }
            }
        }
    }

    fn move_octets(&mut self, wakers: &mut Vec<Waker>) {
        let now = self.trace.now_ms();
        let Self { machines, connections, cut, chance, slow, trace, .. } = self;
        let alive = |host: Host, life: u64| {
            machines.get(&host).is_some_and(|machine| machine.life == life && machine.has_process)
        };
        let powered = |host: Host| machines.get(&host).is_some_and(|machine| machine.has_power);
        connections.retain(|number, connection| {
            for side in 0..2 {
                let (Some(&host), Some(&other)) =
                    (connection.hosts.get(side), connection.hosts.get(1 - side))
                else {
                    continue;
                };
                let life = connection.lives.get(side).copied().unwrap_or_default();
                let is_closed = connection.closed.get(side) == Some(&true);
                let mut answer_with_reset = false;
                let mut has_ended = false;
                if let Some(pipe) = connection.pipes.get_mut(side) {
                    while pipe.on_the_way.front().is_some_and(|(due, _)| *due <= now) {
                        if cut.contains(&(other, host)) || !powered(host) {
                            // Sent again later.
                            let again = now + chance.within(50, 400);
                            pipe.last_due = pipe.last_due.max(again);
                            pipe.on_the_way.iter_mut().for_each(|(due, _)| *due = (*due).max(again));
                            break;
                        }
                        let Some((_, parcel)) = pipe.on_the_way.pop_front() else { break };
                        match parcel {
                            Parcel::Octets(octets) if alive(host, life) && !is_closed => {
                                trace.octets(*number * 2 + side as u64, &octets);
                                pipe.arrived.push_back(octets);
                            }
                            // There is no such connection there any more.
                            Parcel::Octets(_) => answer_with_reset = true,
                            Parcel::End(end) => pipe.end = Some(end),
                        }
                        wakers.extend(pipe.reader.take());
                        has_ended |= pipe.end.is_some();
                    }
                }
                if has_ended && let Some(own) = connection.pipes.get_mut(1 - side) {
                    wakers.extend(own.writer.take());
                }
                if answer_with_reset {
                    connection.send(side, Parcel::End(End::Reset), now, chance, slow);
                }
            }
            let gone = |side: usize| {
                let at = |list: &[u64; 2]| list.get(side).copied().unwrap_or_default();
                let host = connection.hosts.get(side).copied().unwrap_or_default();
                connection.closed.get(side) == Some(&true) || !alive(host, at(&connection.lives))
            };
            !(gone(0) && gone(1))
        });
    }
}

fn delay(chance: &mut Chance, slow: &BTreeMap<(Host, Host), u64>, from: Host, to: Host) -> u64 {
    // A packet in two hundred is lost and sent again.
    let lost = if chance.permille(5) { chance.within(20, 250) } else { 0 };
    let added = slow.get(&(from, to)).map_or(0, |added| chance.within(added / 2, added + 1));
    chance.within(1, 4) + lost + added
}

impl Connection {
    /// Sends something from that side.
    fn send(
        &mut self,
        side: usize,
        parcel: Parcel,
        now: u64,
        chance: &mut Chance,
        slow: &BTreeMap<(Host, Host), u64>,
    ) {
        let (Some(&from), Some(&to)) = (self.hosts.get(side), self.hosts.get(1 - side)) else { return };
        let due = now + delay(chance, slow, from, to);
        if let Some(pipe) = self.pipes.get_mut(1 - side) {
            pipe.last_due = pipe.last_due.max(due);
            pipe.on_the_way.push_back((pipe.last_due, parcel));
        }
    }
}

/// A node's way to the others: `nN:25672` is machine `N`.
pub(crate) struct NodeNet {
    pub(crate) net: Net,
    pub(crate) host: Host,
}

impl Network for NodeNet {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        let host =
            address.strip_prefix('n').and_then(|rest| rest.split(':').next()).and_then(|n| n.parse().ok());
        match host {
            Some(host) => self.net.connect(self.host, host, Port::Cluster),
            None => Box::pin(async { Err(io::ErrorKind::AddrNotAvailable.into()) }),
        }
    }
}
