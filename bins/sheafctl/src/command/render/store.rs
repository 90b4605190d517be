//! The store of durable edges, as pods call it.

use sheaf_dataflow::DurableAssignment;
use sheaf_flight::Target;
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use crate::args::StoreArgs;

/// The store, where one is given, and pods can call it.
pub(super) fn assigned(given: &StoreArgs) -> Result<Option<DurableAssignment>, Failure> {
    let Some(address) = &given.durable_store else { return Ok(None) };
    let refused = |text: String| Failure::new(Code::InvalidArgument, text).of("--durable-store");
    let target: Target = address.parse().map_err(|error: sheaf_flight::Error| {
        Failure::from_error(&error).of("--durable-store").help("write it as grpc://HOST:PORT")
    })?;
    let host = target.host().trim_matches(['[', ']']);
    let is_here = host.parse().is_ok_and(|host: std::net::IpAddr| host.is_loopback());
    if is_here || host.eq_ignore_ascii_case("localhost") || target.path().is_some() {
        let text = format!("{address} would be the pod itself, and not the store");
        return Err(refused(text).help("write the name that pods call it by"));
    }
    if target.is_tls() {
        let text = format!("{address}: components call their store without TLS");
        return Err(refused(text).help("write it as grpc://HOST:PORT"));
    }
    let token = given.token()?;
    if token.is_some() && !given.durable_insecure {
        let text = "the token would go from pods to the store unencrypted";
        return Err(refused(text.to_owned())
            .help("--durable-insecure allows it, where the network of the cluster is trusted"));
    }
    let retention_ms = u64::try_from(given.durable_retention.as_millis()).unwrap_or(u64::MAX);
    let (store, coordinator) = (address.clone(), address.clone());
    let insecure = given.durable_insecure;
    Ok(Some(DurableAssignment { store, coordinator, token, insecure, retention_ms }))
}
