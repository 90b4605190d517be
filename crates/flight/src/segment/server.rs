//! The side that has the segments.

use std::any::Any;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{MAX_LEASE, SCHEME, pass};
use crate::error::Error;
use crate::server::{LocalListener, SocketFile};

/// Leases at one time: each takes a descriptor of this process.
const MAX_CLIENTS: usize = 1_024;
/// How long a client may take to say which lease it has.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait where the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a lease is for.
pub struct Segment {
    /// The bytes: a file open for reading only, or memory that is sealed
    /// against writing.
    pub file: Arc<File>,
    /// How to read them, one word for the client: `arrow-ipc-file`.
    pub format: &'static str,
    /// Dropped when the client is done with it or gone.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Knows the leases.
#[async_trait]
pub trait SegmentSource: Send + Sync + 'static {
    /// The segment of a lease that somebody brings; a lease is good once.
    ///
    /// # Errors
    /// `not_found` for a lease that there is not, or not any more; whatever
    /// keeps the bytes from being shared. The client reads over the wire then.
    async fn open(&self, lease: &str) -> Result<Segment, Error>;
}

/// Hands segments over on a socket in the file system, until it is dropped.
#[derive(Debug)]
pub struct SegmentServer {
    uri: String,
    _stop: DropGuard,
}

impl SegmentServer {
    /// Begins to serve. Call it on a tokio runtime.
    ///
    /// # Errors
    /// `io` where the listener cannot be used.
    pub fn start(
        listener: LocalListener,
        source: Arc<dyn SegmentSource>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let uri = SegmentServer::uri_of(&listener);
        let (listener, file) = listener.into_tokio()?;
        let stop = CancellationToken::new();
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        let door = Door { source, clock, clients, stop: stop.clone() };
        tokio::spawn(door.serve(listener, file));
        Ok(SegmentServer { uri, _stop: stop.drop_guard() })
    }

    /// Where clients find it, without a lease: `shm+unix:///PATH`.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The same before it is started.
    pub fn uri_of(listener: &LocalListener) -> String {
        format!("{SCHEME}{}", listener.path().display())
    }
}

#[derive(Clone)]
struct Door {
    source: Arc<dyn SegmentSource>,
    clock: SharedClock,
    clients: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Door {
    /// Holds on to the socket's file until it stops.
    async fn serve(self, listener: UnixListener, _file: SocketFile) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let door = self.clone();
                    tokio::spawn(async move {
                        let stop = door.stop.clone();
                        stop.run_until_cancelled(door.client(stream)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client of shared memory");
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn client(&self, mut stream: UnixStream) {
        let Ok(_place) = self.clients.try_acquire() else {
            let text = format!("{MAX_CLIENTS} leases are in use; read over the wire");
            return refuse(&stream, &Error::new(Code::Overloaded, text)).await;
        };
        let asked = tokio::select! {
            asked = lease(&mut stream) => asked,
            () = self.clock.sleep(PATIENCE) => None,
        };
        let Some(lease) = asked else { return };
        let segment = match self.source.open(&lease).await {
            Ok(segment) => segment,
            Err(error) => return refuse(&stream, &error).await,
        };
        let bytes = match segment.file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) => return refuse(&stream, &Error::new(Code::Io, error.to_string())).await,
        };
        let answer = serde_json::json!({ "bytes": bytes, "format": segment.format });
        if answer_with(&stream, &answer, Some(segment.file.as_fd())).await {
            // It says nothing more: whatever comes, the end too, is the end.
            drop(stream.read_u8().await);
        }
    }
}

/// The line that a client begins with.
async fn lease(stream: &mut UnixStream) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await.ok()? {
            b'\n' => return String::from_utf8(line).ok(),
            _ if line.len() == MAX_LEASE => return None,
            byte => line.push(byte),
        }
    }
}

async fn refuse(stream: &UnixStream, error: &Error) {
    let answer = serde_json::json!({ "code": error.code().as_str(), "error": error.message() });
    answer_with(stream, &answer, None).await;
}

/// Whether the client was told.
async fn answer_with(
    stream: &UnixStream,
    answer: &serde_json::Value,
    descriptor: Option<BorrowedFd<'_>>,
) -> bool {
    let line = format!("{answer}\n");
    let send = || pass::send(stream, line.as_bytes(), descriptor);
    stream.async_io(Interest::WRITABLE, send).await.is_ok()
}
