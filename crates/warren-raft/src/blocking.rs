//! Work that blocks: beside the runtime's threads, or in its place where a simulation has only one.

use tokio::task::JoinError;
use warren_store::simulation;

/// Does `work` where it may block. It is done also when this future is dropped before, but not if that is never polled.
///
/// # Errors
/// The runtime is going down, or the work panicked.
pub async fn blocking<T, F>(work: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if simulation::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
