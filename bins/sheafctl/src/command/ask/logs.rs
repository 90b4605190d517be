//! `sheafctl logs`

use clap::Args;
use futures::StreamExt as _;
use serde_json::json;
use sheaf_terminal::{Console, Failure, rfc3339};

use crate::args::AskArgs;
use crate::remote::Remote;

#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    /// A component, or one of its instances; all by default
    component: Option<String>,
    /// The pipeline, where not only one runs
    #[arg(long, short)]
    pipeline: Option<String>,
    /// Go on with what comes, until ctrl-c
    #[arg(long, short)]
    follow: bool,
    /// So many lines of what there is, at most 10,000
    #[arg(long, short = 'n', default_value_t = 100, value_name = "LINES")]
    tail: u32,
    /// With the time of each line
    #[arg(long, short = 't')]
    times: bool,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

pub(super) async fn run(
    remote: &Remote,
    args: LogsArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let pipeline = remote.only(args.pipeline.as_deref()).await?;
    let component = args.component.as_deref().unwrap_or_default();
    let lines = remote.pipelines.logs(&pipeline, component, args.tail, args.follow).await;
    let mut lines = lines.map_err(|error| remote.failed(&error))?;
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| remote.failed(&error))?;
        let text = match (args.ask.json, args.times) {
            (true, _) => json!({
                "at": rfc3339(line.at), "instance": line.instance,
                "stream": if line.is_error { "stderr" } else { "stdout" }, "text": line.text,
            })
            .to_string(),
            (false, true) => format!("{} {} | {}", rfc3339(line.at), line.instance, line.text),
            (false, false) => format!("{} | {}", line.instance, line.text),
        };
        console.data(&(text + "\n"))?;
    }
    Ok(())
}
