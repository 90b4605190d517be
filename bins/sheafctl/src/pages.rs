//! What of this program is in memory.
//!
//! Much of it runs only when it starts, or when a pipeline does, and the system maps 64 KiB at a
//! time: most of a control plane's memory would be code that nothing runs any more.

#[cfg(target_os = "linux")]
mod code;

use std::time::Duration;

use sheaf_retry::SharedClock;
use tokio_util::task::AbortOnDropHandle;

/// How often code is given back.
const EVERY: Duration = Duration::from_secs(10);

/// The allocator asks for pages of 2 MiB, of which a program that holds little fills few: they
/// are a third of its memory.
pub(crate) fn use_small() {
    // Where that is not to be had, it runs just as well.
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

/// What gives back code, until it is dropped.
pub(crate) type GivesBack = AbortOnDropHandle<()>;

/// Gives back the code of this program again and again, until what this gives is dropped.
pub(crate) fn give_back(clock: &SharedClock) -> GivesBack {
    let clock = SharedClock::clone(clock);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            clock.sleep(EVERY).await;
            #[cfg(target_os = "linux")]
            if let Err(error) = code::give_back() {
                return tracing::debug!(%error, "the program's code stays in memory");
            }
        }
    }))
}
