//! `sheafctl chaos`

mod act;
mod choice;
mod recover;
mod report;
mod told;
mod words;

use sheaf_pipeline::registry::{Component, Filter, Pipeline};
use sheaf_terminal::{Console, Failure};

use crate::remote::Remote;
use crate::stats::instance;
use act::Chaos;
use choice::Choices;
use report::Report;

pub(crate) use told::ChaosArgs;
use told::How;

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
