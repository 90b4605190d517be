//! A listener that is served on a thread of its own.
//!
//! Tests that block their thread can so stand between two processes, and a
//! test's own runtime cannot hold up what passes through.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Error, free_port};

/// A running proxy; dropping it ends it with all of its connections.
#[derive(Debug)]
pub(super) struct Background {
    addr: SocketAddr,
    stop: Option<DropGuard>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Listens on a free port of 127.0.0.1 and runs `serve` until dropped.
    pub(super) fn start<F, Fut>(name: &str, serve: F) -> Result<Self, Error>
    where
        F: FnOnce(TcpListener) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let listener = free_port()?.into_listener();
        let addr = listener.local_addr().map_err(Error::io("read the address of a listener"))?;
        listener.set_nonblocking(true).map_err(Error::io("prepare a listener"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("start a runtime"))?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).map_err(Error::io("serve a listener"))?
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // The tasks of connections end with the runtime.
                runtime.block_on(stopped.run_until_cancelled(serve(listener)));
            })
            .map_err(Error::io("start a thread"))?;
        Ok(Background { addr, stop: Some(stop.drop_guard()), thread: Some(thread) })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed; one here would hide others.
            drop(thread.join());
        }
    }
}
