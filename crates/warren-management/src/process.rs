//! What the operating system says about this process. Absent numbers are 0: a listing must not fail for them.

use std::fs;
use std::time::Instant;

/// Numbers of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) memory_limit_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) open_files_max: u64,
    pub(crate) processors: usize,
}

impl Process {
    /// Reads them. `started` is when this process began to serve.
    pub(crate) fn read(started: Instant) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        // cgroup v2 says "max" where nothing limits.
        let cgroup = fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
        let machine_bytes = kibibytes(&machine, "MemTotal:");
        let limit_bytes =
            cgroup.trim().parse::<u64>().map_or(machine_bytes, |limit| limit.min(machine_bytes));
        Self {
            id: std::process::id(),
            uptime_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            resident_bytes: kibibytes(&status, "VmRSS:"),
            memory_limit_bytes: limit_bytes,
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            open_files_max: soft_limit(&limits, "Max open files"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

fn kibibytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn soft_limit(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_by_field() {
        assert_eq!(kibibytes("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(kibibytes("", "VmRSS:"), 0);
        assert_eq!(
            soft_limit("Max open files            1024                 4096     files\n", "Max open files"),
            1024
        );
        assert_eq!(
            soft_limit("Max open files            unlimited  unlimited  files\n", "Max open files"),
            0
        );
    }
}
