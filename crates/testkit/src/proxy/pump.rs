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
use super::link::{Fault, Noise, Plan};
use super::noise::Places;
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
    number: u64,
) -> io::Result<()> {
    let (send, receive) = mpsc::channel(CHUNKS);
    let reads = read(from, send, plans.clone(), clock);
    let are_answers = matches!(filter, Filter::Answers(_));
    let to = Writer { to, are_answers, plans, clock, places: Places::new(number) };
    let writes = write(to, receive, filter, clock);
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
    mut to: Writer<'_>,
    mut receive: mpsc::Receiver<(Duration, Bytes)>,
    mut filter: Filter,
    clock: &SharedClock,
) -> io::Result<()> {
    while let Some((due, mut chunk)) = receive.recv().await {
        let early = due.saturating_sub(clock.elapsed());
        if !early.is_zero() {
            clock.sleep(early).await;
        }
        while !chunk.is_empty() {
            let Passed { mut bytes, hold, breaks } = filter.pass(&mut chunk);
            if let Some((from, hold)) = hold {
                to.send(bytes.split_to(from)).await?;
                hold.ends().await;
            }
            to.send(bytes).await?;
            if breaks {
                return to.break_off().await;
            }
        }
    }
    to.to.shutdown().await
}

/// The far end of a direction, and what happens to bytes before they get there.
struct Writer<'a> {
    to: OwnedWriteHalf,
    are_answers: bool,
    plans: watch::Receiver<Plan>,
    clock: &'a SharedClock,
    places: Places,
}

impl Writer<'_> {
    /// Sends a part as the fault of now lets it.
    async fn send(&mut self, mut part: Bytes) -> io::Result<()> {
        while !part.is_empty() {
            let spoken = self.plans.wait_for(|plan| plan.fault != Fault::Silent).await;
            let fault = spoken.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?.fault;
            match fault {
                Fault::AnswersLost if self.are_answers => part.clear(),
                Fault::Throttle { bytes_per_second } => {
                    let slice = (bytes_per_second / SLICES_PER_SECOND).max(1);
                    let slice = usize::try_from(slice).unwrap_or(usize::MAX).min(part.len());
                    let slice = part.split_to(slice);
                    self.to.write_all(&slice).await?;
                    let micros = slice.len() as u64 * 1_000_000 / bytes_per_second.max(1);
                    self.clock.sleep(Duration::from_micros(micros)).await;
                }
                Fault::Noise { .. } => {
                    let (pass, noise) = self.places.pass(fault, part.len());
                    self.to.write_all(&part.split_to(pass)).await?;
                    if let Some(noise) = noise {
                        self.disturb(noise, &mut part).await?;
                    }
                }
                _ => self.to.write_all(&std::mem::take(&mut part)).await?,
            }
        }
        Ok(())
    }

    /// Does this to the first byte of a part, which has one.
    async fn disturb(&mut self, noise: Noise, part: &mut Bytes) -> io::Result<()> {
        let byte = part.split_to(1);
        match noise {
            Noise::Flip => {
                let flipped: Vec<u8> = byte.iter().map(|byte| byte ^ self.places.bit()).collect();
                self.to.write_all(&flipped).await
            }
            Noise::Repeat => self.to.write_all(&[&byte[..], &byte].concat()).await,
            Noise::Truncate => self.break_off().await,
            Noise::Stall(time) => {
                self.clock.sleep(time).await;
                self.to.write_all(&byte).await
            }
        }
    }

    /// What passed before arrives: an end, not a reset.
    async fn break_off(&mut self) -> io::Result<()> {
        self.to.shutdown().await?;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}
