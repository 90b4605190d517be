//! Finds out about this machine and its files: each group on a thread that may
//! block, with a deadline of its own.

use std::time::Duration;

use sheaf_connectors::SinkSpec;
use sheaf_coordinator::embedded::FileState;
use sheaf_retry::{Retryable as _, SharedClock};
use sheaf_store::Survey;

use super::certificates::SecurityFacts;
use super::data_dir::DataFacts;
use super::disk::{DirFacts, Kind};
use super::machine::MachineFacts;
use super::ports::Bind;
use crate::config::{Backend, Config, Mode};

/// How long a group may take: a dead network file system never answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What this machine and its files are; a group is `None` where it took too long.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// None inside in mode worker.
    pub(super) data: Option<Option<DataFacts>>,
    /// None inside where nothing is written to a folder.
    pub(super) sink: Option<Option<DirFacts>>,
    pub(super) machine: Option<MachineFacts>,
    pub(super) security: Option<SecurityFacts>,
    pub(super) ports: Option<PortFacts>,
}

/// What came of binding the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortFacts {
    /// None in mode worker.
    pub(super) flight: Option<Bind>,
    pub(super) admin: Bind,
}

impl Local {
    /// Looks at everything at the same time.
    pub(super) async fn gather(config: &Config, clock: &SharedClock) -> Self {
        let look = || (config.clone(), clock.clone());
        let (data, sink, machine, security, ports) = futures::join!(
            in_time(clock, look(), data),
            in_time(clock, look(), sink),
            in_time(clock, look(), |_, _| MachineFacts::gather()),
            in_time(clock, look(), |config, clock| SecurityFacts::gather(config.security(), clock)),
            in_time(clock, look(), |config, _| ports(config)),
        );
        Local { data, sink, machine, security, ports }
    }
}

/// What a look finds, where it comes to its end in time.
async fn in_time<C, T>(
    clock: &SharedClock,
    (config, time): (C, SharedClock),
    look: impl FnOnce(&C, &SharedClock) -> T + Send + 'static,
) -> Option<T>
where
    C: Send + 'static,
    T: Send + 'static,
{
    let work = tokio::task::spawn_blocking(move || look(&config, &time));
    tokio::select! {
        done = work => done.ok(),
        () = clock.sleep(PATIENCE) => None,
    }
}

fn ports(config: &Config) -> PortFacts {
    PortFacts {
        flight: (config.mode() != Mode::Worker).then(|| Bind::attempt(config.flight_addr())),
        admin: Bind::attempt(config.admin_addr()),
    }
}

fn sink(config: &Config, clock: &SharedClock) -> Option<DirFacts> {
    match config.sink() {
        SinkSpec::Files { dir, .. } if config.workers() > 0 => {
            Some(DirFacts::gather(dir, clock.as_ref()))
        }
        SinkSpec::Files { .. } | SinkSpec::None => None,
    }
}

fn data(config: &Config, clock: &SharedClock) -> Option<DataFacts> {
    if config.mode() == Mode::Worker {
        return None;
    }
    let path = config.data_dir();
    let dir = DirFacts::gather(path, clock.as_ref());
    let there = dir.kind == Kind::Directory;
    let survey = (there && config.mode() != Mode::Coordinator)
        .then(|| Survey::of(path).map_err(|error| (error.code(), error.to_string())));
    let records = (there && config.backend() == &Backend::Embedded).then(|| {
        FileState::of(&path.join("coordinator.redb")).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let text = error.to_string();
            (error.code(), cause.map_or(text.clone(), |cause| format!("{text}: {cause}")))
        })
    });
    Some(DataFacts { dir, survey, records })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use sheaf_retry::{ManualClock, Timestamp};

    /// One that never answers is given up by itself; the others are there.
    #[tokio::test]
    async fn a_look_that_hangs_is_given_up_alone() {
        let manual = ManualClock::new(Timestamp::EPOCH);
        let clock: SharedClock = manual.clone();
        let (never, wait) = sync_channel::<()>(0);
        let hangs = in_time(&clock, ((), clock.clone()), move |(), _| wait.recv().is_ok());
        let fine = in_time(&clock, ((), clock.clone()), |(), _| 7);
        let late = async {
            // The quick one has come to its end before time passes.
            let found = fine.await;
            manual.advance(PATIENCE);
            found
        };
        let (hangs, found) = futures::join!(hangs, late);
        assert_eq!((hangs, found), (None, Some(7)));
        assert!(clock.elapsed() >= PATIENCE);
        drop(never);
    }
}
