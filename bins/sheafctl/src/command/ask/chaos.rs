//! `sheafctl chaos`

mod choice;
mod report;
mod told;

use std::time::Duration;

use sheaf_drivers::Disturbance;
use sheaf_pipeline::registry::{Component, Filter, Pipeline, PipelineState, Status};
use sheaf_retry::{Code, HumanDuration};
use sheaf_terminal::{Console, Failure, compact};

use crate::remote::{Remote, runs};
use crate::stats::instance;
use choice::{Choices, Step};
use report::{Before, Report};

pub(crate) use told::ChaosArgs;
use told::How;

/// How often it is looked whether all is well again.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn run(
    remote: &Remote,
    args: ChaosArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let now = look(remote, &args.pipeline).await?;
    let began = remote.clock.elapsed();
    let mut chaos = Chaos {
        remote,
        pipeline: args.pipeline.clone(),
        quiet: args.ask.json,
        began,
        report: Report::new(&args.pipeline, &now.components),
    };
    let over = match &args.how {
        How::Random(random) => {
            let names = now.components.iter().map(|one| instance(one).to_owned()).collect();
            let choices = Choices::new(names, random.seed, random.every.0);
            chaos.random(choices, random.time.0, console).await?
        }
        how => {
            let (component, how) = how.one();
            chaos.disturb(component, how, console).await?
        }
    };
    chaos.recover(over, args.patience.0, console).await?;
    chaos.report.tell(args.ask.json, console)
}

/// A pipeline, as it is now.
struct Now {
    pipeline: Pipeline,
    components: Vec<Component>,
}

async fn look(remote: &Remote, name: &str) -> Result<Now, Failure> {
    let pipeline = remote.pipelines(Some(name)).await?.remove(0);
    let filter = Filter { pipeline: name.to_owned(), ..Filter::default() };
    let components = remote.registry.components(&filter).await;
    let components = components.map_err(|error| remote.failed(&error))?;
    Ok(Now { pipeline, components })
}

struct Chaos<'a> {
    remote: &'a Remote,
    pipeline: String,
    quiet: bool,
    began: Duration,
    report: Report,
}

impl Chaos<'_> {
    fn note(&self, console: &mut Console, text: &str) {
        if !self.quiet {
            let time = compact(self.remote.clock.elapsed().saturating_sub(self.began));
            console.note(&format!("{time:>6}  {text}"));
        }
    }

    /// Does it, and answers when it will be over.
    async fn disturb(
        &mut self,
        component: &str,
        how: Disturbance,
        console: &mut Console,
    ) -> Result<Duration, Failure> {
        let before = look(self.remote, &self.pipeline).await?;
        let hit = self.remote.pipelines.disturb(&self.pipeline, component, how).await;
        let hit = hit.map_err(|error| self.remote.failed(&error))?;
        let at = self.remote.clock.elapsed();
        let text = format!("{} {}", words(how), hit.join(", "));
        self.note(console, &text);
        self.report.did(at.saturating_sub(self.began), text);
        for name in &hit {
            if let Some(found) = before.components.iter().find(|one| instance(one) == name) {
                self.report.hit(found, how);
            }
        }
        Ok(at + time(how))
    }

    /// One thing after another; who is away at the moment is left alone.
    async fn random(
        &mut self,
        mut choices: Choices,
        time: Duration,
        console: &mut Console,
    ) -> Result<Duration, Failure> {
        let clock = &self.remote.clock;
        let until = clock.elapsed().saturating_add(time);
        let mut over = clock.elapsed();
        loop {
            let Step { pause, name, how } = choices.next();
            let left = until.saturating_sub(clock.elapsed());
            clock.sleep(pause.min(left)).await;
            if clock.elapsed() >= until {
                return Ok(over);
            }
            match self.disturb(&name, how, console).await {
                Ok(end) => over = over.max(end),
                Err(failure) if failure.code() == Code::FailedPrecondition => {
                    self.note(
                        console,
                        &format!("{name} is left alone: {}", failure.to_text().trim()),
                    );
                }
                Err(failure) => {
                    let now = look(self.remote, &self.pipeline).await?;
                    if runs(now.pipeline.state) {
                        return Err(failure);
                    }
                    return Ok(over);
                }
            }
        }
    }

    /// The pipeline now; `None` where its control plane is gone.
    async fn still_there(&self) -> Result<Option<Now>, Failure> {
        match look(self.remote, &self.pipeline).await {
            Ok(now) => Ok(Some(now)),
            Err(failure) if failure.code() == Code::Unavailable => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Waits until all is well again, or it is not going to be.
    async fn recover(
        &mut self,
        over: Duration,
        patience: Duration,
        console: &mut Console,
    ) -> Result<(), Failure> {
        let clock = &self.remote.clock;
        clock.sleep(over.saturating_sub(clock.elapsed())).await;
        // Beats from before do not tell how those are that stood still.
        if let Some(now) = self.still_there().await? {
            self.report.beats_from(&now.components);
        }
        let end = clock.elapsed();
        loop {
            let Some(now) = self.still_there().await? else {
                let reason = "the control plane has ended: a pipeline of sheafctl run has come \
                              to its end, or failed; see sheafctl runs";
                self.report.ended(PipelineState::Failed, reason.to_owned());
                return Ok(());
            };
            let took = clock.elapsed().saturating_sub(end);
            self.report.now(&now.components);
            if !runs(now.pipeline.state) {
                let reason = format!("{}: {}", now.pipeline.state.as_str(), now.pipeline.reason);
                self.note(console, &format!("the pipeline has ended: {reason}"));
                self.report.ended(now.pipeline.state, reason);
                return Ok(());
            }
            let ill = now.components.iter().find(|one| !self.report.is_well(one));
            let Some(ill) = ill else {
                self.note(
                    console,
                    &format!("all is well again after {}", HumanDuration(round(took))),
                );
                self.report.well(took);
                return Ok(());
            };
            if took >= patience {
                let (name, status) = (instance(ill), ill.status.as_str());
                let why = format!("{name} is {status} after {}", HumanDuration(patience));
                self.report.ill(match ill.reason.is_empty() {
                    true => why,
                    false => format!("{why}: {}", ill.reason),
                });
                return Ok(());
            }
            clock.sleep(LOOK).await;
        }
    }
}

/// Whether a component is as it should be, by itself.
fn is_up(component: &Component, before: Option<&Before>) -> bool {
    match component.status {
        Status::Healthy => before.is_none_or(|before| before.is_over(component)),
        // It has come to its end in this run.
        Status::Stopped => component.reason.starts_with("done with run"),
        _ => false,
    }
}

fn words(how: Disturbance) -> String {
    match how {
        Disturbance::Kill => "kill".to_owned(),
        Disturbance::Pause { time } => format!("pause for {}", HumanDuration(time)),
        Disturbance::Slow { time, delay } => {
            format!("slow by {} for {}", HumanDuration(delay), HumanDuration(time))
        }
    }
}

fn time(how: Disturbance) -> Duration {
    match how {
        Disturbance::Kill => Duration::ZERO,
        Disturbance::Pause { time } | Disturbance::Slow { time, .. } => time,
    }
}

/// To milliseconds.
fn round(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
