//! What of this program is in memory.
//!
//! Much of it is needed only when it starts, or when a pipeline does, and the system maps 64 KiB at
//! a time: most of a control plane's memory would be code and constants of no use any more.

#[cfg(target_os = "linux")]
mod file;

#[cfg(target_os = "linux")]
use std::time::Duration;

use sheaf_retry::SharedClock;
use tokio_util::task::AbortOnDropHandle;

/// How often they are given back.
#[cfg(target_os = "linux")]
const EVERY: Duration = Duration::from_secs(10);

/// The allocator asks for pages of 2 MiB, of which a program that holds little fills few: they
/// are a third of its memory.
pub(crate) fn use_small() {
    // Where that is not to be had, it runs just as well.
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

/// What gives pages back, until it is dropped.
pub(crate) type GivesBack = AbortOnDropHandle<()>;

/// Gives back the pages of this program's file again and again, until what this gives is dropped.
#[cfg(target_os = "linux")]
pub(crate) fn give_back(clock: &SharedClock) -> GivesBack {
    let clock = SharedClock::clone(clock);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Err(error) = each_time(&clock).await;
        tracing::debug!(%error, "the program's file stays in memory");
    }))
}

#[cfg(target_os = "linux")]
async fn each_time(clock: &SharedClock) -> std::io::Result<std::convert::Infallible> {
    let pages = file::Pages::find()?;
    loop {
        clock.sleep(EVERY).await;
        pages.give_back()?;
    }
}

/// Other systems are not told.
#[cfg(not(target_os = "linux"))]
pub(crate) fn give_back(_: &SharedClock) -> GivesBack {
    AbortOnDropHandle::new(tokio::spawn(async {}))
}
