//! Lineage.

use sheaf_proto::coordinator::v1 as proto;

use super::spec::state;
use super::{from_all, id, not_empty, to_all};
use crate::contract::Error;
use crate::model::State;
use crate::request::{Direction, Lineage, LineageLink, LineageNode, LineageQuery};

impl From<&LineageQuery> for proto::LineageQuery {
    fn from(query: &LineageQuery) -> Self {
        proto::LineageQuery {
            id: query.id.as_str().to_owned(),
            direction: query.direction.to_wire(),
            depth: query.depth,
            limit: query.limit,
        }
    }
}

impl TryFrom<proto::LineageQuery> for LineageQuery {
    type Error = Error;

    fn try_from(message: proto::LineageQuery) -> Result<Self, Error> {
        Ok(LineageQuery {
            id: id("lineage.id", &message.id)?,
            direction: Direction::from_wire(message.direction)?,
            depth: message.depth,
            limit: message.limit,
        })
    }
}

impl From<&LineageNode> for proto::LineageNode {
    fn from(node: &LineageNode) -> Self {
        proto::LineageNode {
            id: node.id.as_str().to_owned(),
            depth: node.depth,
            state: node.state.map_or(0, State::to_wire),
            queue: node.queue.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::LineageNode> for LineageNode {
    type Error = Error;

    fn try_from(message: proto::LineageNode) -> Result<Self, Error> {
        Ok(LineageNode {
            id: id("nodes.id", &message.id)?,
            depth: message.depth,
            state: state(message.state)?,
            queue: not_empty(message.queue),
        })
    }
}

impl From<&LineageLink> for proto::LineageLink {
    fn from(link: &LineageLink) -> Self {
        proto::LineageLink {
            parent: link.parent.as_str().to_owned(),
            child: link.child.as_str().to_owned(),
        }
    }
}

impl TryFrom<proto::LineageLink> for LineageLink {
    type Error = Error;

    fn try_from(message: proto::LineageLink) -> Result<Self, Error> {
        Ok(LineageLink {
            parent: id("links.parent", &message.parent)?,
            child: id("links.child", &message.child)?,
        })
    }
}

impl From<&Lineage> for proto::Lineage {
    fn from(lineage: &Lineage) -> Self {
        proto::Lineage {
            nodes: to_all(&lineage.nodes),
            links: to_all(&lineage.links),
            truncated: lineage.truncated,
        }
    }
}

impl TryFrom<proto::Lineage> for Lineage {
    type Error = Error;

    fn try_from(message: proto::Lineage) -> Result<Self, Error> {
        Ok(Lineage {
            nodes: from_all(message.nodes)?,
            links: from_all(message.links)?,
            truncated: message.truncated,
        })
    }
}
