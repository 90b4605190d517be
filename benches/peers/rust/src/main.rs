//! apalis-redis and bullmq-official on Valkey, as peers of the coordinator.
//!
//! ```text
//! peers NAME enqueue --port P --jobs J --n N
//! peers NAME work    --port P --jobs J --n N [--lease-ms L] [--each]
//! peers NAME trickle --port P --jobs J --pause-ms T
//! peers NAME hold    --port P --lease-ms L
//! ```
//!
//! Each prints one line of JSON at its end; `work` and `hold` the line `ready`
//! when they listen, `hold` also `holding` when it has its job, which it keeps.
//! Times are nanoseconds of the system's clock, which all processes share.

mod apalis;
mod bullmq;
mod common;

use common::{Options, Result};

/// One thread: the server has the other of two cores, and with more threads
/// both peers spend what they win on waking them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (peer, role) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let options = Options::parse(arguments)?;
    match (peer.as_str(), role.as_str()) {
        ("apalis", "enqueue") => apalis::enqueue(options).await,
        ("apalis", "work") => apalis::work(options, false).await,
        ("apalis", "trickle") => apalis::trickle(options).await,
        ("apalis", "hold") => apalis::work(options, true).await,
        ("bullmq", "enqueue") => bullmq::enqueue(options).await,
        ("bullmq", "work") => bullmq::work(options, false).await,
        ("bullmq", "trickle") => bullmq::trickle(options).await,
        ("bullmq", "hold") => bullmq::work(options, true).await,
        _ => Err(format!("no peer {peer:?} with role {role:?}").into()),
    }
}
