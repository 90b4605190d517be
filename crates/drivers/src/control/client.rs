//! Calls of a server that runs pipelines.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_flight::{Channel, ChannelPool, Error, Target};
use sheaf_pipeline::registry::PipelineState;
use sheaf_proto::control::v1 as proto;
use sheaf_proto::control::v1::disturb_component_request::How;
use sheaf_proto::control::v1::pipeline_control_client::PipelineControlClient;
use sheaf_retry::{Code, Timestamp};
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;

use super::service::ANSWER_TIME;
use super::token::ServerToken;
use super::{MAX_MESSAGE, TOKEN_HEADER};
use crate::driver::{Disturbance, LogLine};
use crate::runner::{Outcome, Reloaded};

/// A client of one server. Nothing is tried again: to start or stop is asked for once.
#[derive(Clone, Debug)]
pub struct PipelineClient {
    pool: ChannelPool,
    target: Target,
    token: Option<ServerToken>,
}

/// A run that was begun elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteStart {
    /// The pipeline.
    pub pipeline: String,
    /// Which run of it.
    pub run: u64,
    /// How many instances it has.
    pub instances: u32,
    /// What the file may not have meant; empty where there is nothing.
    pub warnings: String,
}

impl PipelineClient {
    /// A client that shows this token; nothing is connected yet.
    pub fn new(pool: ChannelPool, target: Target, token: Option<ServerToken>) -> Self {
        PipelineClient { pool, target, token }
    }

    /// Begins a run of the pipeline of a file.
    ///
    /// # Errors
    /// Those of [`Runner::start`](crate::runner::Runner::start) by their codes, and those of
    /// the connection.
    pub async fn start(&self, name: &str, file: String, fresh: bool) -> Result<RemoteStart, Error> {
        let message = proto::StartPipelineRequest { file, name: name.to_owned(), fresh };
        let mut request = self.request(message)?;
        request.set_timeout(ANSWER_TIME);
        let answer = self.client()?.start_pipeline(request).await?.into_inner();
        let proto::StartPipelineResponse { pipeline, run, instances, warnings } = answer;
        Ok(RemoteStart { pipeline, run, instances, warnings })
    }

    /// Stops a run, and waits until it has ended, however long that takes.
    ///
    /// # Errors
    /// As [`PipelineClient::start`].
    pub async fn stop(&self, pipeline: &str, at_once: bool) -> Result<Outcome, Error> {
        let message = proto::StopPipelineRequest { pipeline: pipeline.to_owned(), now: at_once };
        let answer = self.client()?.stop_pipeline(self.request(message)?).await?.into_inner();
        let state = match answer.state() {
            proto::PipelineState::Failed => PipelineState::Failed,
            _ => PipelineState::Stopped,
        };
        Ok(Outcome { state, reason: answer.reason })
    }

    /// Starts the instances of a component again; answers how many.
    ///
    /// # Errors
    /// As [`PipelineClient::start`].
    pub async fn restart(&self, pipeline: &str, component: &str) -> Result<u32, Error> {
        let (pipeline, component) = (pipeline.to_owned(), component.to_owned());
        let message = proto::RestartComponentRequest { pipeline, component };
        let mut request = self.request(message)?;
        request.set_timeout(ANSWER_TIME);
        Ok(self.client()?.restart_component(request).await?.into_inner().instances)
    }

    /// Brings a run to what a file says now, and waits until it is, however long that takes.
    ///
    /// # Errors
    /// As [`PipelineClient::start`].
    pub async fn reload(&self, name: &str, file: String) -> Result<Reloaded, Error> {
        let message = proto::ReloadPipelineRequest { file, name: name.to_owned() };
        let answer = self.client()?.reload_pipeline(self.request(message)?).await?.into_inner();
        let proto::ReloadPipelineResponse {
            pipeline,
            run,
            generation,
            restarted,
            started,
            stopped,
            kept,
            warnings,
        } = answer;
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        Ok(Reloaded { pipeline, run, generation, restarted, started, stopped, kept, warnings })
    }

    /// Does harm to the instances of a component, and answers which; it does not wait until
    /// that is over.
    ///
    /// # Errors
    /// As [`PipelineClient::start`].
    pub async fn disturb(
        &self,
        pipeline: &str,
        component: &str,
        how: Disturbance,
    ) -> Result<Vec<String>, Error> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let how = match how {
            Disturbance::Kill => How::Kill(proto::Kill {}),
            Disturbance::Pause { time } => How::Pause(proto::Pause { for_ms: millis(time) }),
            Disturbance::Slow { time, delay } => {
                How::Slow(proto::Slow { for_ms: millis(time), delay_ms: millis(delay) })
            }
        };
        let (pipeline, component) = (pipeline.to_owned(), component.to_owned());
        let message = proto::DisturbComponentRequest { pipeline, component, how: Some(how) };
        let mut request = self.request(message)?;
        request.set_timeout(ANSWER_TIME);
        Ok(self.client()?.disturb_component(request).await?.into_inner().instances)
    }

    /// What instances wrote; all of a pipeline where `component` is empty.
    ///
    /// # Errors
    /// As [`PipelineClient::start`]; later ones end the stream.
    pub async fn logs(
        &self,
        pipeline: &str,
        component: &str,
        tail: u32,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, Error>>, Error> {
        let (pipeline, component) = (pipeline.to_owned(), component.to_owned());
        let message = proto::LogsRequest { pipeline, component, tail, follow };
        let lines = self.client()?.logs(self.request(message)?).await?.into_inner();
        let line = |line: Result<proto::LogLine, tonic::Status>| {
            let proto::LogLine { at, instance, is_error, text } = line?;
            Ok(LogLine { at: Timestamp::from_micros(at), instance, is_error, text })
        };
        Ok(lines.map(line).boxed())
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Error> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = AsciiMetadataValue::try_from(token.secret().expose()).map_err(|_| {
                let text = "the token of the server is damaged: remove control-token in its --data-dir, and start it again";
                Error::new(Code::InvalidArgument, text)
            })?;
            request.metadata_mut().insert(TOKEN_HEADER, value);
        }
        Ok(request)
    }

    fn client(&self) -> Result<PipelineControlClient<Channel>, Error> {
        let channel = self.pool.channel(&self.target)?;
        Ok(PipelineControlClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }
}
