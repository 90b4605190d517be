//! One direction of a connection: bytes from one end to the other, in their time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sheaf_retry::SharedClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::holds::Hold;
use super::link::{Fault, Plan};
use super::replies::{Answers, Requests};

/// Bytes of one read.
const CHUNK: usize = 16 * 1024;
/// Chunks under way: 4 MiB.
const CHUNKS: usize = 256;
/// A throttled direction writes this often in a second.
const SLICES_PER_SECOND: u64 = 20;

/// Reads along, and holds back what is to be lost.
#[derive(Debug)]
pub(super) enum Filter {
    Requests(Requests),
    Answers(Answers),
}

/// What may pass, and what becomes of it.
struct Passed {
    bytes: Bytes,
    /// From this place on it is held.
    hold: Option<(usize, Arc<Hold>)>,
    /// Whether the connection breaks after that.
    breaks: bool,
}

impl Filter {
    /// Takes off what may pass next.
    fn pass(&mut self, chunk: &mut Bytes) -> Passed {
        match self {
            Filter::Requests(requests) => {
                let (bytes, hold) = requests.next(chunk);
                Passed { bytes, hold, breaks: false }
            }
            Filter::Answers(answers) => {
                let (bytes, breaks) = answers.pass(&std::mem::take(chunk));
                Passed { bytes, hold: None, breaks }
            }
        }
    }
}

/// Carries bytes until `from` ends, and then ends `to`.
pub(super) async fn run(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    filter: Filter,
    plans: watch::Receiver<Plan>,
    clock: &SharedClock,
) -> io::Result<()> {
    let (send, receive) = mpsc::channel(CHUNKS);
    let reads = read(from, send, plans.clone(), clock);
    let writes = write(to, receive, filter, plans, clock);
    tokio::try_join!(reads, writes)?;
    Ok(())
}

/// Stamps each chunk with the time at which it is to arrive.
async fn read(
    mut from: OwnedReadHalf,
    send: mpsc::Sender<(Duration, Bytes)>,
    plans: watch::Receiver<Plan>,
    clock: &SharedClock,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let delay = match plans.borrow().fault {
            Fault::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        let chunk = (clock.elapsed() + delay, buffer.split().freeze());
        if send.send(chunk).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut receive: mpsc::Receiver<(Duration, Bytes)>,
    mut filter: Filter,
    mut plans: watch::Receiver<Plan>,
    clock: &SharedClock,
) -> io::Result<()> {
    let are_answers = matches!(filter, Filter::Answers(_));
    while let Some((due, mut chunk)) = receive.recv().await {
        let early = due.saturating_sub(clock.elapsed());
        if !early.is_zero() {
            clock.sleep(early).await;
        }
        while !chunk.is_empty() {
            let Passed { mut bytes, hold, breaks } = filter.pass(&mut chunk);
            if let Some((from, hold)) = hold {
                send(&mut to, bytes.split_to(from), are_answers, &mut plans, clock).await?;
                hold.ends().await;
            }
            send(&mut to, bytes, are_answers, &mut plans, clock).await?;
            if breaks {
                // What passed before arrives: an end, not a reset.
                to.shutdown().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
    to.shutdown().await
}

/// Sends a part as the fault of now lets it.
async fn send(
    to: &mut OwnedWriteHalf,
    mut part: Bytes,
    are_answers: bool,
    plans: &mut watch::Receiver<Plan>,
    clock: &SharedClock,
) -> io::Result<()> {
    while !part.is_empty() {
        let spoken = plans.wait_for(|plan| plan.fault != Fault::Silent).await;
        let fault = spoken.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?.fault;
        match fault {
            Fault::AnswersLost if are_answers => part.clear(),
            Fault::Throttle { bytes_per_second } => {
                let slice = (bytes_per_second / SLICES_PER_SECOND).max(1);
                let slice = usize::try_from(slice).unwrap_or(usize::MAX).min(part.len());
                let slice = part.split_to(slice);
                to.write_all(&slice).await?;
                let micros = slice.len() as u64 * 1_000_000 / bytes_per_second.max(1);
                clock.sleep(Duration::from_micros(micros)).await;
            }
            _ => to.write_all(&std::mem::take(&mut part)).await?,
        }
    }
    Ok(())
}
