//! Blocking work off the async threads.

use sheaf_retry::Code;

use crate::error::Error;

/// Runs `work` on a thread that may block.
///
/// Arrow's readers and writers have corners where they panic on input that
/// they do not know; such a panic ends this call alone, as an error.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    place: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => {
            // Cancelled means that the runtime shuts down.
            let code = if failed.is_panic() { Code::MalformedData } else { Code::Cancelled };
            Err(Error::external(operation, place, code, failed))
        }
    }
}
