//! What `stdout` sinks print, on the standard output of this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bollard::Docker;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use super::names;
use crate::LaunchId;

/// Containers whose standard output is followed.
#[derive(Debug, Default)]
pub(super) struct Prints {
    tasks: Mutex<HashMap<LaunchId, JoinHandle<()>>>,
}

impl Prints {
    /// Follows a container that has started, from its beginning.
    pub(super) fn begin(&self, engine: &Docker, id: &LaunchId) {
        let (engine, name) = (engine.clone(), names::container(id));
        let task = tokio::spawn(async move {
            let options = LogsOptionsBuilder::new().stdout(true).follow(true).build();
            let mut parts = engine.logs(&name, Some(options));
            let mut output = tokio::io::stdout();
            while let Some(part) = parts.next().await {
                let written = match part {
                    Ok(part) => output.write_all(&part.into_bytes()).await,
                    Err(error) => {
                        tracing::warn!(%error, container = name, "what it prints is lost from here");
                        return;
                    }
                };
                if written.is_err() {
                    // Nobody reads it any more.
                    return;
                }
            }
            drop(output.flush().await);
        });
        self.tasks().insert(id.clone(), task);
    }

    /// Waits until all is printed that a container wrote which has ended. Only then it may be
    /// removed.
    pub(super) async fn finish(&self, id: &LaunchId) {
        let task = self.tasks().remove(id);
        if let Some(task) = task {
            drop(task.await);
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, HashMap<LaunchId, JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Prints {
    fn drop(&mut self) {
        for (_, task) in self.tasks().drain() {
            task.abort();
        }
    }
}
