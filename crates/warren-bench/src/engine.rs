//! The load itself: one thread, one epoll, all connections. It wakes for bytes, for room in a socket, for the next message
//! of a fixed rate, and ten times a second to look at the time.

use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::account::{Ledger, Ours};
use crate::arguments::{Mode, Plan};
use crate::clock::{SECOND_NS, monotonic_ns, timespec};
use crate::connection::{After, Connection};
use crate::dialect::{Dialect, Parts, Role};
use crate::error::BenchError;
use crate::measure::{Measure, Window};
use crate::pacing::Pacing;
use crate::producer::Producer;
use crate::progress::Progress;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// All was published, answered and delivered.
    Complete,
    /// Nothing happened any more, but something was still to come.
    Stalled,
    /// The deadline was reached.
    OutOfTime,
    /// A connection failed.
    Failed(BenchError),
}

/// A run's result, still with its connections open.
#[derive(Debug)]
pub(crate) struct Outcome<D: Dialect> {
    pub(crate) measure: Measure,
    pub(crate) window: Window,
    pub(crate) ending: Ending,
    connections: Vec<Connection<D::Role>>,
}

impl<D: Dialect> Outcome<D> {
    /// Ends the connections in good order, if the run itself ended so.
    pub(crate) fn close(&mut self) -> Result<(), BenchError> {
        let connections = std::mem::take(&mut self.connections);
        match self.ending {
            Ending::Complete | Ending::Stalled | Ending::OutOfTime => {
                connections.into_iter().try_for_each(Connection::end::<D>)
            }
            Ending::Failed(_) => Ok(()),
        }
    }
}

/// The load.
#[derive(Debug)]
pub(crate) struct Engine<'a, D: Dialect> {
    plan: &'a Plan,
    epoll: OwnedFd,
    /// Wakes for the next message of a fixed rate: epoll itself counts in milliseconds.
    timer: Option<OwnedFd>,
    armed_ns: u64,
    slots: Vec<Slot<D>>,
    /// Slots that have something to do.
    runnable: Vec<usize>,
    measure: Measure,
    window: Window,
    progress: Progress,
    start_ns: u64,
    warm: bool,
    /// What a run that only consumes waits for.
    expected: u64,
}

#[derive(Debug)]
struct Slot<D: Dialect> {
    connection: Connection<D::Role>,
    is_runnable: bool,
    waits_for_room: bool,
}

/// What a dialect's producers publish.
type Message<D> = <<D as Dialect>::Role as Role>::Message;

/// The timer's place among the slots.
const TIMER: u64 = u64::MAX;
/// How often the time is looked at.
const TICK_NS: u64 = SECOND_NS / 10;
/// Messages that are due within this time of each other are sent at one waking.
const GATHER_NS: u64 = 100_000;
/// Bytes read at once: a frame and its fellows.
const SCRATCH_BYTES: usize = 512 * 1024;
/// Events taken at once.
const EVENTS: usize = 256;

impl<'a, D: Dialect> Engine<'a, D> {
    /// Opens all connections of the plan; the queues must be there. `run` marks this run's messages.
    ///
    /// # Errors
    /// What a broker says, or a connection that cannot be made.
    pub(crate) fn open(plan: &'a Plan, run: u8, expected: u64) -> Result<Self, BenchError> {
        let mut consumers = Vec::new();
        for (index, uri) in (0..plan.consumers).zip(plan.consumer_uris.iter().cycle()) {
            consumers.push(D::open_consumer(plan, uri, index)?);
        }
        let mut producers = Vec::new();
        for (index, uri) in (0..plan.producers).zip(plan.producer_uris.iter().cycle()) {
            producers.push(D::open_producer(plan, uri, index)?);
        }
        let ours = if plan.mode == Mode::ConsumeOnly { Ours::Any } else { Ours::Run(run) };
        let mut measure = Measure::new(Ledger::new(ours, plan.spread()))?;
        // A drain begins with the first subscription.
        let mut window = Window::begin(plan, &mut measure);
        for (index, link) in consumers.iter_mut().enumerate() {
            D::subscribe(plan, index, link)?;
        }
        if plan.mode != Mode::ConsumeOnly {
            window = Window::begin(plan, &mut measure);
        }
        let start_ns = monotonic_ns();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create"))?;
        let mut engine = Self {
            plan,
            epoll,
            timer: None,
            armed_ns: u64::MAX,
            slots: Vec::new(),
            runnable: Vec::new(),
            measure,
            progress: Progress::new(plan, start_ns),
            window,
            start_ns,
            warm: plan.warmup_ns == 0,
            expected,
        };
        for (index, link) in consumers.into_iter().enumerate() {
            let (parts, role) = D::consumer(plan, index, link);
            engine.add(parts, role)?;
        }
        for (index, link) in producers.into_iter().enumerate() {
            let pacing = match plan.rate {
                None => Pacing::Free,
                Some(rate) => Pacing::fixed(rate, index, plan.producers, start_ns),
            };
            let (parts, role) = D::producer(plan, index, run, link, pacing);
            engine.add(parts, role)?;
        }
        if plan.rate.is_some() {
            engine.add_timer()?;
        }
        Ok(engine)
    }

    fn add(&mut self, parts: Parts, role: D::Role) -> Result<(), BenchError> {
        let connection = Connection::new(parts, role)?;
        let index = self.slots.len();
        epoll::add(&self.epoll, connection.stream(), EventData::new_u64(index as u64), EventFlags::IN)
            .map_err(system("epoll_ctl"))?;
        self.slots.push(Slot { connection, is_runnable: true, waits_for_room: false });
        self.runnable.push(index);
        Ok(())
    }

    fn add_timer(&mut self) -> Result<(), BenchError> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .map_err(system("timerfd_create"))?;
        epoll::add(&self.epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)
            .map_err(system("epoll_ctl"))?;
        self.timer = Some(timer);
        Ok(())
    }

    /// Runs until the plan is fulfilled or cannot be.
    pub(crate) fn run(mut self) -> Outcome<D> {
        let ending = self.run_to_end().unwrap_or_else(Ending::Failed);
        // The counts of now, not of the last whole second.
        self.window.watch(self.plan);
        Outcome {
            measure: self.measure,
            window: self.window,
            ending,
            connections: self.slots.into_iter().map(|slot| slot.connection).collect(),
        }
    }

    fn run_to_end(&mut self) -> Result<Ending, BenchError> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut events = Vec::with_capacity(EVENTS);
        for slot in &mut self.slots {
            slot.connection.start(monotonic_ns(), &mut self.measure)?;
        }
        let mut next_tick_ns = 0;
        loop {
            let now_ns = monotonic_ns();
            let is_tick = now_ns >= next_tick_ns;
            if is_tick {
                next_tick_ns = now_ns + TICK_NS;
                self.on_tick(now_ns)?;
            }
            self.work(now_ns)?;
            if let Some(ending) = self.ending(now_ns, is_tick) {
                return Ok(ending);
            }
            self.arm_timer(now_ns)?;
            let wait_ns = if self.runnable.is_empty() { next_tick_ns.saturating_sub(now_ns) } else { 0 };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timespec(wait_ns))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(system("epoll_wait")(error)),
            }
            for event in events.drain(..) {
                let (data, flags) = (event.data, event.flags);
                self.on_event(data.u64(), flags, &mut scratch)?;
            }
        }
    }

    fn on_event(&mut self, token: u64, flags: EventFlags, scratch: &mut [u8]) -> Result<(), BenchError> {
        if token == TIMER {
            self.on_timer();
            return Ok(());
        }
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            slot.connection.read(scratch, monotonic_ns, &mut self.measure)?;
        }
        mark(slot, index, &mut self.runnable);
        Ok(())
    }

    /// Lets every connection that has something to do do it.
    fn work(&mut self, now_ns: u64) -> Result<(), BenchError> {
        // Those that stay eager go to the next round: first the others, and what has come meanwhile, have their turn.
        for index in std::mem::take(&mut self.runnable) {
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            slot.is_runnable = false;
            let after = slot.connection.work(now_ns, &mut self.measure)?;
            if after == After::Eager {
                mark(slot, index, &mut self.runnable);
            }
            let waits_for_room = after == After::Stuck;
            if waits_for_room != slot.waits_for_room {
                slot.waits_for_room = waits_for_room;
                let interest = if waits_for_room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
                epoll::modify(
                    &self.epoll,
                    slot.connection.stream(),
                    EventData::new_u64(index as u64),
                    interest,
                )
                .map_err(system("epoll_ctl"))?;
            }
        }
        Ok(())
    }

    /// Sets the timer to the next message that only time holds back.
    fn arm_timer(&mut self, now_ns: u64) -> Result<(), BenchError> {
        let Some(timer) = &self.timer else {
            return Ok(());
        };
        let next = self
            .slots
            .iter()
            .filter(|slot| !slot.waits_for_room)
            .filter_map(|slot| slot.connection.role.producer().and_then(Producer::next_due_ns));
        let Some(next_ns) = next.min().map(|next_ns| next_ns.max(now_ns + 1)) else {
            return Ok(());
        };
        // At rates beyond one message in this time, several are sent at one waking; each has its own time all the same.
        let next_ns = if next_ns < self.armed_ns.saturating_add(GATHER_NS) && self.armed_ns <= now_ns {
            next_ns.max(self.armed_ns + GATHER_NS)
        } else {
            next_ns
        };
        if next_ns != self.armed_ns {
            self.armed_ns = next_ns;
            let at = Itimerspec { it_interval: timespec(0), it_value: timespec(next_ns) };
            timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &at).map_err(system("timerfd_settime"))?;
        }
        Ok(())
    }

    fn on_timer(&mut self) {
        if let Some(timer) = &self.timer {
            // The count of expirations is of no interest; a timer that was set anew meanwhile has none.
            let _read: Result<usize, Errno> = rustix::io::read(timer, &mut [0; 8]);
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.connection.role.producer().is_some() {
                mark(slot, index, &mut self.runnable);
            }
        }
    }

    fn on_tick(&mut self, now_ns: u64) -> Result<(), BenchError> {
        if !self.warm && now_ns >= self.start_ns + self.plan.warmup_ns {
            self.warm = true;
            self.window = Window::begin(self.plan, &mut self.measure);
        }
        let is_over = self.plan.duration_ns.is_some_and(|duration_ns| now_ns >= self.start_ns + duration_ns);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.connection.acknowledge_rest();
            if !slot.connection.is_flushed() {
                mark(slot, index, &mut self.runnable);
            }
            if is_over && let Some(producer) = slot.connection.role.producer_mut() {
                producer.stop();
            }
        }
        if self.progress.is_due(now_ns) {
            self.window.watch(self.plan);
            let waiting = self.producers().map(Producer::waiting).sum();
            self.progress.print(now_ns, &self.measure, waiting);
        }
        Ok(())
    }

    fn producers(&self) -> impl Iterator<Item = &Producer<Message<D>>> {
        self.slots.iter().filter_map(|slot| slot.connection.role.producer())
    }

    /// Whether the run is over. The books are only read as a whole when `look_closely`.
    fn ending(&self, now_ns: u64, look_closely: bool) -> Option<Ending> {
        if self.is_fulfilled(now_ns, look_closely) {
            return Some(Ending::Complete);
        }
        if now_ns > self.start_ns + self.plan.deadline_ns {
            return Some(Ending::OutOfTime);
        }
        let quiet_since_ns = self.measure.last_ns().max(self.start_ns);
        (now_ns.saturating_sub(quiet_since_ns) > self.plan.patience_ns).then_some(Ending::Stalled)
    }

    fn is_fulfilled(&self, now_ns: u64, look_closely: bool) -> bool {
        let counts = &self.measure.ledger.counts;
        match self.plan.mode {
            Mode::ConsumeOnly => {
                let is_over =
                    self.plan.duration_ns.is_some_and(|duration_ns| now_ns >= self.start_ns + duration_ns);
                is_over || counts.distinct() + counts.foreign >= self.expected
            }
            Mode::Both | Mode::PublishOnly => {
                if !self.producers().all(|producer| producer.is_done() && producer.waiting() == 0) {
                    return false;
                }
                if !self.slots.iter().all(|slot| slot.connection.is_flushed()) {
                    return false;
                }
                if self.plan.mode == Mode::PublishOnly {
                    return true;
                }
                let copies = self.plan.spread().copies();
                let routed = counts.published.saturating_sub(counts.returned);
                counts.distinct() >= routed * copies
                    || look_closely
                        && self.plan.confirm_window.is_some()
                        && self.measure.ledger.missing() == 0
            }
        }
    }
}

/// Puts a slot into the line of those that have something to do.
#[inline]
fn mark<D: Dialect>(slot: &mut Slot<D>, index: usize, runnable: &mut Vec<usize>) {
    if !slot.is_runnable {
        slot.is_runnable = true;
        runnable.push(index);
    }
}

fn system(doing: &'static str) -> impl Fn(Errno) -> BenchError {
    move |error| BenchError::System { doing, source: error.into() }
}
