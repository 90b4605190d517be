//! Watching over a connection that may break.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_coordinator::{Error, Event, WatchFilter};
use sheaf_proto::coordinator::v1 as proto;
use tonic::Streaming;

use super::{Inner, failed};

struct Watch {
    inner: Arc<Inner>,
    filter: WatchFilter,
    events: Streaming<proto::WatchEvent>,
}

pub(super) async fn open(
    inner: &Arc<Inner>,
    filter: WatchFilter,
) -> Result<BoxStream<'static, Event>, Error> {
    let events = connect(inner, &filter).await?;
    let watch = Watch { inner: Arc::clone(inner), filter, events };
    let next = |mut watch: Watch| async move { watch.next().await.map(|event| (event, watch)) };
    Ok(stream::unfold(watch, next).boxed())
}

async fn connect(
    inner: &Inner,
    filter: &WatchFilter,
) -> Result<Streaming<proto::WatchEvent>, Error> {
    let message = proto::WatchRequest::from(filter);
    let call = |_deadline: Duration| {
        let message = message.clone();
        async move {
            // No deadline in the request: it stands as long as it is wanted.
            let mut client = inner.client()?;
            Ok(client.watch(message).await.map_err(failed)?.into_inner())
        }
    };
    inner.caller.call("watch", Duration::ZERO, call).await
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        let address = self.inner.target().to_string();
        match self.events.message().await {
            Ok(Some(message)) => match Event::try_from(message) {
                Ok(event) => return Some(event),
                Err(error) => {
                    tracing::warn!(address, %error, "event of another version left out");
                    return Some(Event::Missed(1));
                }
            },
            Ok(None) => tracing::info!(address, "watch ended by the server, watching again"),
            Err(error) => tracing::info!(address, %error, "watch broken, watching again"),
        }
        match connect(&self.inner, &self.filter).await {
            Ok(events) => {
                self.events = events;
                Some(Event::Missed(1))
            }
            Err(error) => {
                tracing::warn!(address, %error, "watch ended: the server is not to be reached");
                None
            }
        }
    }
}
