//! A control plane elsewhere, as commands ask it.

use sheaf_drivers::control::{PipelineClient, ServerToken};
use sheaf_flight::{ChannelPool, Error, TlsFiles};
use sheaf_pipeline::control::{ClientOptions, ControlClient};
use sheaf_pipeline::registry::{CONTROL_NAME, Pipeline, PipelineState};
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SharedClock};
use sheaf_terminal::Failure;

use crate::args::AskArgs;
use crate::secure::Away;

/// See the module.
pub(crate) struct Remote {
    address: String,
    /// What there is, and how it is.
    pub(crate) registry: ControlClient,
    /// What starts and stops.
    pub(crate) pipelines: PipelineClient,
    /// To look at the health of components under TLS.
    pub(crate) health: Option<TlsFiles>,
    pub(crate) clock: SharedClock,
}

impl Remote {
    pub(crate) fn of(args: &AskArgs, clock: &SharedClock) -> Result<Self, Failure> {
        let Away { target, config, health } = Away::find(&args.at)?;
        let pool = ChannelPool::new(config, clock.clone()).only_for(CONTROL_NAME);
        // Whoever waits at a terminal is told soon.
        let retry = RetryPolicy { max_retries: 1, base_ms: 50, ..RetryPolicy::TRANSFER };
        let options = ClientOptions { retry, ..ClientOptions::default() };
        // Without it, what needs it says so.
        let token = ServerToken::read(&args.at.data.token()).ok();
        let registry = ControlClient::new(pool.clone(), target.clone(), options, clock.clone());
        let pipelines = PipelineClient::new(pool, target, token);
        let (address, clock) = (args.at.server.clone(), clock.clone());
        Ok(Remote { address, registry, pipelines, health, clock })
    }

    /// What a call failed with, for people.
    pub(crate) fn failed(&self, error: &Error) -> Failure {
        if error.code() != Code::Unavailable {
            return Failure::from_error(error);
        }
        let message = format!("no control plane answers at {}", self.address);
        Failure::new(Code::Unavailable, message).because(error).help(
            "start one with sheafctl server, or a pipeline with sheafctl run; --server says where it is",
        )
    }

    /// One pipeline, or all.
    pub(crate) async fn pipelines(&self, name: Option<&str>) -> Result<Vec<Pipeline>, Failure> {
        let all = self.registry.pipelines(&[], false).await;
        let all = all.map_err(|error| self.failed(&error))?;
        let Some(name) = name else { return Ok(all) };
        let known: Vec<&str> = all.iter().map(|one| &*one.plan.id).collect();
        let message = format!("no pipeline {name} at {}", self.address);
        let help = match known.is_empty() {
            true => "there is none; start one with sheafctl start FILE".to_owned(),
            false => format!("it has {}", known.join(", ")),
        };
        match all.iter().find(|one| one.plan.id == name) {
            Some(found) => Ok(vec![found.clone()]),
            None => Err(Failure::new(Code::NotFound, message).help(help)),
        }
    }

    /// The pipeline that is meant where none is named: the only one that runs.
    pub(crate) async fn only(&self, name: Option<&str>) -> Result<String, Failure> {
        if let Some(name) = name {
            return Ok(self.pipelines(Some(name)).await?.remove(0).plan.id);
        }
        let all = self.pipelines(None).await?;
        let running: Vec<&str> =
            all.iter().filter(|one| runs(one.state)).map(|one| &*one.plan.id).collect();
        match running[..] {
            [only] => Ok(only.to_owned()),
            [] => Err(Failure::new(Code::NotFound, "no pipeline runs")
                .help("name one of those that ran, as sheafctl ps --all shows them")),
            _ => {
                let message = format!("{} pipelines run", running.len());
                let help = format!("say which: --pipeline {}", running.join(", --pipeline "));
                Err(Failure::new(Code::InvalidArgument, message).help(help))
            }
        }
    }
}

/// Whether a run is under way.
pub(crate) fn runs(state: PipelineState) -> bool {
    !state.is_over()
}
