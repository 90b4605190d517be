//! The logs of several instances as one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_retry::SharedClock;

use super::logs::{LogReader, MAX_TAIL};
use super::{Inner, failed};
use crate::driver::{DriverError, LogLine};

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(200);

struct Follow {
    readers: Vec<LogReader>,
    ready: VecDeque<LogLine>,
    goes_on: bool,
    clock: SharedClock,
}

/// The last lines of these instances in the order of their times, and then what comes.
pub(super) async fn logs(
    inner: &Arc<Inner>,
    places: &[String],
    tail: usize,
    follow: bool,
) -> Result<BoxStream<'static, LogLine>, DriverError> {
    let (mut readers, mut lines) = (Vec::new(), Vec::new());
    let tail = tail.min(MAX_TAIL);
    for place in places {
        let path = inner.files(place)?.log();
        let read = LogReader::tail(path.clone(), tail).map_err(|error| {
            failed(
                format!("cannot read the log of {place}"),
                format!("{}: {error}", path.display()),
            )
        })?;
        lines.extend(read.0);
        readers.push(read.1);
        // No more than is asked for, of however many instances.
        lines.sort_by_key(|line: &LogLine| line.at);
        lines.drain(..lines.len().saturating_sub(tail));
    }
    let clock = Arc::clone(&inner.clock);
    let follow = Follow { readers, ready: lines.into(), goes_on: follow, clock };
    Ok(stream::unfold(follow, |mut follow| async move {
        follow.next().await.map(|line| (line, follow))
    })
    .boxed())
}

impl Follow {
    async fn next(&mut self) -> Option<LogLine> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if !self.goes_on {
                return None;
            }
            match self.look() {
                Ok(()) if self.ready.is_empty() => self.clock.sleep(LOOK).await,
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "a log cannot be read any more");
                    return None;
                }
            }
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        for reader in &mut self.readers {
            lines.extend(reader.more()?);
        }
        lines.sort_by_key(|line| line.at);
        self.ready.extend(lines);
        Ok(())
    }
}
