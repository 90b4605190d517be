//! `sheafctl top`

mod cells;
mod keys;
mod screen;
mod view;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;
use sheaf_console::figures::{Reader, Reading, Rows};
use sheaf_terminal::{Console, Failure};

use super::client::{self, Client};
use crate::args::ServerArgs;
use crate::help::TOP;
use view::Sort;

#[derive(Debug, clap::Args)]
#[command(after_help = TOP)]
pub(crate) struct Args {
    /// Of this pipeline only
    #[arg(long, short, value_name = "NAME")]
    pipeline: Option<String>,
    #[command(flatten)]
    at: ServerArgs,
    /// Print one table and end
    #[arg(long)]
    once: bool,
    /// What comes first
    #[arg(long, default_value = "name")]
    sort: Sort,
    /// Milliseconds between two readings
    #[arg(long, default_value_t = 1_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
    /// One JSON document
    #[arg(long, requires = "once")]
    json: bool,
}

impl Args {
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

pub(super) fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let runtime = client::runtime()?;
    let client = Client::new(&args.at)?;
    if !args.once {
        return watch::run(args, client, &runtime);
    }
    let rows = runtime.block_on(once(args, &client))?;
    if args.json {
        return console.json(&json!({ "components": rows.components, "edges": rows.edges }));
    }
    if rows.components.is_empty() {
        console.note("nothing runs here: start something with `sheafctl run FILE`");
        return Ok(());
    }
    console.table(&cells::component_table(&rows.components))?;
    console.data("\n")?;
    console.table(&cells::edge_table(&rows.edges))
}

async fn once(args: &Args, client: &Client) -> Result<Rows, Failure> {
    let pipeline = args.pipeline.as_deref();
    let before = read(client, pipeline).await?;
    client.sleep(args.interval()).await;
    let now = read(client, pipeline).await?;
    let mut rows = Rows::of(Some(&before), &now);
    args.sort.apply(&mut rows);
    Ok(rows)
}

async fn read(client: &Client, pipeline: Option<&str>) -> Result<Reading, Failure> {
    let components = client.components(pipeline).await?.into_iter().map(Arc::new).collect();
    Ok(Reader::new(client.clock.clone()).with_tls(client.health.clone()).read(components).await)
}

impl Sort {
    fn next(self) -> Self {
        let all = Sort::value_variants();
        let at = all.iter().position(|one| *one == self).unwrap_or_default();
        all.get(at + 1).or(all.first()).copied().unwrap_or(self)
    }
}
