//! `sheafctl tap`

mod find;
mod follow;
mod live;
mod print;
mod token;

use std::path::PathBuf;

use clap::ValueEnum;
use sheaf_terminal::{Console, Failure, count, counted};
use tokio::sync::mpsc;

use super::client::{self, Client};
use crate::args::ServerArgs;
use crate::help::TAP;
use follow::{Follow, News};
use print::Printer;

/// Batches that wait to be printed; further ones wait at their sender, and are left out there.
const WAITING: usize = 4;

#[derive(Debug, clap::Args)]
#[command(after_help = TAP)]
pub(crate) struct Args {
    /// The edge: FROM:TO
    edge: String,
    /// Its pipeline; needed where several have such an edge
    #[arg(long, short, value_name = "NAME")]
    pipeline: Option<String>,
    #[command(flatten)]
    at: ServerArgs,
    /// End after so many rows
    #[arg(long, short = 'n', value_name = "N")]
    rows: Option<u64>,
    /// How rows are printed
    #[arg(long, short, default_value = "table")]
    format: Format,
    /// The file with the data token of the run: its `run.json`, or the token alone
    #[arg(long, env = "SHEAF_DATA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

impl Args {
    pub(crate) fn json(&self) -> bool {
        self.format == Format::Json
    }
}

pub(super) fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    client::runtime()?.block_on(look(args, console))
}

async fn look(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let found = find::edge(&client, &args.edge, args.pipeline.as_deref()).await?;
    let token = token::read(args.token_file.as_deref(), &args.at.data, &found.pipeline)?;
    let (news, mut arriving) = mpsc::channel(WAITING);
    let senders = found.senders.len() as u64;
    for place in found.senders {
        let (edge, client, token) = (args.edge.clone(), client.clone(), token.clone());
        tokio::spawn(Follow { edge, place, client, token, news: news.clone(), asked: false }.run());
    }
    drop(news);
    let instances = counted(senders, "instance");
    console.note(&format!("looking at {} of {}, {instances}", args.edge, found.pipeline));
    let mut printer = Printer::new(args.format, console);
    let mut left_out = (0, 0);
    let mut stopped = std::pin::pin!(tokio::signal::ctrl_c());
    while args.rows.is_none_or(|most| printer.rows() < most) {
        let arrived = tokio::select! {
            biased;
            _ = &mut stopped => break,
            arrived = arriving.recv() => arrived,
        };
        let Some(arrived) = arrived else { break };
        let News { batch, missed_batches, missed_rows } = arrived?;
        left_out = (left_out.0 + missed_batches, left_out.1 + missed_rows);
        printer.print(&batch, args.rows)?;
    }
    let rows = counted(printer.rows(), "row");
    printer.finish()?;
    let batches =
        if left_out.0 == 1 { "1 batch".to_owned() } else { count(left_out.0) + " batches" };
    let missed = counted(left_out.1, "row");
    console.note(&format!("{rows}; left out for want of time: {missed} in {batches}"));
    Ok(())
}
