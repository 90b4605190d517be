//! The service.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_flight::{Error, Right};
use sheaf_pipeline::registry::PipelineState;
use sheaf_proto::control::v1 as proto;
use sheaf_proto::control::v1::disturb_component_request::How;
use sheaf_proto::control::v1::pipeline_control_server::{
    PipelineControl as Service, PipelineControlServer,
};
use sheaf_retry::Code;
use tonic::{Request, Response, Status};

use super::token::ServerToken;
use super::{MAX_MESSAGE, TOKEN_HEADER};
use crate::driver::{Disturbance, LogLine};
use crate::runner::{Reloaded, Runner};

/// Starts and stops pipelines for whoever shows the token.
#[derive(Clone)]
pub struct PipelineService {
    runner: Runner,
    token: ServerToken,
    /// Whether pipelines may be started here.
    starts: bool,
}

impl PipelineService {
    /// The right that each method needs in the namespace of the control plane.
    pub const NEEDS: &'static [(&'static str, Right)] = &[
        ("StartPipeline", Right::Change),
        ("StopPipeline", Right::Change),
        ("RestartComponent", Right::Change),
        ("ReloadPipeline", Right::Change),
        ("DisturbComponent", Right::Change),
        ("Logs", Right::Read),
    ];

    /// Serves a runner. Without `starts` it runs what it was started for, and nothing else.
    pub fn new(runner: Runner, token: ServerToken, starts: bool) -> Self {
        PipelineService { runner, token, starts }
    }

    /// The service for a `tonic` router.
    pub fn into_server(self) -> PipelineControlServer<PipelineService> {
        PipelineControlServer::new(self).max_decoding_message_size(MAX_MESSAGE)
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let shown = request.metadata().get(TOKEN_HEADER).and_then(|value| value.to_str().ok());
        if shown.is_some_and(|shown| self.token.is(shown)) {
            return Ok(());
        }
        let text = "starting and stopping programs needs the token of this server: \
                    it is in control-token in its --data-dir; use the same --data-dir";
        Err(status(Error::new(Code::Unauthenticated, text)))
    }
}

fn status(error: Error) -> Status {
    Status::from(error)
}

fn failed(error: crate::runner::Error) -> Status {
    match &error {
        // Drawn with all its places it may be longer than a header can be.
        crate::runner::Error::Spec(report) => {
            let (file, errors) = (report.file(), report.errors());
            let text =
                format!("{file} cannot be used: {errors} errors; sheafctl validate shows them");
            status(Error::new(Code::InvalidArgument, text))
        }
        _ => status(Error::from_error(error)),
    }
}

fn disturbance(how: How) -> Disturbance {
    let millis = Duration::from_millis;
    match how {
        How::Kill(proto::Kill {}) => Disturbance::Kill,
        How::Pause(proto::Pause { for_ms }) => Disturbance::Pause { time: millis(for_ms) },
        How::Slow(proto::Slow { for_ms, delay_ms }) => {
            Disturbance::Slow { time: millis(for_ms), delay: millis(delay_ms) }
        }
    }
}

fn wire(state: PipelineState) -> proto::PipelineState {
    match state {
        PipelineState::Starting => proto::PipelineState::Starting,
        PipelineState::Running => proto::PipelineState::Running,
        PipelineState::Stopping => proto::PipelineState::Stopping,
        PipelineState::Stopped => proto::PipelineState::Stopped,
        PipelineState::Failed => proto::PipelineState::Failed,
    }
}

#[async_trait]
impl Service for PipelineService {
    async fn start_pipeline(
        &self,
        request: Request<proto::StartPipelineRequest>,
    ) -> Result<Response<proto::StartPipelineResponse>, Status> {
        self.admit(&request)?;
        if !self.starts {
            let text = "this process runs one pipeline; start others with sheafctl run, or start a sheafctl server for them";
            return Err(status(Error::new(Code::FailedPrecondition, text)));
        }
        let proto::StartPipelineRequest { file, name, fresh } = request.into_inner();
        let name = if name.is_empty() { "pipeline.yaml".to_owned() } else { name };
        let started = self.runner.start(&name, &file, fresh).await.map_err(failed)?;
        Ok(Response::new(proto::StartPipelineResponse {
            pipeline: started.pipeline,
            run: started.run,
            instances: u32::try_from(started.instances).unwrap_or(u32::MAX),
            warnings: started.warnings,
        }))
    }

    async fn stop_pipeline(
        &self,
        request: Request<proto::StopPipelineRequest>,
    ) -> Result<Response<proto::StopPipelineResponse>, Status> {
        self.admit(&request)?;
        let proto::StopPipelineRequest { pipeline, now } = request.into_inner();
        let reason = "it was stopped by hand";
        let outcome = self.runner.stop(&pipeline, now, reason).await.map_err(failed)?;
        let (state, reason) = (wire(outcome.state).into(), outcome.reason);
        Ok(Response::new(proto::StopPipelineResponse { state, reason }))
    }

    async fn restart_component(
        &self,
        request: Request<proto::RestartComponentRequest>,
    ) -> Result<Response<proto::RestartComponentResponse>, Status> {
        self.admit(&request)?;
        let proto::RestartComponentRequest { pipeline, component } = request.into_inner();
        let count = self.runner.restart(&pipeline, &component).await.map_err(failed)?;
        let instances = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(proto::RestartComponentResponse { instances }))
    }

    async fn reload_pipeline(
        &self,
        request: Request<proto::ReloadPipelineRequest>,
    ) -> Result<Response<proto::ReloadPipelineResponse>, Status> {
        self.admit(&request)?;
        let proto::ReloadPipelineRequest { file, name } = request.into_inner();
        let name = if name.is_empty() { "pipeline.yaml".to_owned() } else { name };
        let reloaded = self.runner.reload(&name, &file).await.map_err(failed)?;
        let Reloaded { pipeline, run, generation, restarted, started, stopped, .. } = reloaded;
        let (kept, warnings) = (reloaded.kept, reloaded.warnings);
        Ok(Response::new(proto::ReloadPipelineResponse {
            pipeline,
            run,
            generation,
            restarted,
            started,
            stopped,
            kept: u32::try_from(kept).unwrap_or(u32::MAX),
            warnings,
        }))
    }

    async fn disturb_component(
        &self,
        request: Request<proto::DisturbComponentRequest>,
    ) -> Result<Response<proto::DisturbComponentResponse>, Status> {
        self.admit(&request)?;
        let proto::DisturbComponentRequest { pipeline, component, how } = request.into_inner();
        let how = how.ok_or_else(|| {
            let text = "say what is to be done to it: kill, pause or slow";
            status(Error::new(Code::InvalidArgument, text))
        })?;
        let how = disturbance(how);
        let instances = self.runner.disturb(&pipeline, &component, how).await.map_err(failed)?;
        Ok(Response::new(proto::DisturbComponentResponse { instances }))
    }

    type LogsStream = BoxStream<'static, Result<proto::LogLine, Status>>;

    /// Lines are read only as fast as the reader takes them from the connection.
    async fn logs(
        &self,
        request: Request<proto::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        self.admit(&request)?;
        let proto::LogsRequest { pipeline, component, tail, follow } = request.into_inner();
        let places = self.runner.named(&pipeline, &component).await.map_err(failed)?;
        let tail = usize::try_from(tail).unwrap_or(usize::MAX);
        let lines = self.runner.driver().logs(&places, tail, follow).await;
        let lines = lines.map_err(|error| failed(error.into()))?;
        let lines = lines.map(|LogLine { at, instance, is_error, text }| {
            Ok(proto::LogLine { at: at.as_micros(), instance, is_error, text })
        });
        Ok(Response::new(lines.boxed()))
    }
}

impl fmt::Debug for PipelineService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineService").field("runner", &self.runner).finish_non_exhaustive()
    }
}

/// How long calls that are not without end may take where the caller says nothing.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(60);
