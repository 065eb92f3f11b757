//! What processes cost: CPU, memory and bytes written to disk, as the kernel counts them. Threads are included, child
//! processes are not.

use std::fs;

use serde::Serialize;

/// What one or several processes have used so far; several are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU, user and system.
    pub(crate) cpu_ns: u64,
    /// Memory in RAM now.
    pub(crate) rss_bytes: u64,
    /// Bytes that went to disk; none when the kernel does not tell (the process is someone else's).
    pub(crate) written_bytes: Option<u64>,
}

/// Kernel clock ticks in a second: 100 on every Linux that a process can see (`USER_HZ`).
const TICK_NS: u64 = 10_000_000;

/// Reads the usage of `pids`, added up. None when one of them is not there.
pub(crate) fn usage(pids: &[u32]) -> Option<Usage> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().try_fold(Usage { written_bytes: Some(0), ..Usage::default() }, |sum, pid| {
        let one = usage_of(*pid)?;
        Some(Usage {
            cpu_ns: sum.cpu_ns + one.cpu_ns,
            rss_bytes: sum.rss_bytes + one.rss_bytes,
            written_bytes: sum.written_bytes.zip(one.written_bytes).map(|(sum, one)| sum + one),
        })
    })
}

fn usage_of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok();
    Some(Usage {
        cpu_ns: cpu_ticks(&stat)? * TICK_NS,
        rss_bytes: number_after(&status, "VmRSS:")? * 1024,
        written_bytes: io.and_then(|io| number_after(&io, "write_bytes:")),
    })
}

/// User and system ticks in the text of `/proc/PID/stat`. The second field is the program's name in parentheses, which may
/// contain spaces and parentheses itself.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_name, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The number in the line of `text` that starts with `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// What processes cost over a stretch of time, as a report shows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// CPU, user and system, of all of them.
    pub(crate) cpu_s: f64,
    /// The same for each message, in microseconds.
    pub(crate) cpu_us_per_message: Option<f64>,
    /// The largest sum of their memory that was seen, once a second.
    pub(crate) rss_peak_bytes: u64,
    /// The sum of their memory at the start.
    pub(crate) rss_start_bytes: u64,
    /// Bytes written to disk.
    pub(crate) written_bytes: Option<u64>,
    /// The same for each message.
    pub(crate) written_bytes_per_message: Option<f64>,
}

impl Cost {
    /// What was used between `before` and `after`, for `messages` messages.
    pub(crate) fn between(before: &Usage, after: &Usage, rss_peak_bytes: u64, messages: u64) -> Self {
        let each = |sum: f64| (messages > 0).then(|| round(sum / messages as f64, 100.0));
        let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
        let written_bytes =
            after.written_bytes.zip(before.written_bytes).map(|(after, before)| after.saturating_sub(before));
        Self {
            cpu_s: round(cpu_ns as f64 / 1e9, 1_000.0),
            cpu_us_per_message: each(cpu_ns as f64 / 1e3),
            rss_peak_bytes: rss_peak_bytes.max(after.rss_bytes),
            rss_start_bytes: before.rss_bytes,
            written_bytes,
            written_bytes_per_message: written_bytes.and_then(|bytes| each(bytes as f64)),
        }
    }
}

/// `value` to a fraction of `1 / parts`.
pub(crate) fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_strange_name_is_read_all_the_same() {
        let stat = "7 (a ) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 6 7 20 0 9 0 100 200 300";
        assert_eq!(cpu_ticks(stat), Some(168));
        assert_eq!(cpu_ticks("7 (a"), None);
    }

    #[test]
    fn this_process_is_there_and_a_sum_needs_them_all() {
        let own = std::process::id();
        let once = usage(&[own]).unwrap();
        let twice = usage(&[own, own]).unwrap();
        assert!(once.rss_bytes > 0 && twice.rss_bytes >= 2 * once.rss_bytes * 9 / 10);
        assert_eq!(usage(&[own, u32::MAX]), None);
        assert_eq!(usage(&[]), None);
    }

    #[test]
    fn a_cost_is_the_difference_for_each_message() {
        let before = Usage { cpu_ns: 1_000_000_000, rss_bytes: 50, written_bytes: Some(1_000) };
        let after = Usage { cpu_ns: 3_000_000_000, rss_bytes: 60, written_bytes: Some(6_000) };
        let cost = Cost::between(&before, &after, 70, 1_000);
        assert_eq!((cost.cpu_s, cost.cpu_us_per_message), (2.0, Some(2_000.0)));
        assert_eq!((cost.rss_peak_bytes, cost.written_bytes_per_message), (70, Some(5.0)));
        assert_eq!(Cost::between(&before, &after, 70, 0).cpu_us_per_message, None);
    }
}
