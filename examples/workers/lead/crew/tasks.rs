//! Who does what next.

use super::Crew;
use crate::workers::kill::Kill;
use crate::workers::left::Next;
use crate::workers::protocol::{Reduce, Send, Task};

impl Crew {
    /// Whoever has nothing to do; nobody while one is missing, since senders
    /// need the addresses of all.
    pub(super) async fn give_tasks(&mut self) {
        let uris = self.children.iter().map(|child| child.uri.clone());
        let Some(uris) = uris.collect::<Option<Vec<String>>>() else { return };
        let now = self.clock.elapsed();
        self.shuffle.get_or_insert((now, now));
        for slot in 0..self.arguments.workers {
            let is_idle = self.children[slot as usize].task.is_none();
            if !is_idle || self.has_to_wait(slot) {
                continue;
            }
            if let Some(next) = self.left.next(slot) {
                let task = self.task(slot, next, &uris);
                self.children[slot as usize].tell(task).await;
            }
        }
    }

    fn has_to_wait(&self, slot: u32) -> bool {
        let holds = |kill: &Kill| kill.holds_back(slot, self.left.has_sent(kill.victim));
        self.kill.as_ref().is_some_and(holds)
    }

    fn task(&mut self, slot: u32, next: Next, uris: &[String]) -> Task {
        match next {
            Next::Send { input, attempt, only } => {
                self.resent += u32::from(attempt > 1);
                let (partitions, workers) = (self.partitions, uris.to_vec());
                Task::Send(Send { input, share: slot, attempt, only, partitions, workers })
            }
            Next::Reduce { partition, holder } => {
                let (consume, holder) = (holder == slot, uris[holder as usize].clone());
                Task::Reduce(Reduce { partition, holder, consume })
            }
        }
    }
}
