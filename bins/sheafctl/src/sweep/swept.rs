//! A driver that tells the second process what there is.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_drivers::{Driver, DriverError, Ended, Launch, LaunchId, LogLine};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::{Orders, Told, WORD};

/// A driver whose pipelines are removed too when this process is killed.
pub(crate) struct Swept {
    driver: Arc<dyn Driver>,
    line: Mutex<Line>,
    child: Mutex<Child>,
}

struct Line {
    pipe: Option<ChildStdin>,
    begun: HashSet<String>,
}

impl Swept {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        program: &Path,
        orders: &Orders,
    ) -> Result<Self, Failure> {
        let folder = std::path::absolute(&orders.folder);
        let spawn = || {
            let orders = Orders { folder: folder?, ..orders.clone() };
            // In a group of its own: what is typed at a terminal does not end it.
            let mut child = Command::new(program)
                .arg(WORD)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()?;
            let mut pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            writeln!(pipe, "{}", serde_json::to_string(&orders)?)?;
            Ok::<_, io::Error>((child, pipe))
        };
        let (child, pipe) = spawn().map_err(|error| {
            let text = "the process cannot be started that clears up when this one is killed";
            Failure::new(Code::Io, text).because(error)
        })?;
        let line = Line { pipe: Some(pipe), begun: HashSet::new() };
        Ok(Swept { driver, line: Mutex::new(line), child: Mutex::new(child) })
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self, pipeline: &str) -> io::Result<()> {
        let mut line = self.line();
        match line.begun.insert(pipeline.to_owned()) {
            true => line.tell(&Told::Begun(pipeline.to_owned())),
            false => Ok(()),
        }
    }
}

impl Line {
    fn tell(&mut self, told: &Told) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        writeln!(pipe, "{}", serde_json::to_string(told)?)
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        // It sees the end of the pipe, and ends when it has looked.
        self.line().pipe = None;
        drop(self.child.get_mut().unwrap_or_else(PoisonError::into_inner).wait());
    }
}

#[async_trait]
impl Driver for Swept {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    async fn start(&self, launch: Launch) -> Result<(), DriverError> {
        let place = &launch.id.place;
        // First, so that nothing is there that it does not know of.
        self.begun(place.split(':').next().unwrap_or_default()).map_err(|error| DriverError {
            what: format!("cannot start {place}"),
            why: format!("the process has ended that clears up after this one: {error}"),
        })?;
        self.driver.start(launch).await
    }

    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError> {
        self.driver.stop(id, drain).await
    }

    async fn ended(&self) -> Ended {
        self.driver.ended().await
    }

    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError> {
        self.driver.running(pipeline).await
    }

    async fn remove(&self, pipeline: &str, state: bool) -> Result<(), DriverError> {
        self.driver.remove(pipeline, state).await?;
        let mut line = self.line();
        if line.begun.remove(pipeline)
            && let Err(error) = line.tell(&Told::Removed(pipeline.to_owned()))
        {
            tracing::debug!(%error, "the process that clears up is gone");
        }
        Ok(())
    }

    async fn logs(
        &self,
        places: &[String],
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, DriverError> {
        self.driver.logs(places, tail, follow).await
    }
}
