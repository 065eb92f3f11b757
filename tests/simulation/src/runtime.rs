//! A machine's processor: a runtime of its own, in the one thread there is, which works until it has nothing to do.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::runtime::{Builder, Runtime};

/// How often a runtime must have found nothing to do before its turn ends. Timers are looked at between two times, so that
/// it is once more than what a timer that is due may start.
const IDLE_ROUNDS: u32 = 3;
/// How often it is asked when its next timer ends.
const ASKED_MOST: u32 = IDLE_ROUNDS + 4;
/// So that there always is a timer.
const LONG: Duration = Duration::from_secs(3600);

#[expect(unsafe_code, reason = "numbers from world.c")]
mod c {
    unsafe extern "C" {
        /// How many nanoseconds the main thread wanted to wait last; 0 if it did not want to.
        pub(super) safe fn simulation_wanted_ns() -> u64;
        pub(super) safe fn simulation_forget_wanted();
    }
}

#[derive(Default)]
struct Idle {
    rounds: AtomicU32,
    waker: AtomicWaker,
}

/// A runtime whose clock stands still while it works: it is the system's, which only a sleeping main thread moves.
pub(crate) struct Processor {
    runtime: Runtime,
    idle: Arc<Idle>,
    /// When its next timer ends.
    wakes_ms: u64,
}

impl Processor {
    pub(crate) fn new() -> io::Result<Self> {
        let idle = Arc::new(Idle::default());
        let parked = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .on_thread_park(move || {
                let rounds = parked.rounds.fetch_add(1, Ordering::Relaxed) + 1;
                // Otherwise it waits, as far as world.c lets it: not at all.
                if rounds < IDLE_ROUNDS || c::simulation_wanted_ns() > 0 || rounds >= ASKED_MOST {
                    parked.waker.wake();
                }
            })
            .build()?;
        drop(runtime.spawn(async {
            loop {
                tokio::time::sleep(LONG).await;
            }
        }));
        Ok(Self { runtime, idle, wakes_ms: 0 })
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // It ends with the runtime.
        drop(self.runtime.spawn(task));
    }

    /// Whether a task was woken from outside, or a timer ends.
    pub(crate) fn has_work(&self, now_ms: u64) -> bool {
        self.wakes_ms <= now_ms || self.runtime.metrics().global_queue_depth() > 0
    }

    /// Does everything that can be done now.
    pub(crate) fn work(&mut self, now_ms: u64) {
        self.idle.rounds.store(0, Ordering::Relaxed);
        c::simulation_forget_wanted();
        self.runtime.block_on(poll_fn(|context| {
            self.idle.waker.register(context.waker());
            if self.idle.rounds.load(Ordering::Relaxed) >= IDLE_ROUNDS {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        // At the next turn, if it did not say.
        self.wakes_ms = now_ms + c::simulation_wanted_ns() / 1_000_000;
    }

    /// Does something that may start tasks or timers, outside of any task.
    pub(crate) fn enter<T>(&self, act: impl FnOnce() -> T) -> T {
        let _guard = self.runtime.enter();
        act()
    }
}
