//! One read barrier for all questions that wait for it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::machine::EngineMachine;
use crate::replica::{Error, Replica};

/// Most questions that one barrier serves, and that wait for the next.
const GROUP: usize = 4_096;

type Reply = oneshot::Sender<Result<(), Error>>;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Barrier {
    inbox: mpsc::Sender<Reply>,
}

impl Barrier {
    /// Starts the task that asks; it ends with the last clone.
    pub(super) fn start<Rp: Replica<EngineMachine>>(replica: Arc<Rp>) -> Self {
        let (inbox, waiting) = mpsc::channel(GROUP);
        tokio::spawn(run(replica, waiting));
        Barrier { inbox }
    }

    /// Returns when what is read afterwards has all that was acknowledged before.
    pub(super) async fn pass(&self) -> Result<(), Error> {
        let (reply, passed) = oneshot::channel();
        let gone = || Error::Unknown { problem: "the task of questions has ended".to_owned() };
        self.inbox.send(reply).await.map_err(|_| gone())?;
        passed.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn run<Rp: Replica<EngineMachine>>(replica: Arc<Rp>, mut waiting: mpsc::Receiver<Reply>) {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        // Whoever asks from here on waits for the next one: only what was acknowledged
        // before the barrier began is sure to be seen.
        let passed = replica.read_barrier().await;
        for reply in group.drain(..) {
            drop(reply.send(passed.clone()));
        }
    }
}
