//! From the beginning of a run to its end.

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_drivers::LogLine;
use sheaf_drivers::runner::{Outcome, Started};
use sheaf_retry::Retryable as _;
use sheaf_terminal::Console;

use super::watch::{self, Watch};
use crate::plane::Plane;
use crate::progress::Progress;
use crate::signals::Signals;

/// What is shown of a run.
pub(super) struct Shown {
    pub(super) started: Started,
    pub(super) lines: BoxStream<'static, LogLine>,
    pub(super) watched: Watch,
}

/// What components write.
pub(super) async fn lines(plane: &Plane, pipeline: &str) -> BoxStream<'static, LogLine> {
    let Ok(places) = plane.runner.named(pipeline, "").await else {
        return stream::pending().boxed();
    };
    match plane.runner.driver().logs(&places, 0, true).await {
        Ok(lines) => lines.chain(stream::pending()).boxed(),
        Err(error) => {
            tracing::warn!(%error, "what components write is not shown");
            stream::pending().boxed()
        }
    }
}

/// Until the run has ended; `None` where a second signal has ended it.
pub(super) async fn attend(
    plane: &Plane,
    shown: Shown,
    signals: &mut Signals,
    progress: &mut Progress,
    console: &mut Console,
) -> Option<Outcome> {
    let Shown { mut started, mut lines, mut watched } = shown;
    let (runner, pipeline) = (plane.runner.clone(), started.pipeline.clone());
    let mut outcome = started.outcome.clone();
    let mut signalled = false;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                let at_once = signalled;
                signalled = true;
                let text = match at_once {
                    false => "draining; once more ends at once",
                    true => "ending at once",
                };
                progress.note(console, &format!("{signal}: {text}"));
                let (runner, pipeline) = (runner.clone(), pipeline.clone());
                let stop = tokio::spawn(async move {
                    drop(runner.stop(&pipeline, at_once, &format!("stopped by {signal}")).await);
                });
                if at_once {
                    drop(stop.await);
                    return None;
                }
            }
            Some(note) = started.notes.recv() => progress.tell(console, &note),
            ended = outcome.wait_for(Option::is_some) => {
                let ended = ended.ok().and_then(|ended| ended.clone());
                while let Ok(note) = started.notes.try_recv() {
                    progress.tell(console, &note);
                }
                return ended;
            }
            Some(told) = watched.next() => watch::tell(told, &pipeline, progress, console),
            Some(line) = lines.next() => console.note(&format!("{} | {}", line.instance, line.text)),
            answers = progress.asked() => progress.look(answers, console),
        }
    }
}

/// What to do about a run that could not begin.
pub(in crate::command) fn help(error: &sheaf_drivers::runner::Error) -> String {
    use sheaf_drivers::runner::Error;
    match error {
        Error::Runs { .. } | Error::Held { .. } => "see what runs with sheafctl ps".to_owned(),
        Error::Durable { .. } => {
            "build or install the program sheaf beside sheafctl, name a store that runs with \
             --durable-store, or write `durable: false`"
                .to_owned()
        }
        other => other.code().advice().to_owned(),
    }
}
