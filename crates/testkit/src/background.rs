//! What runs on a thread of its own, such as a listener that is served.
//!
//! Tests that block their thread can so stand between two processes, and a
//! test's own runtime cannot hold up what passes through.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Error, free_port};

/// What runs on a thread of its own, with a runtime of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Option<DropGuard>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Calls `prepare` at once and within the runtime, and what that makes on the thread.
    pub(crate) fn start<P, W, Fut>(name: &str, prepare: P) -> Result<Self, Error>
    where
        P: FnOnce() -> Result<W, Error>,
        W: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("start a runtime"))?;
        let work = {
            let _inside = runtime.enter();
            prepare()?
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // The tasks that it has started end with the runtime.
                runtime.block_on(stopped.run_until_cancelled(work()));
            })
            .map_err(Error::io("start a thread"))?;
        Ok(Worker { stop: Some(stop.drop_guard()), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed; one here would hide others.
            drop(thread.join());
        }
    }
}

/// A running server; dropping it ends it with all of its connections.
#[derive(Debug)]
pub(crate) struct Background {
    addr: SocketAddr,
    _worker: Worker,
}

impl Background {
    /// Listens on a free port of 127.0.0.1 and runs `serve` until dropped.
    pub(crate) fn start<F, Fut>(name: &str, serve: F) -> Result<Self, Error>
    where
        F: FnOnce(TcpListener) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        Self::start_on(name, free_port()?.into_listener(), serve)
    }

    /// The same on a listener that there is already.
    pub(crate) fn start_on<F, Fut>(
        name: &str,
        listener: std::net::TcpListener,
        serve: F,
    ) -> Result<Self, Error>
    where
        F: FnOnce(TcpListener) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let addr = listener.local_addr().map_err(Error::io("read the address of a listener"))?;
        listener.set_nonblocking(true).map_err(Error::io("prepare a listener"))?;
        let worker = Worker::start(name, move || {
            let listener = TcpListener::from_std(listener);
            let listener = listener.map_err(Error::io("serve a listener"))?;
            Ok(move || serve(listener))
        })?;
        Ok(Background { addr, _worker: worker })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}
