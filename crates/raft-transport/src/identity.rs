//! Which node a certificate is for.

use crate::frame::Reason;
use crate::{Config, Error, NodeId};

/// The name that the certificate of a node has among its alternative names, as a URI:
/// `sheaf://CLUSTER/node/ID`. Whoever has the certificate may speak as this node,
/// and as no other.
///
/// ```
/// assert_eq!(sheaf_raft_transport::certificate_name("prod", 3), "sheaf://prod/node/3");
/// ```
pub fn certificate_name(cluster_id: &str, node_id: NodeId) -> String {
    format!("sheaf://{cluster_id}/node/{node_id}")
}

/// Whether a caller with these names in its certificate may speak as a node.
///
/// # Errors
/// [`Reason::Certificate`].
pub(crate) fn check(config: &Config, names: Option<&[String]>, from: NodeId) -> Result<(), Error> {
    let wanted = certificate_name(&config.cluster_id, from);
    let refused = |text| Err(Error::frame(Reason::Certificate, text));
    match names {
        None if config.needs_certificates => refused(format!(
            "the caller says that it is node {from} and shows no certificate; it needs one with the URI {wanted}"
        )),
        None => Ok(()),
        Some(names) if names.contains(&wanted) => Ok(()),
        Some(names) => {
            let found: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
            refused(format!(
                "the caller says that it is node {from}, its certificate is for {}; it needs the URI {wanted}",
                found.join(", ")
            ))
        }
    }
}
