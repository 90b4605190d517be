//! Links within this process: to nodes that are there, and to none that is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_raft::network::{Broken, Lane, Links, Message, Refusal, Service, Topic};
use sheaf_raft::types::{Member, NodeId};
use tokio::sync::watch;

struct Node {
    service: Arc<dyn Service>,
    is_gone: watch::Sender<bool>,
}

/// Which nodes there are.
#[derive(Default)]
pub(crate) struct Net {
    nodes: Mutex<BTreeMap<NodeId, Node>>,
}

impl Net {
    pub(crate) fn add(&self, id: NodeId, service: Arc<dyn Service>) {
        let node = Node { service, is_gone: watch::Sender::new(false) };
        self.nodes.lock().unwrap().insert(id, node);
    }

    /// The node is gone, and so are its streams.
    pub(crate) fn remove(&self, id: NodeId) {
        if let Some(node) = self.nodes.lock().unwrap().remove(&id) {
            node.is_gone.send_replace(true);
        }
    }

    fn find(&self, id: NodeId) -> Result<(Arc<dyn Service>, watch::Receiver<bool>), Broken> {
        let nodes = self.nodes.lock().unwrap();
        let node = nodes.get(&id).ok_or_else(|| Broken::Unreachable {
            node: id,
            problem: "it is not there".to_owned(),
        })?;
        Ok((Arc::clone(&node.service), node.is_gone.subscribe()))
    }
}

/// The links of one node.
pub(crate) struct From {
    pub(crate) node: NodeId,
    pub(crate) net: Arc<Net>,
}

fn refused(node: NodeId, refusal: Refusal) -> Broken {
    Broken::Refused { node, code: refusal.code, problem: refusal.problem }
}

fn cut(node: NodeId) -> Broken {
    Broken::Cut { node, problem: "it went away".to_owned() }
}

async fn gone(mut watch: watch::Receiver<bool>) {
    // An error is the end of the node as well.
    drop(watch.wait_for(|gone| *gone).await);
}

#[async_trait]
impl Links for From {
    async fn call(
        &self,
        to: NodeId,
        _: &Member,
        _: Lane,
        topic: Topic,
        message: Message,
    ) -> Result<Message, Broken> {
        let (service, watch) = self.net.find(to)?;
        tokio::select! {
            answer = service.call(self.node, topic, message) => {
                answer.map_err(|refusal| refused(to, refusal))
            }
            () = gone(watch) => Err(cut(to)),
        }
    }

    async fn stream(
        &self,
        to: NodeId,
        _: &Member,
        _: Lane,
        topic: Topic,
        requests: BoxStream<'static, Message>,
    ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken> {
        let (service, watch) = self.net.find(to)?;
        let answers = service.stream(self.node, topic, requests.map(Ok).boxed());
        let answers = answers.map(move |answer| answer.map_err(|refusal| refused(to, refusal)));
        let end = stream::once(async move { Err(cut(to)) });
        Ok(answers.take_until(gone(watch)).chain(end).boxed())
    }
}
