//! A worker: it takes partitions over Flight, and tasks on its standard input.

use std::io::Write as _;
use std::time::Duration;

use sheaf_exchange::shuffle::{self, ExchangeClient, FetchFailed};
use sheaf_terminal::Failure;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;

use super::protocol::{Event, Task};
use super::{Arguments, Job, receive, send, server};

/// What the tasks of a worker need.
pub(crate) struct Worker {
    pub(crate) job: &'static Job,
    pub(crate) arguments: Arguments,
    pub(crate) client: ExchangeClient,
}

/// Works until the standard input ends, which is when the parent wants it or is gone.
pub(crate) async fn run(job: &'static Job, arguments: &Arguments) -> Result<(), Failure> {
    let (server, client) =
        server::start(arguments).await.map_err(|error| Failure::from_error(&error))?;
    let worker = Worker { job, arguments: arguments.clone(), client };
    say(&Event::Ready { uri: server.uri() });
    let (tasks, mut queue) = mpsc::channel::<Task>(1);
    let work = tokio::spawn(async move {
        while let Some(task) = queue.recv().await {
            say(&worker.perform(task).await);
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(task) => drop(tasks.send(task).await),
            Err(error) => say(&Event::Broken { why: format!("{line:?} is no task: {error}") }),
        }
    }
    work.abort();
    server.drain(Duration::from_secs(1)).await;
    Ok(())
}

impl Worker {
    async fn perform(&self, task: Task) -> Event {
        let done = match task {
            Task::Send(task) => send::send(self, &task).await,
            Task::Reduce(task) => receive::reduce(self, &task).await,
        };
        done.unwrap_or_else(|error| failed(error.as_ref()))
    }
}

/// The failure says which partition is to be sent again, if any.
fn failed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Event {
    let mut why = error.to_string();
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.for_each(|cause| why.push_str(&format!(": {cause}")));
    let lost = |partition: u32, peer: &str, why| Event::Lost { partition, peer: peer.into(), why };
    if let Some(failed) = FetchFailed::of(error) {
        return lost(failed.partition.partition(), &failed.peer, why);
    }
    match error.downcast_ref::<shuffle::Error>() {
        Some(shuffle::Error::Send(failed)) => lost(failed.partition.partition(), &failed.peer, why),
        _ => Event::Broken { why },
    }
}

/// Tells the parent; where it is gone there is nothing left to do.
pub(crate) fn say(event: &Event) {
    let said = serde_json::to_string(event).map_err(std::io::Error::from);
    if said.and_then(|line| writeln!(std::io::stdout().lock(), "{line}")).is_err() {
        std::process::exit(1);
    }
}
