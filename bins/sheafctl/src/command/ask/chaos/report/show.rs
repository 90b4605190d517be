//! A report, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sheaf_pipeline::registry::PipelineState;
use sheaf_retry::{Code, HumanDuration};
use sheaf_terminal::{Console, Failure, Table};

use super::super::words::round;
use super::{End, Report};

impl Report {
    /// Shows it; an error where the pipeline has not borne it.
    pub(in super::super) fn tell(
        &self,
        as_json: bool,
        console: &mut Console,
    ) -> Result<(), Failure> {
        match as_json {
            true => console.json(&self.json())?,
            false => self.show(console)?,
        }
        let pipeline = &self.pipeline;
        match &self.end {
            End::Well(_) | End::Ended(PipelineState::Stopped, _) => Ok(()),
            End::Ended(_, reason) => Err(Failure::new(
                Code::FailedPrecondition,
                format!("{pipeline} has not borne it: {reason}"),
            )
            .exits(1)),
            End::Ill(why) => Err(Failure::new(
                Code::FailedPrecondition,
                format!("{pipeline} is not well again: {why}"),
            )
            .exits(1)),
        }
    }

    fn show(&self, console: &mut Console) -> Result<(), Failure> {
        let mut table = Table::new(["component"]).right("restarts");
        for (name, restarts) in self.restarted() {
            table.row([name.clone(), restarts.to_string()]);
        }
        if !table.is_empty() {
            console.table(&table)?;
        }
        let count = self.done.len();
        let total: u32 = self.restarted().map(|(_, restarts)| restarts).sum();
        let end = match &self.end {
            End::Well(took) => {
                format!("healthy, {} after the last of it was over", HumanDuration(round(*took)))
            }
            End::Ended(_, reason) => format!("ended: {reason}"),
            End::Ill(why) => format!("not healthy: {why}"),
        };
        let pipeline = &self.pipeline;
        console.data(&format!("{pipeline}: {count} disturbances, {total} restarts, {end}\n"))
    }

    fn restarted(&self) -> impl Iterator<Item = (&String, u32)> {
        let counts = self.restarts.iter();
        let counts = counts.map(|(name, (before, now))| (name, now.saturating_sub(*before)));
        counts.filter(|(_, count)| *count > 0)
    }

    fn json(&self) -> Value {
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let done = self.done.iter().map(|(at, what)| json!({ "atMs": millis(at), "what": what }));
        let restarts: BTreeMap<&String, u32> = self.restarted().collect();
        let (healthy, recovery, reason) = match &self.end {
            End::Well(took) => (true, Some(millis(took)), None),
            End::Ended(state, reason) => (*state == PipelineState::Stopped, None, Some(reason)),
            End::Ill(why) => (false, None, Some(why)),
        };
        json!({
            "pipeline": self.pipeline,
            "disturbances": done.collect::<Vec<_>>(),
            "restarts": restarts,
            "healthy": healthy,
            "recoveryMs": recovery,
            "reason": reason,
        })
    }
}
