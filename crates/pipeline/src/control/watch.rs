//! Watching over a connection that may break.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::Error;
use sheaf_proto::control::v1 as proto;
use tonic::Streaming;

use super::client::Inner;
use crate::registry::{Event, Filter, wire};

struct Watch {
    inner: Arc<Inner>,
    message: proto::WatchComponentsRequest,
    events: Streaming<proto::ComponentEvent>,
}

pub(super) async fn open(
    inner: &Arc<Inner>,
    filter: &Filter,
) -> Result<BoxStream<'static, Event>, Error> {
    let filter = Some(wire::filter_message(filter));
    let message = proto::WatchComponentsRequest { filter, current: true };
    let events = connect(inner, &message).await?;
    let watch = Watch { inner: Arc::clone(inner), message, events };
    let next = |mut watch: Watch| async move { watch.next().await.map(|event| (event, watch)) };
    Ok(stream::unfold(watch, next).boxed())
}

async fn connect(
    inner: &Inner,
    message: &proto::WatchComponentsRequest,
) -> Result<Streaming<proto::ComponentEvent>, Error> {
    // No deadline in the request: it stands as long as it is wanted.
    let attempt = || async {
        let mut client = inner.client()?;
        Ok(client.watch_components(message.clone()).await?.into_inner())
    };
    inner.caller.call("WatchComponents", attempt).await
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        match self.events.message().await {
            Ok(Some(message)) => match wire::event_from(message) {
                Ok(event) => return Some(event),
                Err(error) => {
                    tracing::warn!(%error, "event of another version left out");
                    return Some(Event::Missed(1));
                }
            },
            Ok(None) => tracing::info!("watch ended by the control plane, watching again"),
            Err(error) => tracing::info!(%error, "watch broken, watching again"),
        }
        match connect(&self.inner, &self.message).await {
            Ok(events) => {
                self.events = events;
                Some(Event::Missed(1))
            }
            Err(error) => {
                tracing::warn!(%error, "watch ended: the control plane is not to be reached");
                None
            }
        }
    }
}
