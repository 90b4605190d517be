//! What a component needs of the control plane, as Flight actions with JSON bodies: whoever
//! has a Flight client needs no gRPC of its own.

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sheaf_flight::{ActionHandler, CallContext, Error, Need, Right};
use sheaf_proto::control::v1 as proto;
use sheaf_retry::Code;

use super::service::ControlService;
use crate::registry::{self, Kind};

/// Longest body.
const MAX_BODY: usize = 1 << 20;

const REGISTER: &str = "RegisterComponent";
const HEARTBEAT: &str = "Heartbeat";
const DEREGISTER: &str = "Deregister";
const STATUS: &str = "GetComponentStatus";

/// Names and one-line descriptions, as ListActions shows them.
const ACTIONS: [(&str, &str); 4] = [
    (
        REGISTER,
        r#"{"id", "type", "token", "incarnation", "address", "healthEndpoint"?, "name"?, "version"?}: take a place"#,
    ),
    (HEARTBEAT, r#"{"id", "incarnation", "sequence", "progress"}: live"#),
    (DEREGISTER, r#"{"id", "incarnation", "reason"?, "totals"?}: leave in good order"#),
    (STATUS, r#"{"id"}: where a component is, and how"#),
];

/// Serves the part of [`ControlService`] that components call.
///
/// Bodies and answers are JSON objects with the names of the calls' fields in camel case; a
/// body is at most 1 MiB. What each of them means is written at the calls in `control.proto`.
#[derive(Clone, Debug)]
pub struct ControlActions {
    service: ControlService,
}

impl ControlActions {
    /// Actions beside `service`.
    pub fn new(service: ControlService) -> Self {
        ControlActions { service }
    }

    async fn register(
        &self,
        body: Registering,
        names: Option<&[String]>,
    ) -> Result<serde_json::Value, Error> {
        let Registering { id, kind, token, incarnation, address, health_endpoint, .. } = body;
        let metadata =
            proto::Metadata { name: body.name, version: body.version, ..Default::default() };
        let request = proto::RegisterComponentRequest {
            id,
            r#type: kind_of(&kind)?.to_wire().into(),
            token,
            incarnation,
            address,
            health_endpoint,
            metadata: Some(metadata),
            ..Default::default()
        };
        let registered = self.service.register(request, names).await.map_err(failed)?;
        Ok(json!({
            "componentId": registered.component_id,
            "fence": registered.fence,
            "created": registered.created,
            "heartbeatMs": registered.heartbeat_ms,
            "unhealthyAfterMs": registered.unhealthy_after_ms,
            "run": registered.run.to_string(),
        }))
    }

    async fn beat(&self, body: Beating) -> Result<serde_json::Value, Error> {
        let Beating { id, incarnation, sequence, progress } = body;
        let request = proto::HeartbeatRequest { id, incarnation, sequence, progress, load: None };
        let beaten = self.service.beat(request).await.map_err(failed)?;
        Ok(json!({ "counted": beaten.counted, "run": beaten.run.to_string() }))
    }

    async fn leave(&self, body: Leaving) -> Result<serde_json::Value, Error> {
        let Leaving { id, incarnation, reason, totals } = body;
        let totals = totals.map(|own| proto::Totals {
            rows_in: own.rows_in,
            batches_in: own.batches_in,
            rows_out: own.rows_out,
            batches_out: own.batches_out,
            failed_batches: 0,
        });
        let request = proto::DeregisterRequest { id, incarnation, reason, totals };
        self.service.leave(request).await.map_err(failed)?;
        Ok(json!({}))
    }

    async fn status(&self, body: Asking) -> Result<serde_json::Value, Error> {
        let found = self.service.component(body.id).await.map_err(failed)?;
        Ok(json!({
            "id": found.id,
            "type": found.kind.as_str(),
            "status": found.status.as_str(),
            "reason": &*found.reason,
            "address": found.address,
            "fence": found.fence,
        }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Registering {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    token: String,
    incarnation: String,
    address: String,
    #[serde(default)]
    health_endpoint: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Beating {
    id: String,
    incarnation: String,
    sequence: u64,
    progress: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Leaving {
    id: String,
    incarnation: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    totals: Option<Counted>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Counted {
    rows_in: Option<u64>,
    batches_in: Option<u64>,
    rows_out: Option<u64>,
    batches_out: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asking {
    id: String,
}

fn kind_of(name: &str) -> Result<Kind, Error> {
    let all = [Kind::Source, Kind::Processor, Kind::Sink];
    all.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
        let text = format!("{REGISTER}.type: {name:?} is none of source, processor and sink");
        Error::new(Code::InvalidArgument, text)
    })
}

fn failed(error: registry::Error) -> Error {
    Error::from_error(error)
}

fn read<T: DeserializeOwned>(action: &str, body: &[u8]) -> Result<T, Error> {
    if body.len() > MAX_BODY {
        let text = format!("{action}: a body of {} bytes, at most {MAX_BODY} are read", body.len());
        return Err(Error::new(Code::LimitExceeded, text));
    }
    serde_json::from_slice(body)
        .map_err(|error| Error::new(Code::InvalidArgument, format!("{action}: {error}")))
}

fn written(answer: &impl Serialize) -> Result<Vec<Bytes>, Error> {
    let text = serde_json::to_vec(answer)
        .map_err(|error| Error::new(Code::Internal, format!("no JSON of it: {error}")))?;
    Ok(vec![text.into()])
}

#[async_trait]
impl ActionHandler for ControlActions {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        ACTIONS.to_vec()
    }

    fn needs(&self, action: &str) -> Need {
        let right = if action == STATUS { Right::Read } else { Right::Write };
        Need::One(ControlService::NAMESPACE, right)
    }

    async fn call(
        &self,
        context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error> {
        let answer = match action {
            REGISTER => self.register(read(action, &body)?, context.certificate_names()).await?,
            HEARTBEAT => self.beat(read(action, &body)?).await?,
            DEREGISTER => self.leave(read(action, &body)?).await?,
            STATUS => self.status(read(action, &body)?).await?,
            other => {
                let text = format!("no action {other:?} here");
                return Err(Error::new(Code::Unimplemented, text));
            }
        };
        written(&answer)
    }
}
