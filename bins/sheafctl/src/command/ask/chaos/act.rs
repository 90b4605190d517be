//! Doing it, and saying so.

use std::time::Duration;

use sheaf_drivers::Disturbance;
use sheaf_retry::Code;
use sheaf_terminal::{Console, Failure, compact};

use super::choice::{Choices, Step};
use super::look;
use super::report::Report;
use super::words::{time, words};
use crate::remote::{Remote, runs};
use crate::stats::instance;

/// What was begun, and what has come of it.
pub(super) struct Chaos<'a> {
    pub(super) remote: &'a Remote,
    pub(super) pipeline: String,
    pub(super) quiet: bool,
    pub(super) began: Duration,
    pub(super) report: Report,
}

impl Chaos<'_> {
    pub(super) fn note(&self, console: &mut Console, text: &str) {
        if !self.quiet {
            let time = compact(self.remote.clock.elapsed().saturating_sub(self.began));
            console.note(&format!("{time:>6}  {text}"));
        }
    }

    /// Does it, and answers when it will be over.
    pub(super) async fn disturb(
        &mut self,
        component: &str,
        how: Disturbance,
        console: &mut Console,
    ) -> Result<Duration, Failure> {
        let before = look(self.remote, &self.pipeline).await?;
        let hit = self.remote.pipelines.disturb(&self.pipeline, component, how).await;
        let hit = hit.map_err(|error| self.remote.failed(&error))?;
        let at = self.remote.clock.elapsed();
        let text = format!("{} {}", words(how), hit.join(", "));
        self.note(console, &text);
        self.report.did(at.saturating_sub(self.began), text);
        for name in &hit {
            if let Some(found) = before.components.iter().find(|one| instance(one) == name) {
                self.report.hit(found, how);
            }
        }
        Ok(at + time(how))
    }

    /// One thing after another; who is away at the moment is left alone.
    pub(super) async fn random(
        &mut self,
        mut choices: Choices,
        time: Duration,
        console: &mut Console,
    ) -> Result<Duration, Failure> {
        let clock = &self.remote.clock;
        let until = clock.elapsed().saturating_add(time);
        let mut over = clock.elapsed();
        loop {
            let Step { pause, name, how } = choices.next();
            let left = until.saturating_sub(clock.elapsed());
            clock.sleep(pause.min(left)).await;
            if clock.elapsed() >= until {
                return Ok(over);
            }
            match self.disturb(&name, how, console).await {
                Ok(end) => over = over.max(end),
                Err(failure) if failure.code() == Code::FailedPrecondition => {
                    self.note(
                        console,
                        &format!("{name} is left alone: {}", failure.to_text().trim()),
                    );
                }
                Err(failure) => {
                    let now = look(self.remote, &self.pipeline).await?;
                    if runs(now.pipeline.state) {
                        return Err(failure);
                    }
                    return Ok(over);
                }
            }
        }
    }
}
