//! Files are read and written beside the runtime where that has threads for it.

use std::io;

/// Runs `work` on a thread that may wait; at once where the runtime has none.
pub(crate) async fn run<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, io::Error>
where
    T: Send + 'static,
    E: Into<io::Error> + Send + 'static,
{
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(done) => done.map_err(Into::into),
            Err(error) => Err(io::Error::other(error)),
        },
        Err(_) => work().map_err(Into::into),
    }
}
