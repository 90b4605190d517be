//! The end of whoever moves a state.

use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Error;
use sheaf_coordinator::migration::{Endpoint, Head, Migration, Phase, Record};
use sheaf_flight::{CallOptions, ChannelPool, FlightConnection};
use sheaf_retry::{Code, Retry, RetryPolicy, Retryable as _, SharedClock};

use super::ACTION;
use super::wire::{self, FillMessage, RecordsMessage, Step, Told};

/// As long as an election takes, and more; each attempt asks another node.
const AGAIN: RetryPolicy = RetryPolicy {
    max_retries: 20,
    base_ms: 100,
    factor: 1.5,
    cap_ms: 1_000,
    jitter: 0.2,
    deadline_ms: None,
};

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The state of a running cluster, to move from and to, by the addresses of its nodes.
///
/// A node that is away is passed over. All calls but `discard` are made again where it is
/// not known what became of them: they do the same twice as once.
#[derive(Debug)]
pub struct RemoteEndpoint {
    nodes: Vec<FlightConnection>,
    /// The one that answered last.
    at: usize,
    name: String,
    clock: SharedClock,
}

impl RemoteEndpoint {
    /// Finds the cluster at any of its nodes.
    ///
    /// # Errors
    /// `unavailable` where none of them answers, `unimplemented` where it is no node of a
    /// cluster, `permission_denied` where the token must not change one (`raft:x`).
    pub async fn connect(
        pool: &ChannelPool,
        nodes: &[String],
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let nodes = nodes.iter().map(|node| pool.connection(node)).collect::<Result<_, _>>();
        let nodes: Vec<_> = nodes.map_err(|error| backend(&error, ""))?;
        if nodes.is_empty() {
            let problem = "are none; name one at least".to_owned();
            return Err(Error::Invalid { field: "nodes", problem });
        }
        let mut endpoint = RemoteEndpoint { nodes, at: 0, name: String::new(), clock };
        match endpoint.ask(Step::Name(true)).await? {
            Told::Name(name) => endpoint.name = name,
            other => return Err(unexpected(&other)),
        }
        Ok(endpoint)
    }

    async fn ask(&mut self, step: Step) -> Result<Told, Error> {
        let once = RetryPolicy::none();
        let policy = if matches!(step, Step::Discard(_)) { &once } else { &AGAIN };
        let body = wire::request(step);
        let (nodes, first) = (&self.nodes, self.at);
        let attempt = |attempt: u32| {
            let body = body.clone();
            async move {
                let at = (first + attempt.saturating_sub(1) as usize) % nodes.len();
                let options = CallOptions::default().deadline(DEADLINE);
                let answer = nodes[at].action(ACTION, body, &options).await;
                answer.map(|answer| (at, answer)).map_err(|error| (at, error))
            }
        };
        let again = |(_, error): &(usize, sheaf_flight::Error)| {
            matches!(error.code(), Code::Unavailable | Code::Draining | Code::DeadlineExceeded)
        };
        let seed = u64::from(std::process::id());
        let answer = Retry::new(policy, seed, self.clock.clone()).run_if(attempt, again).await;
        let (at, answer) = answer.map_err(|error| {
            let (at, error) = error.into_last();
            backend(&error, &nodes[at].target().to_string())
        })?;
        self.at = at;
        wire::read_reply(answer.first().unwrap_or(&bytes::Bytes::new()))
    }

    async fn done(&mut self, step: Step) -> Result<(), Error> {
        match self.ask(step).await? {
            Told::Done(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn backend(error: &sheaf_flight::Error, node: &str) -> Error {
    let operation = match error.code() {
        Code::Unimplemented => {
            format!("{node} is no node of a Raft cluster: name one, such as grpc://localhost:5001")
        }
        _ => error.message().to_owned(),
    };
    Error::Backend { operation, code: error.code(), source: None }
}

fn unexpected(told: &Told) -> Error {
    let operation = format!("{ACTION}: the answer is of another kind: {told:?}");
    Error::Backend { operation, code: Code::Internal, source: None }
}

#[async_trait]
impl Endpoint for RemoteEndpoint {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn phase(&mut self) -> Result<Phase, Error> {
        match self.ask(Step::Phase(true)).await? {
            Told::Phase(phase) => Phase::decode(&phase),
            other => Err(unexpected(&other)),
        }
    }

    async fn enter(&mut self, phase: &Phase) -> Result<(), Error> {
        self.done(Step::Enter(phase.encode().into())).await
    }

    async fn head(&mut self) -> Result<Head, Error> {
        match self.ask(Step::Head(true)).await? {
            Told::Head(head) => head.try_into(),
            other => Err(unexpected(&other)),
        }
    }

    async fn read(&mut self, after: u64) -> Result<Vec<Record>, Error> {
        match self.ask(Step::Read(after)).await? {
            Told::Records(records) => records.read(),
            other => Err(unexpected(&other)),
        }
    }

    async fn fill(&mut self, migration: &Migration, head: &Head) -> Result<u64, Error> {
        match self.ask(Step::Fill(FillMessage::new(migration, head))).await? {
            Told::Last(last) => Ok(last),
            other => Err(unexpected(&other)),
        }
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        let mut left = records;
        while !left.is_empty() {
            let (part, count) = RecordsMessage::first_of(left);
            self.done(Step::Write(part)).await?;
            left = &left[count..];
        }
        Ok(())
    }

    /// Every step is durable when it is answered.
    async fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Error> {
        self.done(Step::Discard(true)).await
    }
}
