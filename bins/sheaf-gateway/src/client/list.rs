//! Which topics there are.

use futures::TryStreamExt as _;
use sheaf_flight::FlightEntry;
use sheaf_retry::HumanBytes;
use sheaf_terminal::{Console, Failure, Table, count};

use super::{ClientArgs, Connection, failed, options};

pub(super) async fn list(
    args: &ClientArgs,
    connection: &Connection,
    console: &mut Console,
) -> Result<(), Failure> {
    let entries = connection.list(Default::default(), &options()).await;
    let entries: Vec<FlightEntry> = match entries {
        Ok(entries) => entries.try_collect().await.map_err(|error| failed(args, &error))?,
        Err(error) => return Err(failed(args, &error)),
    };
    if entries.is_empty() {
        console.note("the gateway has no topics yet");
        return Ok(());
    }
    let mut table = Table::default().left("TOPIC").right("ROWS").right("MEMORY");
    for entry in entries {
        let topic = entry.path.first().cloned().unwrap_or_default();
        let rows = u64::try_from(entry.total_records).unwrap_or(0);
        let bytes = u64::try_from(entry.total_bytes).unwrap_or(0);
        table.row([topic, count(rows), HumanBytes(bytes).to_string()]);
    }
    console.table(&table)
}
