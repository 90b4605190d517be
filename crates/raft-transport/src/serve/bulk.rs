//! Bulk transfers that come.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use sheaf_flight::{CallContext, MessageStream};

use super::{Service, of_engine};
use crate::Error;
use crate::bulk::{Opened, answer, unsealed};
use crate::frame::{Kind, Reason};

impl Service {
    pub(super) async fn take_bulk(
        &self,
        caller: &CallContext,
        kind: &str,
        mut messages: MessageStream,
    ) -> Result<Bytes, sheaf_flight::Error> {
        let Some(first) = messages.next().await.transpose()? else {
            let error = Error::frame(Reason::Truncated, "the transfer has no first message");
            return Err(self.refuse(caller, error));
        };
        let greeted = Opened::read(&self.context, first).and_then(|first| {
            let (hello, meta) = first.first()?;
            let (from, session, order) = self.greet(caller, &first.frame, hello, Kind::Bulk)?;
            Ok((first, from, session, order, meta))
        });
        let (first, from, session, order, meta) =
            greeted.map_err(|error| self.refuse(caller, error))?;
        tracing::debug!(target: "transport", kind, "bulk transfer received from {from}");
        let messages = unsealed(Arc::clone(&self.context), first, order, messages);
        let reply = self.engine.bulk(from, kind, meta, messages).await.map_err(of_engine)?;
        Ok(answer(&self.context, from, session, reply))
    }
}
