//! The actions that every Flight port answers.

use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, RenewFlightEndpointRequest,
    Ticket,
};
use bytes::Bytes;
use prost::Message as _;
use sheaf_retry::Code;

use super::FlightRouter;
use super::sessions::{COOKIE, pb};
use crate::error::{Error, invalid};
use crate::handler::CallContext;
use crate::plain::endpoint_to_wire;
use crate::security::Right;

/// Bytes of the body of a standard action: decoded it may take dozens of times
/// as much, and rights are only known by what it holds.
const MAX_BODY: usize = 64 << 10;

/// Names and descriptions of the standard actions.
pub(super) const STANDARD: [(&str, &str); 6] = [
    ("CancelFlightInfo", "Give up what a FlightInfo offers"),
    ("CloseSession", "Close the session of the caller"),
    ("GetSessionOptions", "Options of the caller's session"),
    ("HealthCheck", "Whether the server takes work, as JSON"),
    ("RenewFlightEndpoint", "Make an endpoint good for longer"),
    ("SetSessionOptions", "Set options of the caller's session, opening one where there is none"),
];

/// What an action answers.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// One Result message each.
    pub(crate) results: Vec<Bytes>,
    /// A cookie for the client to keep.
    pub(crate) set_cookie: Option<String>,
}

impl From<Vec<Bytes>> for Reply {
    fn from(results: Vec<Bytes>) -> Self {
        Reply { results, set_cookie: None }
    }
}

impl FlightRouter {
    /// Runs a standard action. Those of the caller's own session, and health,
    /// need no right.
    pub(super) async fn standard_action(
        &self,
        context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Reply, Error> {
        match action {
            "CancelFlightInfo" => self.cancel(context, self.decode(action, body)?).await,
            "RenewFlightEndpoint" => self.renew(context, self.decode(action, body)?).await,
            "SetSessionOptions" => self.set_session_options(context, self.decode(action, body)?),
            "GetSessionOptions" => self.session_options(context),
            "CloseSession" => self.close_session(context),
            _ => Ok(vec![Bytes::from(self.core.health.to_json().to_string())].into()),
        }
    }

    async fn cancel(
        &self,
        context: &CallContext,
        request: CancelFlightInfoRequest,
    ) -> Result<Reply, Error> {
        let endpoints = request.info.map(|info| info.endpoint).unwrap_or_default();
        if endpoints.is_empty() {
            return Err(invalid("the FlightInfo to cancel has no endpoints"));
        }
        let tickets: Option<Vec<Ticket>> =
            endpoints.into_iter().map(|endpoint| endpoint.ticket).collect();
        let tickets = tickets
            .ok_or_else(|| invalid("an endpoint of the FlightInfo to cancel has no ticket"))?;
        let mut all = true;
        for ticket in tickets {
            let route = self.by_ticket(context, &ticket.ticket, Right::Change)?;
            all &= route.cancel(context).await?;
        }
        let status = if all { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
        let result = CancelFlightInfoResult { status: status.into() };
        Ok(vec![result.encode_to_vec().into()].into())
    }

    async fn renew(
        &self,
        context: &CallContext,
        request: RenewFlightEndpointRequest,
    ) -> Result<Reply, Error> {
        let ticket = request.endpoint.and_then(|endpoint| endpoint.ticket);
        let ticket = ticket.ok_or_else(|| invalid("the endpoint to renew has no ticket"))?;
        // It counts as a use, as reading does.
        let route = self.by_ticket(context, &ticket.ticket, Right::Read)?;
        let renewed = route.renew(context).await?;
        Ok(vec![endpoint_to_wire(renewed).encode_to_vec().into()].into())
    }

    fn set_session_options(
        &self,
        context: &CallContext,
        options: pb::Options,
    ) -> Result<Reply, Error> {
        let sessions = &self.core.sessions;
        let (id, set_cookie) = match &context.session {
            Some(id) => (id.clone(), None),
            None => {
                let id = sessions.open(&owner(context)).inspect_err(|error| {
                    self.core.metrics.rejected("sessions");
                    context.caller.refused_at_all(error);
                })?;
                let cookie = format!("{COOKIE}={id}");
                (id, Some(cookie))
            }
        };
        let result = sessions.set(&id, options)?;
        Ok(Reply { results: vec![result.encode_to_vec().into()], set_cookie })
    }

    fn session_options(&self, context: &CallContext) -> Result<Reply, Error> {
        let options = match &context.session {
            Some(id) => self.core.sessions.get(id)?,
            None => pb::Options::default(),
        };
        Ok(vec![options.encode_to_vec().into()].into())
    }

    fn close_session(&self, context: &CallContext) -> Result<Reply, Error> {
        let id = context.session.as_deref();
        let id = id.ok_or_else(|| {
            invalid(format!("there is no session to close: the call has no live cookie {COOKIE}"))
        })?;
        self.core.sessions.close(id)?;
        let closed = pb::CloseResult { status: 1 };
        Ok(Reply {
            results: vec![closed.encode_to_vec().into()],
            set_cookie: Some(format!("{COOKIE}=; Max-Age=0")),
        })
    }

    /// Reads the body of a standard action, if it is short enough for that.
    fn decode<M: prost::Message + Default>(&self, action: &str, body: Bytes) -> Result<M, Error> {
        if body.len() > MAX_BODY {
            self.core.metrics.rejected("action");
            let text = format!(
                "the body of action {action} has {} bytes, at most {MAX_BODY} are allowed",
                body.len()
            );
            return Err(Error::new(Code::LimitExceeded, text));
        }
        M::decode(body).map_err(|error| {
            invalid(format!("the body of action {action} cannot be read: {error}"))
        })
    }
}

/// Whose a new session is: of its token, or of who calls without one.
fn owner(context: &CallContext) -> String {
    match (&context.identity, context.peer) {
        (Some(token), _) => format!("token {token:?}"),
        (None, Some(peer)) => peer.ip().to_string(),
        (None, None) => "this machine".to_owned(),
    }
}
