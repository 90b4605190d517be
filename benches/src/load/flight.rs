//! A Flight client that a comparison tells what to do: ours, or the one of arrow-flight.
//!
//! It takes commands over a connection of its own, a line of JSON each, and
//! answers each with the seconds that it took. In between it does nothing, so
//! that clients of all sides can be there at once and be measured in turns.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use futures::future::try_join_all;
use serde_json::{Value, json};
use sheaf_flight::ipc::{Bounds, Compression, decode_stream};
use sheaf_flight::{COMPRESSION, CallOptions, ClientConfig, ClientSecurity, FlightConnection};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::{ClientPut, Durability, FlightClient};

use super::rows::{self, Rows};
use super::stock;
use crate::error::{Error, Result};
use crate::stats::percentile;

/// Whose client.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Ours,
    Stock,
}

/// Whose client, and to which server.
#[derive(Debug, Args)]
pub(crate) struct Flight {
    #[arg(value_enum)]
    kind: Kind,
    /// The server.
    server: String,
    /// CA certificates in PEM by which it is checked, where it has TLS; of our client only.
    #[arg(long)]
    ca: Option<PathBuf>,
}

/// Connections, one for each stream at once, and the rows that were put last.
struct Client {
    connections: Connections,
    rows: Option<Rows>,
}

enum Connections {
    Ours(Vec<FlightClient>),
    Stock(Vec<stock::Client>),
}

/// Serves commands until its driver goes away.
pub(super) async fn run(load: Flight) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("name the port"))?;
    println!("ready flight=tcp://{address}");
    let (stream, _) = listener.accept().map_err(Error::io("accept"))?;
    let mut answers = stream.try_clone().map_err(Error::io("answer"))?;
    let connections = match load.kind {
        Kind::Ours => Connections::Ours(Vec::new()),
        Kind::Stock => Connections::Stock(Vec::new()),
    };
    let mut client = Client { connections, rows: None };
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(Error::io("read a command"))?;
        let command: Value = serde_json::from_str(&line)
            .map_err(|error| Error::Message(format!("no command: {line}: {error}")))?;
        let (took, bytes) = client.obey(&load, &command).await?;
        let answer = json!({ "seconds": took.as_secs_f64(), "bytes": bytes });
        writeln!(answers, "{answer}").map_err(Error::io("answer"))?;
    }
    Ok(())
}

impl Client {
    async fn connect(&mut self, load: &Flight, count: usize) -> Result<()> {
        match &mut self.connections {
            Connections::Ours(clients) => {
                while clients.len() < count {
                    let security = ClientSecurity { ca: load.ca.clone(), ..Default::default() };
                    let config = ClientConfig { security, ..ClientConfig::default() };
                    let clock = SystemClock::shared();
                    clients.push(FlightClient::connect_with(&load.server, config, clock)?);
                }
            }
            Connections::Stock(clients) => {
                while clients.len() < count {
                    clients.push(stock::Client::connect(&load.server).await?);
                }
            }
        }
        Ok(())
    }

    async fn obey(&mut self, load: &Flight, command: &Value) -> Result<(Duration, u64)> {
        let text = |key: &str| command[key].as_str().unwrap_or_default();
        let count = |key: &str| command[key].as_u64().unwrap_or(1);
        let streams = usize::try_from(count("streams")).unwrap_or(1);
        self.connect(load, streams).await?;
        let name = text("name");
        match text("do") {
            "get" => self.get(name, streams, text("compression")).await,
            "fetch" => self.fetch(name).await,
            "make" => {
                self.rows = Some(rows::make(text("rows"), count("bytes"))?);
                Ok((Duration::ZERO, 0))
            }
            "put" => {
                let rows = self.rows.as_ref();
                let rows = rows.ok_or_else(|| Error::Message("no rows were made".into()))?;
                let how = ClientPut::default().with_durability(Durability::Memory);
                let how = how.with_compression(codec(text("compression"))?);
                let how = match text("kept") {
                    "" => how,
                    kept => how.with_stored_compression(codec(kept)?),
                };
                self.put(name, streams, rows, how).await
            }
            "one" => Ok((self.one(name, count("calls")).await?, 0)),
            "delete" => self.delete(name, streams).await.map(|()| (Duration::ZERO, 0)),
            other => Err(Error::Message(format!("no such command: {other}"))),
        }
    }

    /// All rows of a payload, decoded, batch after batch; in so many streams at once.
    async fn get(&self, name: &str, streams: usize, wanted: &str) -> Result<(Duration, u64)> {
        let start = Instant::now();
        if streams == 1 {
            let size = match &self.connections {
                Connections::Ours(clients) => get(clients[0].connection(), name, wanted).await?,
                Connections::Stock(clients) => clients[0].get(name).await?,
            };
            return Ok((start.elapsed(), size));
        }
        let sizes = match &self.connections {
            Connections::Ours(clients) => {
                let gets = clients.iter().take(streams).map(|client| {
                    let connection = client.connection().clone();
                    let (name, wanted) = (name.to_owned(), wanted.to_owned());
                    spawned(async move { get(&connection, &name, &wanted).await })
                });
                try_join_all(gets).await?
            }
            Connections::Stock(clients) => {
                let gets = clients.iter().take(streams).map(|client| {
                    let (client, name) = (client.clone(), name.to_owned());
                    spawned(async move { client.get(&name).await })
                });
                try_join_all(gets).await?
            }
        };
        Ok((start.elapsed(), sizes.iter().sum()))
    }

    /// All messages of a payload, each dropped as it is: what a socket does.
    async fn fetch(&self, name: &str) -> Result<(Duration, u64)> {
        let Connections::Ours(clients) = &self.connections else {
            return Err(Error::Message("only our client has messages".into()));
        };
        let start = Instant::now();
        let ticket = format!("batches/{name}");
        let connection = clients[0].connection();
        let mut messages = connection.get(&ticket, &CallOptions::default()).await?;
        let mut size = 0;
        while let Some(message) = messages.next().await {
            size += message?.body_len() as u64;
        }
        Ok((start.elapsed(), size))
    }

    /// In so many streams at once; `how` is for our client.
    async fn put(
        &self,
        name: &str,
        streams: usize,
        rows: &Rows,
        how: ClientPut,
    ) -> Result<(Duration, u64)> {
        let (schema, batches) = rows;
        let start = Instant::now();
        match &self.connections {
            Connections::Ours(clients) => {
                let puts = clients.iter().take(streams).enumerate().map(|(at, client)| {
                    let (client, id) = (client.clone(), format!("{name}.{at}"));
                    let (schema, batches) = (schema.clone(), batches.clone());
                    spawned(async move { put(&client, &id, schema, &batches, how).await })
                });
                try_join_all(puts).await?;
            }
            Connections::Stock(clients) => {
                let puts = clients.iter().take(streams).enumerate().map(|(at, client)| {
                    let (client, id) = (client.clone(), format!("{name}.{at}"));
                    let (schema, batches) = (schema.clone(), batches.clone());
                    spawned(async move { client.put(&id, schema, batches).await })
                });
                try_join_all(puts).await?;
            }
        }
        Ok((start.elapsed(), rows::size(batches) * streams as u64))
    }

    /// The median of gets of one row, one after another.
    async fn one(&self, name: &str, calls: u64) -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..calls {
            times.push(self.get(name, 1, "").await?.0.as_secs_f64());
        }
        Ok(Duration::from_secs_f64(percentile(&times, 50).unwrap_or_default()))
    }

    async fn delete(&self, name: &str, streams: usize) -> Result<()> {
        for at in 0..streams {
            let id = format!("{name}.{at}");
            match &self.connections {
                Connections::Ours(clients) => {
                    clients[0].delete(&id_of(&id)?).await?;
                }
                Connections::Stock(clients) => clients[0].delete(&id).await?,
            }
        }
        Ok(())
    }
}

async fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.map_err(|error| Error::Message(format!("a stream ended: {error}")))?
}

fn id_of(text: &str) -> Result<BatchId> {
    text.parse().map_err(|error| Error::Message(format!("no name for a put: {error}")))
}

async fn get(connection: &FlightConnection, name: &str, wanted: &str) -> Result<u64> {
    let options = match wanted {
        "" => CallOptions::default(),
        wanted => CallOptions::default().header(COMPRESSION, wanted),
    };
    let messages = connection.get(&format!("batches/{name}"), &options).await?;
    let (_, mut batches) = decode_stream(messages, Bounds::default()).await?;
    let mut size = 0;
    while let Some(batch) = batches.next().await {
        size += rows::size(&[batch?]);
    }
    Ok(size)
}

/// The codec of this name; none where it is empty.
fn codec(name: &str) -> Result<Compression> {
    if name.is_empty() { Ok(Compression::None) } else { Ok(name.parse()?) }
}

async fn put(
    client: &FlightClient,
    id: &str,
    schema: SchemaRef,
    batches: &[RecordBatch],
    how: ClientPut,
) -> Result<()> {
    client.put(Some(&id_of(id)?), schema, batches, how).await?;
    Ok(())
}
