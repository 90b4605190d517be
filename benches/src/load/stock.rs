//! arrow-flight as it comes: a server that keeps batches in memory, and its client.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightClient, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use super::rows;
use crate::error::{Error, Result};

/// As much as a batch of 64 MiB needs; the default is 4 MiB.
const MESSAGE: usize = 256 << 20;

#[derive(Default)]
struct Tables {
    tables: Mutex<BTreeMap<String, (SchemaRef, Vec<RecordBatch>)>>,
}

/// Serves until it is killed.
pub(super) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("name the port"))?;
    println!("ready flight=grpc://{address}");
    let service = FlightServiceServer::new(Tables::default())
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
    serving.await.map_err(|error| Error::Message(format!("the stock server ended: {error}")))
}

type Answer<T> =
    std::result::Result<Response<BoxStream<'static, std::result::Result<T, Status>>>, Status>;

fn unserved<T>() -> std::result::Result<T, Status> {
    Err(Status::unimplemented("not needed here"))
}

#[async_trait]
impl FlightService for Tables {
    type HandshakeStream = BoxStream<'static, std::result::Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, std::result::Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, std::result::Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, std::result::Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, std::result::Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, std::result::Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, std::result::Result<ActionType, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<FlightData> {
        let name = String::from_utf8_lossy(&request.into_inner().ticket).into_owned();
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let (schema, batches) =
            tables.get(&name).cloned().ok_or_else(|| Status::not_found(name.clone()))?;
        drop(tables);
        let data = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_max_flight_data_size(MESSAGE)
            .build(stream::iter(batches.into_iter().map(Ok)));
        Ok(Response::new(data.map_err(Status::from).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<PutResult> {
        let mut data = request.into_inner();
        let first = data.message().await?.ok_or_else(|| Status::invalid_argument("empty"))?;
        let path = first.flight_descriptor.as_ref().map(|one| one.path.clone());
        let name = path.and_then(|path| path.into_iter().nth(1));
        let name = name.ok_or_else(|| Status::invalid_argument("no name"))?;
        let data = stream::once(async { Ok(first) }).chain(data.map_err(FlightError::from));
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        let mut all = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            all.push(batch);
        }
        let schema = batches.schema().cloned();
        let schema = schema.ok_or_else(|| Status::invalid_argument("no schema"))?;
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (schema, all));
        Ok(Response::new(stream::iter([Ok(PutResult::default())]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<arrow_flight::Result> {
        let name = String::from_utf8_lossy(&request.into_inner().body).into_owned();
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<HandshakeResponse> {
        unserved()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<FlightInfo> {
        unserved()
    }

    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<FlightInfo>, Status> {
        unserved()
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<PollInfo>, Status> {
        unserved()
    }

    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<SchemaResult>, Status> {
        unserved()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<FlightData> {
        unserved()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<ActionType> {
        unserved()
    }
}

/// arrow-flight's client.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    pub(super) async fn connect(server: &str) -> Result<Self> {
        let uri = server.replacen("grpc://", "http://", 1);
        let endpoint = Channel::from_shared(uri)
            .map_err(|error| Error::Message(format!("{server}: {error}")))?;
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| Error::Message(format!("{server}: {error}")))?;
        Ok(Client { channel })
    }

    fn client(&self) -> FlightClient {
        let inner =
            arrow_flight::flight_service_client::FlightServiceClient::new(self.channel.clone())
                .max_decoding_message_size(MESSAGE)
                .max_encoding_message_size(MESSAGE);
        FlightClient::new_from_inner(inner)
    }

    pub(super) async fn get(&self, name: &str) -> Result<u64> {
        let ticket = Ticket { ticket: name.to_owned().into() };
        let mut batches = self.client().do_get(ticket).await.map_err(failed)?;
        let mut size = 0;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            size += rows::size(&[batch]);
        }
        Ok(size)
    }

    pub(super) async fn put(
        &self,
        name: &str,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<()> {
        let path = vec!["batches".to_owned(), name.to_owned()];
        let data = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_max_flight_data_size(MESSAGE)
            .with_flight_descriptor(Some(FlightDescriptor::new_path(path)))
            .build(stream::iter(batches.into_iter().map(Ok)));
        let answers = self.client().do_put(data).await.map_err(failed)?;
        answers.try_collect::<Vec<_>>().await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let action = Action::new("DeleteBatch", name.to_owned());
        let answers = self.client().do_action(action).await.map_err(failed)?;
        answers.try_collect::<Vec<_>>().await.map_err(failed)?;
        Ok(())
    }
}

fn failed(error: FlightError) -> Error {
    Error::Message(format!("the stock client: {error}"))
}
