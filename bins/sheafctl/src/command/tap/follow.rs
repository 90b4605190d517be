//! Looks at one sender, wherever its process is.

use std::time::Duration;

use arrow_array::RecordBatch;
use sheaf_dataflow::Look;
use sheaf_flight::{Error, Secret};
use sheaf_pipeline::registry::{Component, Status};
use sheaf_retry::{Class, Code, Retryable as _};
use sheaf_terminal::Failure;
use tokio::sync::mpsc;

use super::super::client::{Client, failed};

/// When a sender that is not there is looked up again.
const AGAIN: Duration = Duration::from_millis(500);

/// A batch that went by, and what was left out before.
pub(super) struct News {
    pub(super) batch: RecordBatch,
    pub(super) missed_batches: u64,
    pub(super) missed_rows: u64,
}

/// Looks at what one instance sends.
pub(super) struct Follow {
    pub(super) edge: String,
    pub(super) place: String,
    pub(super) client: Client,
    pub(super) token: Secret,
    pub(super) news: mpsc::Sender<Result<News, Failure>>,
    /// Whether the registry has been asked with success.
    pub(super) asked: bool,
}

impl Follow {
    /// Until the instance has come to its end, or nobody wants to know any more.
    pub(super) async fn run(mut self) {
        while !self.news.is_closed() {
            match self.look().await {
                Ok(true) => self.client.sleep(AGAIN).await,
                Ok(false) => return,
                // A command that ends does not listen.
                Err(failure) => return drop(self.news.send(Err(failure)).await),
            }
        }
    }

    /// Looks once; `true` where the instance may come back.
    async fn look(&mut self) -> Result<bool, Failure> {
        let found: Component = match self.client.control.component(&self.place).await {
            Ok(found) => found,
            Err(error) if error.code() == Code::NotFound => return Ok(false),
            // The control plane of `sheafctl run` ends with its pipeline.
            Err(error) if self.asked && error.code().class() == Class::Transient => {
                return Ok(false);
            }
            Err(error) => return Err(failed(&error)),
        };
        self.asked = true;
        if !found.status.is_held() {
            return Ok(found.status != Status::Stopped);
        }
        match self.pass_on(&found.address).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.code(), Code::Unauthenticated | Code::NotFound) => {
                let help = "is it of this run? name its run.json by --token-file";
                Err(Failure::from_error(&error).of(&self.place).help(help))
            }
            // A component of somebody's own, whose server has no DoGet at all.
            Err(error) if error.code() == Code::Unimplemented => {
                let text = format!("{} shows nobody what it sends", self.place);
                let help = "look at an edge behind it, or have it answer DoGet of taps/EDGE";
                Err(Failure::new(Code::Unimplemented, text).help(help))
            }
            // Its process is gone, or goes: transient, as is that it was cancelled.
            Err(error) if error.code().class() == Class::Transient => Ok(true),
            Err(error) => Err(failed(&error).of(&self.place)),
        }
    }

    async fn pass_on(&self, address: &str) -> Result<(), Error> {
        let mut look = Look::open(&self.client.pool, address, &self.edge, &self.token).await?;
        let mut before = (0, 0);
        while let Some(glimpse) = look.next().await? {
            let news = News {
                batch: glimpse.batch,
                missed_batches: glimpse.missed_batches.saturating_sub(before.0),
                missed_rows: glimpse.missed_rows.saturating_sub(before.1),
            };
            before = (glimpse.missed_batches, glimpse.missed_rows);
            if self.news.send(Ok(news)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}
