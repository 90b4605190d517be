//! Calling a control plane.

use std::time::Duration;

use sheaf_flight::{ChannelPool, TlsFiles};
use sheaf_pipeline::control::{ClientOptions, ControlClient};
use sheaf_pipeline::registry::{CONTROL_NAME, Component, Filter, Kind};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SharedClock, SystemClock};
use sheaf_terminal::Failure;
use tokio::runtime::Runtime;

use crate::args::ServerArgs;
use crate::secure::Away;

/// What a command calls with.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) control: ControlClient,
    pub(super) pool: ChannelPool,
    /// To look at the health of components under TLS.
    pub(super) health: Option<TlsFiles>,
    pub(super) clock: SharedClock,
}

/// Threads for what a command waits for; its own thread may block.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|error| Failure::new(error.code(), "no threads can be started").because(error))
}

impl Client {
    /// A client of a control plane; nothing is connected yet.
    pub(super) fn new(at: &ServerArgs) -> Result<Self, Failure> {
        let Away { target, config, health } = Away::find(at)?;
        let clock = SystemClock::shared();
        let pool = ChannelPool::new(config, clock.clone());
        let retry = RetryPolicy { max_retries: 2, ..ClientOptions::default().retry };
        let options = ClientOptions { retry, ..ClientOptions::default() };
        let of_control = pool.only_for(CONTROL_NAME);
        let control = ControlClient::new(of_control, target, options, clock.clone());
        Ok(Client { control, pool, health, clock })
    }

    /// The components of a pipeline, or of all of them.
    pub(super) async fn components(
        &self,
        pipeline: Option<&str>,
    ) -> Result<Vec<Component>, Failure> {
        let filter = Filter {
            kinds: vec![Kind::Source, Kind::Processor, Kind::Sink],
            pipeline: pipeline.unwrap_or_default().to_owned(),
            ..Filter::default()
        };
        let found = self.control.components(&filter).await.map_err(|error| failed(&error))?;
        match pipeline {
            Some(name) if found.is_empty() => Err(self.unknown(name).await),
            _ => Ok(found),
        }
    }

    async fn unknown(&self, name: &str) -> Failure {
        let known = match self.control.pipelines(&[], false).await {
            Ok(known) => known,
            Err(error) => return failed(&error),
        };
        let known: Vec<String> = known.into_iter().map(|one| one.plan.id).collect();
        let failure = Failure::new(Code::NotFound, format!("no pipeline {name:?} here"));
        match known.is_empty() {
            true => failure.help("start one with `sheafctl run FILE`"),
            false => failure.help(format!("there are: {}", known.join(", "))),
        }
    }

    /// Waits.
    pub(super) async fn sleep(&self, time: Duration) {
        self.clock.sleep(time).await;
    }
}

/// A call that failed.
pub(super) fn failed(error: &sheaf_flight::Error) -> Failure {
    let failure = Failure::from_error(error);
    match error.code() {
        Code::Unavailable | Code::DeadlineExceeded => failure.help(
            "is a control plane there? `sheafctl run` and `sheafctl server` start one; \
             name another one by --server",
        ),
        _ => failure,
    }
}
