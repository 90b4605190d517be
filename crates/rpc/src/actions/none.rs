//! What a Flight server without a coordinator answers.

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_flight::{ActionHandler, CallContext, Error, Need};
use sheaf_retry::Code;

use super::{ACTIONS, needs};

/// Refuses every action of a coordinator as `failed_precondition`, and says
/// what to do: a client that asks the wrong server learns more than that the
/// action is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCoordinator;

#[async_trait]
impl ActionHandler for NoCoordinator {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        ACTIONS.iter().map(|(name, _)| (*name, "this server has no coordinator")).collect()
    }

    fn needs(&self, action: &str) -> Need {
        needs(action)
    }

    async fn call(
        &self,
        _context: &CallContext,
        action: &str,
        _body: Bytes,
    ) -> Result<Vec<Bytes>, Error> {
        Err(Error::new(
            Code::FailedPrecondition,
            format!(
                "{action}: this Flight server has no coordinator; ask the server that has one, \
                 or start this one with --coordinator grpc://HOST:PORT"
            ),
        ))
    }
}
