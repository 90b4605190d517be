//! `sheaf-gateway client`: lists topics, or reads one.

mod ask;
mod list;
mod read;

use sheaf_flight::{CallOptions, ChannelPool, Error, FlightConnection};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_terminal::{Console, Failure, OutputFormat, SecurityArgs};

/// What to read, from where, and how to show it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// Address of the gateway
    #[arg(long, value_name = "URI", default_value = "grpc://localhost:8080")]
    server: String,
    #[command(flatten)]
    security: SecurityArgs,
    /// Topic to read; without it, topics are listed
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Form of the rows
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
    /// Rows at most [default: 10; with --follow, all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Go on with what comes
    #[arg(long, requires = "topic")]
    follow: bool,
    /// Only this partition
    #[arg(long, value_name = "N", requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Begin with this offset or time, oldest or newest
    #[arg(long, value_name = "PLACE", requires = "topic")]
    from: Option<String>,
    /// Columns to read, in this order
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "topic")]
    columns: Vec<String>,
    /// Only rows of which this is true, such as "level = 'error' AND ms > 250"
    #[arg(long = "where", value_name = "EXPR", requires = "topic")]
    condition: Option<String>,
}

/// Lists or reads.
pub(crate) async fn run(
    args: ClientArgs,
    clock: SharedClock,
    mut console: Console,
) -> Result<(), Failure> {
    let pool = ChannelPool::new(args.security.config()?, clock);
    let connection = pool.connection(&args.server).map_err(|error| failed(&args, &error))?;
    match &args.topic {
        None => list::list(&args, &connection, &mut console).await,
        Some(topic) => read::read(&args, topic, &connection, &mut console).await,
    }
}

fn options() -> CallOptions {
    CallOptions::default()
}

/// What the server said, with what to do about it.
fn failed(args: &ClientArgs, error: &Error) -> Failure {
    let failure = Failure::from_error(error).of(&args.server);
    match error.code() {
        Code::Unavailable => failure.help("check --server, and whether the gateway runs"),
        Code::NotFound => failure.help("without --topic, the topics are listed"),
        _ => failure,
    }
}

type Connection = FlightConnection;
