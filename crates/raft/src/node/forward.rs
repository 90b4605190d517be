//! What a follower asks its leader.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::AsyncRuntime;
use sheaf_retry::Code;

use crate::network::{Broken, Lane, Links, Message, Topic, wire};
use crate::replica::Error;
use crate::types::{Member, NodeId};

/// The way of a follower's questions to the leader.
pub(super) struct Forward<R> {
    links: Arc<dyn Links>,
    /// How long an answer may take.
    within: Duration,
    runtime: PhantomData<fn() -> R>,
}

/// What happened to a question.
enum Lost {
    /// It was not asked, or it is certain that nothing came of it.
    Unasked,
    /// What came of it is not known.
    Unknown(String),
}

impl<R: AsyncRuntime> Forward<R> {
    pub(super) fn new(links: Arc<dyn Links>, within: Duration) -> Self {
        Forward { links, within, runtime: PhantomData }
    }

    async fn ask(
        &self,
        (leader, member): (NodeId, &Member),
        (lane, topic): (Lane, Topic),
        message: Message,
    ) -> Result<Message, Lost> {
        let asking = self.links.call(leader, member, lane, topic, message);
        match R::timeout(self.within, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Broken::Unreachable { .. })) => Err(Lost::Unasked),
            // What is refused before it is looked at has no effect; an answer that is too long
            // to be sent is none.
            Ok(Err(Broken::Refused { code, .. }))
                if !matches!(code, Code::Internal | Code::LimitExceeded) =>
            {
                Err(Lost::Unasked)
            }
            Ok(Err(broken)) => Err(Lost::Unknown(broken.to_string())),
            Err(_) => {
                let problem = format!("node {leader} did not answer within {:?}", self.within);
                Err(Lost::Unknown(problem))
            }
        }
    }

    /// Has the leader propose a command, once: whether it is proposed again is the caller's.
    pub(super) async fn propose(
        &self,
        leader: NodeId,
        member: Member,
        command: Bytes,
    ) -> Result<Bytes, Error> {
        let message = wire::propose(command);
        let asked = self.ask((leader, &member), (Lane::Data, Topic::Propose), message).await;
        match asked {
            Ok(reply) => wire::read_propose_reply(reply)
                .unwrap_or_else(|odd| Err(Error::Unknown { problem: odd.problem })),
            Err(Lost::Unasked) => Err(Error::NotLeader { leader: Some((leader, member)) }),
            Err(Lost::Unknown(problem)) => Err(Error::Unknown { problem }),
        }
    }

    /// The index that a read on this node waits for.
    pub(super) async fn read_index(&self, leader: NodeId, member: Member) -> Result<u64, Error> {
        let message = wire::read_index_request();
        let asked = self.ask((leader, &member), (Lane::Control, Topic::ReadIndex), message).await;
        match asked.map(|reply| wire::read_read_index(&reply)) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Error::NotLeader { leader: Some((leader, member)) }),
        }
    }

    /// What another node has.
    pub(super) async fn hello(&self, node: NodeId, member: &Member) -> Option<wire::Hello> {
        let message = wire::hello_request();
        let asked = self.ask((node, member), (Lane::Control, Topic::Hello), message).await;
        asked.ok().and_then(|reply| wire::read_hello(&reply).ok())
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use openraft_rt_tokio::TokioRuntime;

    use super::*;

    /// Refuses everything with this code.
    struct Refusing(Code);

    impl Refusing {
        fn broken(&self, node: NodeId) -> Broken {
            Broken::Refused { node, code: self.0, problem: "no".to_owned() }
        }
    }

    #[async_trait]
    impl Links for Refusing {
        async fn call(
            &self,
            to: NodeId,
            _: &Member,
            _: Lane,
            _: Topic,
            _: Message,
        ) -> Result<Message, Broken> {
            Err(self.broken(to))
        }

        async fn stream(
            &self,
            to: NodeId,
            _: &Member,
            _: Lane,
            _: Topic,
            _: BoxStream<'static, Message>,
        ) -> Result<BoxStream<'static, Result<Message, Broken>>, Broken> {
            Err(self.broken(to))
        }
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_not_said_to_be_undone() {
        let outcome = async |code| {
            let links = Arc::new(Refusing(code));
            let forward = Forward::<TokioRuntime>::new(links, Duration::from_secs(5));
            forward.propose(2, Member::default(), Bytes::new()).await.unwrap_err()
        };
        for code in [Code::Internal, Code::LimitExceeded] {
            assert!(matches!(outcome(code).await, Error::Unknown { .. }), "{code:?}");
        }
        assert!(matches!(outcome(Code::Unauthenticated).await, Error::NotLeader { .. }));
    }
}
