//! Until all is well again.

use std::time::Duration;

use sheaf_pipeline::registry::PipelineState;
use sheaf_retry::{Code, HumanDuration};
use sheaf_terminal::{Console, Failure};

use super::act::Chaos;
use super::words::round;
use super::{Now, look};
use crate::remote::runs;
use crate::stats::instance;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

impl Chaos<'_> {
    /// The pipeline now; `None` where its control plane is gone.
    async fn still_there(&self) -> Result<Option<Now>, Failure> {
        match look(self.remote, &self.pipeline).await {
            Ok(now) => Ok(Some(now)),
            Err(failure) if failure.code() == Code::Unavailable => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Waits until all is well again, or it is not going to be.
    pub(super) async fn recover(
        &mut self,
        over: Duration,
        patience: Duration,
        console: &mut Console,
    ) -> Result<(), Failure> {
        let clock = &self.remote.clock;
        clock.sleep(over.saturating_sub(clock.elapsed())).await;
        // Beats from before do not tell how those are that stood still.
        if let Some(now) = self.still_there().await? {
            self.report.beats_from(&now.components);
        }
        let end = clock.elapsed();
        loop {
            let Some(now) = self.still_there().await? else {
                let reason = "the control plane has ended: a pipeline of sheafctl run has come \
                              to its end, or failed; see sheafctl runs";
                self.report.ended(PipelineState::Failed, reason.to_owned());
                return Ok(());
            };
            let took = clock.elapsed().saturating_sub(end);
            self.report.now(&now.components);
            if !runs(now.pipeline.state) {
                let reason = format!("{}: {}", now.pipeline.state.as_str(), now.pipeline.reason);
                self.note(console, &format!("the pipeline has ended: {reason}"));
                self.report.ended(now.pipeline.state, reason);
                return Ok(());
            }
            let ill = now.components.iter().find(|one| !self.report.is_well(one));
            let Some(ill) = ill else {
                self.note(
                    console,
                    &format!("all is well again after {}", HumanDuration(round(took))),
                );
                self.report.well(took);
                return Ok(());
            };
            if took >= patience {
                let (name, status) = (instance(ill), ill.status.as_str());
                let why = format!("{name} is {status} after {}", HumanDuration(patience));
                self.report.ill(match ill.reason.is_empty() {
                    true => why,
                    false => format!("{why}: {}", ill.reason),
                });
                return Ok(());
            }
            clock.sleep(LOOK).await;
        }
    }
}
