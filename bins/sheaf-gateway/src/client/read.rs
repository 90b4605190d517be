//! The rows of a topic.

use futures::StreamExt as _;
use sheaf_flight::ipc;
use sheaf_kafka::{Filter, Ticket};
use sheaf_retry::Code;
use sheaf_terminal::{Console, Destination, Failure, OutputFormat, RowWriter, count, counted};

use super::{ClientArgs, Connection, failed, options};

/// Rows that are shown where nothing else is said.
const LIMIT: u64 = 10;

pub(super) async fn read(
    args: &ClientArgs,
    topic: &str,
    connection: &Connection,
    console: &mut Console,
) -> Result<(), Failure> {
    let width = console.width();
    if width.is_some() && !args.output.is_text() {
        let text = format!("{} is not for a terminal", args.output);
        return Err(Failure::new(Code::InvalidArgument, text)
            .help("send it into a pipe or a file: --output parquet > rows.parquet"));
    }
    if args.follow
        && !matches!(args.output, OutputFormat::Json | OutputFormat::Csv | OutputFormat::Arrow)
    {
        let text = format!("{} has an end, and --follow has none", args.output);
        return Err(
            Failure::new(Code::InvalidArgument, text).help("add --output json, csv or arrow")
        );
    }
    let ticket = ticket(args, topic)?;
    let messages = connection.get(&ticket.to_string(), &options()).await;
    let messages = messages.map_err(|error| failed(args, &error))?;
    let decoded = ipc::decode_stream(messages, ipc::Bounds::default()).await;
    let (schema, mut batches) = decoded.map_err(|error| failed(args, &error))?;
    let destination = width.map_or(Destination::Pipe, Destination::Terminal);
    let out = console.take_data();
    let writer = RowWriter::try_new(args.output, &schema, out, destination);
    let mut writer = writer.map_err(|error| rows(&error))?;
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) => writer.write(&batch).map_err(|error| rows(&error))?,
            Err(error) => {
                // What came is shown whatever comes after it.
                writer.finish().map_err(|error| rows(&error))?;
                return Err(failed(args, &error));
            }
        }
    }
    let written = writer.finish().map_err(|error| rows(&error))?;
    if written.hidden > 0 {
        let (hidden, all) = (count(written.hidden), count(written.rows));
        console.note(&format!("{hidden} of {all} rows are not shown; --output csv has them all"));
    }
    if written.hidden_columns > 0 {
        let columns = counted(written.hidden_columns, "more column");
        console.note(&format!("… {columns}: use --columns or --output csv, or a wider terminal"));
    }
    if args.limit.is_none() && written.rows == LIMIT && !args.follow {
        console.note(&format!("the first {LIMIT} rows; --limit N for more"));
    }
    if written.rows == 0 {
        console.note("no rows");
    }
    Ok(())
}

fn ticket(args: &ClientArgs, topic: &str) -> Result<Ticket, Failure> {
    let invalid = |error: &sheaf_kafka::Error| Failure::from_error(error);
    let mut ticket = Ticket::whole(topic);
    ticket.selection.follow = args.follow;
    ticket.selection.partition = args.partition;
    if let Some(from) = &args.from {
        ticket.selection.start = from.parse().map_err(|error| invalid(&error))?;
    }
    if !args.columns.is_empty() {
        ticket.columns = Some(args.columns.clone());
    }
    if let Some(text) = &args.condition {
        let filter: Filter = text.parse().map_err(|error| invalid(&error))?;
        ticket.filter = Some((text.clone(), filter));
    }
    ticket.limit = args.limit.or((!args.follow).then_some(LIMIT));
    Ok(ticket)
}

fn rows(error: &sheaf_terminal::Error) -> Failure {
    match error.is_closed_pipe() {
        true => Failure::closed_pipe(),
        false => Failure::from_error(error),
    }
}
