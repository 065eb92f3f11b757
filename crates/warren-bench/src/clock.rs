//! The two clocks of a run. Monotonic nanoseconds count from the machine's start, so that two processes of one machine
//! (a publisher and a consumer) can compare them.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Monotonic nanoseconds since the machine started.
pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds of CPU, user and system, that this process has used so far.
pub(crate) fn own_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// `ns` as the kernel takes a point in time.
pub(crate) fn timespec(ns: u64) -> Timespec {
    let (seconds, rest) = (ns / SECOND_NS, ns % SECOND_NS);
    Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: rest.cast_signed() }
}

/// Seconds as nanoseconds; negative or absurd values are brought into range.
pub(crate) fn seconds_as_ns(seconds: f64) -> u64 {
    // A century: sums of a few of these stay far from the end of u64.
    const LONGEST_S: f64 = 3.2e9;
    (seconds.clamp(0.0, LONGEST_S) * SECOND_NS as f64) as u64
}

/// Nanoseconds as seconds.
pub(crate) fn ns_as_seconds(ns: u64) -> f64 {
    ns as f64 / SECOND_NS as f64
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.cast_unsigned().saturating_mul(SECOND_NS).saturating_add(time.tv_nsec.cast_unsigned())
}
