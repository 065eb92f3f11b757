//! Blocking work in several threads at once, for what is not about throughput: connections, channels, declarations.

use std::thread;

use crate::error::BenchError;

/// Runs `work` once for each number below `count`, each in a thread of its own, and gathers what they give, in order.
///
/// # Errors
/// The first worker's that failed; the others still finish.
pub(crate) fn in_parallel<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|index| scope.spawn(move || work(index))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)))
            .collect()
    })
}

/// Of `total` things, how many worker `index` of `count` does.
pub(crate) fn share(total: u64, index: usize, count: usize) -> u64 {
    let (index, count) = (index as u64, count.max(1) as u64);
    total / count + u64::from(index < total % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for (total, count) in [(0, 3), (2, 3), (10, 3), (9, 3), (1, 1)] {
            let shares: Vec<u64> = (0..count).map(|index| share(total, index, count)).collect();
            assert_eq!(shares.iter().sum::<u64>(), total);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn results_come_in_order_and_an_error_is_not_swallowed() {
        assert_eq!(in_parallel(4, Ok).unwrap(), [0, 1, 2, 3]);
        let failing = |index| if index == 2 { Err(BenchError::Usage("two".to_owned())) } else { Ok(index) };
        assert_eq!(in_parallel(4, failing).unwrap_err().to_string(), "two");
    }
}
