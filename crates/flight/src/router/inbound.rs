//! What a stream from a client must be before a handler sees it.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use sheaf_retry::Code;

use super::{FlightRouter, check_size};
use crate::error::Error;
use crate::handler::MessageStream;
use crate::ipc::{Kind, inspect};
use crate::message::Message;

impl FlightRouter {
    /// Counts what is received and refuses messages over the limit of the
    /// namespace. Ends after the first error.
    pub(super) fn inbound(&self, messages: MessageStream, limit: usize) -> MessageStream {
        let core = Arc::clone(&self.core);
        let checked = messages.map(move |message| {
            let message = message?;
            check_size(&core.metrics, &message, limit)?;
            core.metrics.received(message.len());
            Ok(message)
        });
        stream::unfold(Some(checked), |checked| async move {
            let mut checked = checked?;
            match checked.next().await? {
                Ok(message) => Some((Ok(message), Some(checked))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    /// Looks at the first message, which must be a schema within the limit,
    /// and puts it back.
    pub(super) async fn schema_first(
        &self,
        mut messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        let first = match messages.next().await {
            Some(first) => first?,
            None => return Err(malformed("the stream is empty; the schema comes first")),
        };
        let limit = self.core.limits.max_schema_bytes;
        if first.header.len() > limit {
            self.core.metrics.rejected("schema");
            return Err(Error::new(
                Code::LimitExceeded,
                format!(
                    "the schema message has {} bytes, max_schema_bytes is {limit}",
                    first.header.len()
                ),
            ));
        }
        check_schema(&first)?;
        Ok(stream::once(async { Ok(first) }).chain(messages).boxed())
    }
}

fn check_schema(first: &Message) -> Result<(), Error> {
    if first.header.is_empty() {
        return Err(malformed("the first message has no header; the schema comes first"));
    }
    match inspect(&first.header)?.kind {
        Kind::Schema => Ok(()),
        other => Err(malformed(format!("the first message is a {other}; the schema comes first"))),
    }
}

fn malformed(text: impl Into<String>) -> Error {
    Error::new(Code::MalformedData, text)
}
