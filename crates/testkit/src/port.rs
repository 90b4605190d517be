//! Ports that nobody else takes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use sheaf_retry::{RetryPolicy, SystemClock, retry_blocking_if};

use crate::Error;

/// A free port of 127.0.0.1, held by a listener until it is handed over.
///
/// Port 0 is better wherever the server can say what it got. For one that must
/// be told, reserve all ports of a test first (they then differ), and
/// [`release`](ReservedPort::release) each right before its server starts. A
/// server of this process takes the listener itself:
/// [`into_listener`](ReservedPort::into_listener) leaves no gap at all.
#[derive(Debug)]
pub struct ReservedPort {
    listener: TcpListener,
    addr: SocketAddr,
}

/// Reserves a free port.
///
/// # Errors
/// [`Error::Io`] when loopback has no port left.
///
/// ```
/// let (first, second) = (sheaf_testkit::free_port()?, sheaf_testkit::free_port()?);
/// assert_ne!(first.port(), second.port());
/// # Ok::<(), sheaf_testkit::Error>(())
/// ```
pub fn free_port() -> Result<ReservedPort, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(Error::io("bind a free port of 127.0.0.1"))?;
    let addr = listener.local_addr().map_err(Error::io("read the address of a listener"))?;
    Ok(ReservedPort { listener, addr })
}

impl ReservedPort {
    /// The address, while it is still held.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port, while it is still held.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The listener itself.
    pub fn into_listener(self) -> TcpListener {
        self.listener
    }

    /// Gives the port up, for a process that is started next. The system hands
    /// out other ports first, so it stays free for a while; not for certain.
    pub fn release(self) -> SocketAddr {
        self.addr
    }
}

/// Starts something on a free port, which another process may take between its
/// release and its use: then again.
pub(crate) fn again_if_taken<T>(mut start: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let policy = RetryPolicy { base_ms: 10, ..RetryPolicy::default() };
    let taken = |error: &Error| error.to_string().contains("in use");
    let started = retry_blocking_if(&policy, 0, SystemClock::shared(), |_| start(), taken);
    started.map_err(sheaf_retry::Error::into_last)
}
