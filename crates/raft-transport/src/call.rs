//! Calls to a peer: one request, one reply.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::context::Context;
use crate::frame::{Kind, Order, Reason, decode, join, split};
use crate::packet::{Lane, Packet};
use crate::peer::{InUse, Link};
use crate::serve::{action, of_peer};
use crate::{Error, NodeId};

/// The deadline is the caller's, who waits for more than the answer.
const FOREVER: Duration = Duration::from_secs(30 * 86_400);

/// Calls a peer, with a deadline for all of it: the connection, room in the window,
/// the reply.
pub(crate) async fn call(
    context: &Arc<Context>,
    link: &Arc<Link>,
    lane: Lane,
    kind: &str,
    packet: Packet,
    deadline: Duration,
) -> Result<Packet, Error> {
    context.check_size(&packet)?;
    let peer = link.peer;
    let used = OnceLock::new();
    tokio::select! {
        biased;
        done = attempt(context, link, lane, kind, packet, &used) => done,
        closed = link.closed() => Err(match used.get() {
            // It was sent, and may have arrived.
            Some(_) => Error::Ended { peer },
            None => closed,
        }),
        () = context.clock.sleep(deadline) => {
            let error = Error::Deadline { peer, what: kind.to_owned(), after: deadline };
            Err(match used.get() {
                Some(in_use) => InUse::failed(in_use, error),
                // It was not sent: there was no room, or no connection.
                None => context.count(error),
            })
        }
    }
}

async fn attempt(
    context: &Arc<Context>,
    link: &Arc<Link>,
    lane: Lane,
    kind: &str,
    packet: Packet,
    used: &OnceLock<InUse>,
) -> Result<Packet, Error> {
    let peer = link.peer;
    let place = link.gate.enter(packet.len()).await;
    let in_use = link.route().await?;
    // Set once.
    let in_use = used.get_or_init(|| in_use);
    let _outstanding = in_use.outstanding(packet.len());
    let (mut packer, session) = context.packer(peer, lane);
    let packets = [packet];
    let frame = packer.frame(Kind::Request, &packets).message;
    context.metrics.sent(&packets);
    tracing::debug!(target: "transport", kind, bytes = packets[0].len(), "message sent to {peer}");
    let sent = context.clock.elapsed();
    let connection = in_use.connection();
    let options = of_peer().deadline(FOREVER);
    let answer = connection.action(&action(kind), join(&frame), &options).await;
    let answer = answer.map_err(|error| in_use.failed(Error::peer(peer, error)))?;
    let now = context.clock.elapsed();
    let took = now.saturating_sub(sent);
    place.answered(took, now);
    in_use.answered_after(took);
    let reply = reply(context, peer, session, answer).map_err(|error| in_use.failed(error))?;
    tracing::debug!(target: "transport", kind, bytes = reply.len(), "message received from {peer}");
    Ok(reply)
}

/// The one packet of a reply.
fn reply(
    context: &Context,
    peer: NodeId,
    session: u64,
    answer: Vec<bytes::Bytes>,
) -> Result<Packet, Error> {
    let answer = answer.into_iter().next().unwrap_or_default();
    let frame = decode(split(answer)?, context.config.max_frame_bytes())?;
    Order::new(context.ends_to(peer).turned(), session, Kind::Reply).accept(&frame)?;
    context.metrics.received(&frame.packets);
    let mut packets = frame.packets;
    match (packets.pop(), packets.is_empty()) {
        (Some(packet), true) => Ok(packet),
        _ => Err(Error::frame(Reason::Malformed, "a call has one reply")),
    }
}
