//! Sends one stream over a durable edge, where its component has others that are not: what is
//! registered is acknowledged, as by a reader.

use std::sync::Arc;

use sheaf_retry::Code;

use super::commits::{Output, named};
use super::journal;
use super::link::{Link, Payload};
use crate::error::ComponentError;
use crate::outlet::{Entry, Next, Stream};
use crate::wire::{Feedback, ReaderHello, VERSION};

/// Batches that are registered in one call.
const AT_ONCE: usize = 32;

/// Until all is registered, the end too.
pub(crate) async fn forward(link: Arc<Link>, stream: Arc<Stream>, output: Output) {
    if let Err(error) = run(&link, &stream, &output).await {
        link.fate.fail(error);
    }
}

async fn run(link: &Link, stream: &Stream, output: &Output) -> Result<(), ComponentError> {
    let refused = |error: sheaf_flight::Error| {
        let text = format!("stream {} cannot be sent", stream.name());
        ComponentError::new(Code::Internal, text).because(error)
    };
    let feedback = Feedback { credits: u64::MAX, acknowledged: 0 };
    let (epoch, last, traces) = (0, 0, true);
    let hello = ReaderHello { version: VERSION, fence: 0, epoch, last, traces, feedback };
    let number = stream.attach(&hello).map_err(refused)?;
    loop {
        output.queue.room(link).await?;
        let mut entries = Vec::new();
        let mut next = stream.next_or_wait(number).await;
        let end = loop {
            match next {
                Next::Batch(entry) => entries.push(entry),
                Next::End(end) => break Some(end),
                Next::Over => return Ok(()),
                Next::Replaced => {
                    let text = format!("stream {} has another reader", stream.name());
                    return Err(ComponentError::new(Code::Internal, text));
                }
                Next::Wait => break None,
            }
            if entries.len() == AT_ONCE {
                break None;
            }
            next = stream.next(number);
        };
        let mut acknowledged = entries.last().map(|entry| entry.sequence);
        let mut payloads = Vec::with_capacity(entries.len() + 1);
        for Entry { sequence, bytes, place, trace, .. } in entries {
            let id = named(output.name.batch(link.epoch, sequence), &output.queue)?;
            output.queue.added(bytes);
            let (queue, batches) = (output.queue.name.clone(), vec![place.read().await?]);
            payloads.push(Payload { id, queue, batches, trace });
        }
        if let Some(end) = end {
            let id = named(output.name.end(link.pass, link.graph), &output.queue)?;
            let (queue, batches) = (output.queue.name.clone(), vec![journal::end(link.pass)?]);
            payloads.push(Payload { id, queue, batches, trace: None });
            acknowledged = Some(end);
        }
        if let Some(acknowledged) = acknowledged {
            link.register(&payloads).await?;
            let feedback = Feedback { credits: u64::MAX, acknowledged };
            stream.feedback(number, feedback).map_err(refused)?;
        }
    }
}
