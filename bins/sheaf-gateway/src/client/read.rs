//! The rows of a topic.

use futures::StreamExt as _;
use sheaf_retry::Code;
use sheaf_terminal::{Console, Destination, Failure, OutputFormat, RowWriter, count, counted};

use super::ask::{LIMIT, next_place, open, ticket};
use super::{ClientArgs, Connection, failed};

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
    let mut ticket = ticket(args, topic)?;
    let (schema, mut batches) = open(args, &ticket, connection).await?;
    let destination = width.map_or(Destination::Pipe, Destination::Terminal);
    let out = console.take_data();
    let writer = RowWriter::try_new(args.output, &schema, out, destination);
    let mut writer = writer.map_err(|error| rows(&error))?;
    while let Some(batch) = batches.next().await {
        let error = match batch {
            Ok(batch) => {
                writer.write(&batch).map_err(|error| rows(&error))?;
                ticket.limit =
                    ticket.limit.map(|left| left.saturating_sub(batch.num_rows() as u64));
                continue;
            }
            Err(error) => error,
        };
        match next_place(&error).filter(|_| args.output == OutputFormat::Json) {
            // Each line says its columns itself.
            Some(place) => {
                ticket.selection.start = place;
                batches = open(args, &ticket, connection).await?.1;
            }
            None => {
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

fn rows(error: &sheaf_terminal::Error) -> Failure {
    match error.is_closed_pipe() {
        true => Failure::closed_pipe(),
        false => Failure::from_error(error),
    }
}
