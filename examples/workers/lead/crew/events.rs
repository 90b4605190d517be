//! What workers say.

use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::Crew;
use crate::workers::child::Child;
use crate::workers::protocol::{Event, Heard, Task};

/// Tasks that fail, and workers that die, before all is given up.
const MOST_FAILURES: u32 = 30;

impl Crew {
    /// Takes what was heard; a note for people, if there is something to say.
    pub(super) fn take(&mut self, heard: Heard) -> Result<Option<String>, Failure> {
        let Heard { slot, pid, event } = heard;
        if self.children[slot as usize].pid != pid {
            // It was replaced.
            return Ok(None);
        }
        let Some(event) = event else { return self.replace(slot, "is gone").map(Some) };
        if self.is_time_to_kill(slot, &event)
            && let Some(kill) = self.kill.take()
        {
            self.children[kill.victim as usize].kill();
            return self.replace(kill.victim, "was killed").map(Some);
        }
        match event {
            Event::Ready { uri } => self.children[slot as usize].uri = Some(uri),
            Event::Sending { .. } => {}
            Event::Broken { why } => {
                let text = format!("worker {slot}: {why}");
                return Err(Failure::new(Code::Internal, text));
            }
            Event::Sent { rows: _, bytes } => {
                if let Some(Task::Send(task)) = self.children[slot as usize].task.take() {
                    self.left.sent(task.input, slot, true);
                }
                self.bytes += bytes;
                let now = self.clock.elapsed();
                self.shuffle = self.shuffle.map(|(from, _)| (from, now));
            }
            Event::Reduced { partition, rows } => {
                self.children[slot as usize].task = None;
                self.left.reduced(partition, true);
                self.rows.insert(partition, rows);
            }
            Event::Lost { partition, peer, why } => {
                self.task_failed(slot)?;
                let text = format!("worker {slot}: partition {partition} at {peer} is lost: {why}");
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn is_time_to_kill(&self, slot: u32, event: &Event) -> bool {
        let last = self.job.sent().last();
        let task = &self.children[slot as usize].task;
        let is_last = matches!(task, Some(Task::Send(task)) if Some(task.input) == last);
        let due = |kill: &super::Kill| kill.is_due(slot, event, self.left.has_sent(kill.victim));
        is_last && self.kill.as_ref().is_some_and(due)
    }

    /// What it was at has to be done again.
    fn task_failed(&mut self, slot: u32) -> Result<(), Failure> {
        match self.children[slot as usize].task.take() {
            Some(Task::Send(task)) => self.left.sent(task.input, slot, false),
            Some(Task::Reduce(task)) => self.left.reduced(task.partition, false),
            None => {}
        }
        self.count_failure(slot)
    }

    /// Starts a worker anew in the place of one that is gone.
    fn replace(&mut self, slot: u32, what: &str) -> Result<String, Failure> {
        self.count_failure(slot)?;
        self.left.worker_lost(slot);
        self.restarts += 1;
        let child = Child::start(slot, &self.arguments, &self.out, self.heard.0.clone())?;
        let old = std::mem::replace(&mut self.children[slot as usize], child);
        Ok(format!("worker {slot} (process {}) {what}: another one takes its place", old.pid))
    }

    fn count_failure(&mut self, slot: u32) -> Result<(), Failure> {
        self.failures += 1;
        if self.failures > MOST_FAILURES {
            let text = format!("worker {slot} fails, the last of {MOST_FAILURES} failures");
            return Err(Failure::new(Code::Unavailable, text).help("the notes above say why"));
        }
        Ok(())
    }
}
