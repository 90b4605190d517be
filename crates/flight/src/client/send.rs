//! A stream of messages on its way to a server.

use arrow_flight::{FlightData, FlightDescriptor};
use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::handler::MessageStream;
use crate::plain::message_to_wire;

/// The messages as Flight sends them, the first with the descriptor, and where
/// an error of the source turns up.
///
/// gRPC has no way to end a request stream with an error: an orderly end would
/// tell the server to keep what it has. So after an error the stream stays
/// open and silent, and the caller, told by the receiver, drops the whole call,
/// which the server sees as broken off.
pub(super) fn outgoing(
    descriptor: FlightDescriptor,
    messages: MessageStream,
) -> (impl Stream<Item = FlightData> + Send + 'static, oneshot::Receiver<Error>) {
    let (failed, failure) = oneshot::channel();
    let state = (Some(descriptor), messages, Some(failed));
    let data = stream::unfold(state, |(mut descriptor, mut messages, failed)| async move {
        match messages.next().await {
            Some(Ok(message)) => {
                let mut data = message_to_wire(message);
                data.flight_descriptor = descriptor.take();
                Some((data, (descriptor, messages, failed)))
            }
            Some(Err(error)) => {
                if let Some(failed) = failed {
                    // Nobody listens any more where the call is over already.
                    drop(failed.send(error));
                }
                std::future::pending().await
            }
            None => None,
        }
    });
    (data, failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::invalid;
    use crate::message::Message;
    use bytes::Bytes;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn an_error_of_the_source_is_no_end_of_the_stream() {
        let message = Message::new(Bytes::from_static(b"h"), Bytes::new());
        let source = stream::iter([Ok(message), Err(invalid("broken"))]).boxed();
        let (data, mut failure) = outgoing(FlightDescriptor::default(), source);
        let mut data = Box::pin(data);
        assert!(data.next().await.unwrap().flight_descriptor.is_some());
        assert!(data.next().now_or_never().is_none());
        assert_eq!(failure.try_recv().unwrap().message(), "broken");
    }
}
