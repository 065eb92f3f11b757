//! A machine's processor: a runtime of its own, in the one thread there is, which works until it has nothing to do.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use tokio::runtime::{Builder, Runtime};

/// How often a runtime must have found nothing to do before its turn ends. Timers are looked at between two times, so that
/// it is once more than what a timer that is due may start.
const IDLE_ROUNDS: u32 = 3;

#[derive(Default)]
struct Idle {
    rounds: AtomicU32,
    waker: AtomicWaker,
}

/// A runtime whose clock stands still while it works: it is the system's, which only a sleeping main thread moves.
pub(crate) struct Processor {
    runtime: Runtime,
    idle: Arc<Idle>,
}

impl Processor {
    pub(crate) fn new() -> io::Result<Self> {
        let idle = Arc::new(Idle::default());
        let parked = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .on_thread_park(move || {
                parked.rounds.fetch_add(1, Ordering::Relaxed);
                // So that it does not really wait.
                parked.waker.wake();
            })
            .build()?;
        Ok(Self { runtime, idle })
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // It ends with the runtime.
        drop(self.runtime.spawn(task));
    }

    /// Does everything that can be done now.
    pub(crate) fn work(&self) {
        self.idle.rounds.store(0, Ordering::Relaxed);
        self.runtime.block_on(poll_fn(|context| {
            self.idle.waker.register(context.waker());
            if self.idle.rounds.load(Ordering::Relaxed) >= IDLE_ROUNDS {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
    }

    /// Does something that may start tasks or timers, outside of any task.
    pub(crate) fn enter<T>(&self, act: impl FnOnce() -> T) -> T {
        let _guard = self.runtime.enter();
        act()
    }
}
