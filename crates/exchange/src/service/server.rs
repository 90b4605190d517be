//! The service over an [`Exchange`].

mod answer;
mod transfer;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::{Right, Server, require};
use sheaf_proto::exchange::v1 as proto;
use sheaf_proto::exchange::v1::data_exchange_service_server::{
    DataExchangeService as Service, DataExchangeServiceServer,
};
use sheaf_retry::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code as Grpc, Request, Response, Status, Streaming};

use super::schema::check_expected;
use crate::shuffle::{Error, Exchange, MAX_MESSAGE_BYTES, NAMESPACE};
use answer::{Answer, Wanted};
use transfer::Transfer;

/// Most senders at a time: each holds up to one message and what it unfolds to.
const MAX_TRANSFERS: usize = 1_024;

/// Most readers at a time; most of them wait.
const MAX_READERS: usize = 4_096;

/// Serves an [`Exchange`] to peers without Flight.
///
/// # Sending
/// `StreamData` and `SendResults` take a begin, chunks, and a commit, as a put of
/// [`ShuffleHandler`](crate::shuffle::ShuffleHandler) does: an attempt may be sent in several
/// calls, the same chunks may be sent again, and what a call that fails has
/// brought in before stays. `StreamData` answers each message when it was taken and takes
/// one attempt after another; `SendResults` takes one and answers at its end.
///
/// Each answer says how much more may be on its way: at most 8 MiB, less where memory
/// is used up. A sender that goes beyond is held up by the connection; one whose
/// chunk finds no room is refused with `memory_full` and comes again.
///
/// # Reading
/// `RequestData` gives a begin, chunks and an end as they are read. A chunk is made
/// when the reader has taken the one before it; a call that is dropped frees its memory.
///
/// # Rights
/// In the namespace `shuffle`, as over Flight: to write for `StreamData` and
/// `SendResults`, to read for `RequestData` and `GetAvailablePartitions`, to change
/// for `CleanupQueryData` and for reading with `consume`.
#[derive(Clone, Debug)]
pub struct DataExchangeService {
    exchange: Exchange,
    transfers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

impl DataExchangeService {
    /// The rights that its methods need in the namespace `shuffle`.
    pub const NEEDS: &'static [(&'static str, Right)] = &[
        ("StreamData", Right::Write),
        ("SendResults", Right::Write),
        ("RequestData", Right::Read),
        ("GetAvailablePartitions", Right::Read),
        ("CleanupQueryData", Right::Change),
    ];

    /// Serves this exchange.
    pub fn new(exchange: Exchange) -> Self {
        DataExchangeService {
            exchange,
            transfers: Arc::new(Semaphore::new(MAX_TRANSFERS)),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
        }
    }

    /// Adds it to a port, beside Flight: with its rights, and shown by reflection.
    #[must_use]
    pub fn serve(self, server: Server) -> Server {
        server
            .add_service_in(NAMESPACE, Self::NEEDS, self.into_server())
            .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
    }

    /// The service for a `tonic` router, with messages up to 32 MiB either way.
    pub fn into_server(self) -> DataExchangeServiceServer<DataExchangeService> {
        DataExchangeServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

pub(super) fn status(error: Error) -> Status {
    Status::from(sheaf_flight::Error::from(error))
}

fn permit(of: &Arc<Semaphore>, what: &str, limit: usize) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(of).try_acquire_owned().map_err(|_| {
        let text = format!("serves {limit} {what}, which is its limit; come again");
        Status::from(sheaf_flight::Error::new(Code::Overloaded, text))
    })
}

/// What went wrong with a message of a sender, in our terms.
fn inbound(status: Status) -> Status {
    let error = match status.code() {
        Grpc::OutOfRange => {
            let text = format!("a message is over the limit of {MAX_MESSAGE_BYTES} bytes");
            sheaf_flight::Error::new(Code::LimitExceeded, text)
        }
        Grpc::Internal => {
            let text = format!("not a message of this service: {}", status.message());
            sheaf_flight::Error::new(Code::MalformedData, text)
        }
        _ => return status,
    };
    Status::from(error)
}

async fn next<T>(incoming: &mut Streaming<T>) -> Result<Option<T>, Status> {
    incoming.message().await.map_err(inbound)
}

#[async_trait]
impl Service for DataExchangeService {
    type StreamDataStream = BoxStream<'static, Result<proto::DataTransferResponse, Status>>;

    async fn stream_data(
        &self,
        request: Request<Streaming<proto::DataTransferRequest>>,
    ) -> Result<Response<Self::StreamDataStream>, Status> {
        let permit = permit(&self.transfers, "senders", MAX_TRANSFERS)?;
        let state = (request.into_inner(), Transfer::new(self.exchange.clone()), permit);
        // The next message is taken when the answer before it was: who reads no
        // answers is held up.
        let answers = stream::unfold(Some(state), |state| async {
            let (mut incoming, mut transfer, permit) = state?;
            let answer = match next(&mut incoming).await {
                Ok(None) => return None,
                Ok(Some(message)) => transfer.take(message).await.map_err(status),
                Err(status) => Err(status),
            };
            let state = answer.is_ok().then_some((incoming, transfer, permit));
            Some((answer, state))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn send_results(
        &self,
        request: Request<Streaming<proto::DataTransferRequest>>,
    ) -> Result<Response<proto::DataTransferResponse>, Status> {
        let _permit = permit(&self.transfers, "senders", MAX_TRANSFERS)?;
        let mut incoming = request.into_inner();
        let mut transfer = Transfer::new(self.exchange.clone()).of_one();
        let (mut last, mut repeated_chunks) = (None, 0);
        while let Some(message) = next(&mut incoming).await? {
            let answer = transfer.take(message).await.map_err(status)?;
            repeated_chunks += answer.repeated_chunks;
            last = Some(answer);
        }
        let empty =
            || status(Error::Protocol("the stream is empty; it begins with a begin".into()));
        let last = last.ok_or_else(empty)?;
        Ok(Response::new(proto::DataTransferResponse { repeated_chunks, ..last }))
    }

    type RequestDataStream = BoxStream<'static, Result<proto::RequestDataResponse, Status>>;

    async fn request_data(
        &self,
        request: Request<proto::RequestDataRequest>,
    ) -> Result<Response<Self::RequestDataStream>, Status> {
        if request.get_ref().consume {
            require(&request, NAMESPACE, Right::Change).map_err(Status::from)?;
        }
        let permit = permit(&self.readers, "readers", MAX_READERS)?;
        let request = request.into_inner();
        let wanted = Wanted::try_from(&request).map_err(status)?;
        let reader = self.exchange.read(wanted.key, wanted.options).await.map_err(status)?;
        check_expected(&reader.schema(), request.expected_schema.as_ref()).map_err(status)?;
        let answer = Answer::new(reader, wanted.compression, permit);
        Ok(Response::new(answer.into_stream().map(|item| item.map_err(status)).boxed()))
    }

    async fn get_available_partitions(
        &self,
        request: Request<proto::GetAvailablePartitionsRequest>,
    ) -> Result<Response<proto::GetAvailablePartitionsResponse>, Status> {
        let request = request.into_inner();
        answer::available(&self.exchange, &request).map(Response::new).map_err(status)
    }

    async fn cleanup_query_data(
        &self,
        request: Request<proto::CleanupQueryDataRequest>,
    ) -> Result<Response<proto::CleanupQueryDataResponse>, Status> {
        let query = request.into_inner().query;
        let partitions = self.exchange.cleanup_query_data(&query).map_err(status)? as u64;
        Ok(Response::new(proto::CleanupQueryDataResponse { partitions }))
    }
}
