//! Options of a session: any but `lol_invalid`, in name or in value.

use std::net::SocketAddr;
use std::sync::Arc;

use sheaf_flight::{Error, FlightRouter, Server, SessionProblem, SessionValue};

const INVALID: &str = "lol_invalid";

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    let check = |name: &str, value: &SessionValue| match value {
        _ if name == INVALID => Err(SessionProblem::InvalidName),
        SessionValue::String(text) if text == INVALID => Err(SessionProblem::InvalidValue),
        _ => Ok(()),
    };
    Ok(Server::new(FlightRouter::builder().session_check(Arc::new(check)).build()?))
}
