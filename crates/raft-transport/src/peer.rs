//! Another node: its addresses, and the three lanes to it.

mod link;
mod route;

use std::sync::Arc;

use crate::context::Context;
use crate::packet::Lane;
use crate::{Error, NodeId};

pub(crate) use link::{InUse, Link};
pub(crate) use route::Outstanding;

/// Another node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) endpoints: Vec<String>,
    links: [Arc<Link>; 3],
}

impl Peer {
    /// Connects to nothing yet. Call it on a tokio runtime.
    pub(crate) fn new(
        context: &Arc<Context>,
        id: NodeId,
        endpoints: Vec<String>,
    ) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::Config { problems: vec![format!("node {id} has no addresses")] });
        }
        if id == context.config.node_id {
            let problem = format!("node {id} is this node, and no peer of its own");
            return Err(Error::Config { problems: vec![problem] });
        }
        let link = |lane| Link::new(context, id, lane, &endpoints).map(Arc::new);
        let links = [link(Lane::Control)?, link(Lane::Data)?, link(Lane::Bulk)?];
        Ok(Peer { endpoints, links })
    }

    pub(crate) fn link(&self, lane: Lane) -> &Arc<Link> {
        &self.links[lane.index()]
    }

    /// Ends what is under way, and keeps others from beginning.
    pub(crate) fn close(&self) {
        self.links.iter().for_each(|link| link.close());
    }

    /// Lanes that were used, and whether they can be.
    pub(crate) fn health(&self) -> impl Iterator<Item = (Lane, bool)> {
        Lane::ALL.into_iter().filter_map(|lane| Some((lane, self.link(lane).health()?)))
    }
}
