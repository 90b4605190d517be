//! A collector of traces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::background::Background;
use crate::{Error, wait_until};

/// Spans that are kept at most.
const MAX_SPANS: usize = 1_000_000;

/// A collector in this process, on a free port of 127.0.0.1, which speaks OTLP over gRPC and
/// keeps the spans that it is sent. It runs on a thread of its own, so tests that block may use
/// it, and ends when it is dropped.
///
/// ```
/// let collector = sheaf_testkit::Collector::start()?;
/// println!("OTEL_EXPORTER_OTLP_ENDPOINT={}", collector.endpoint());
/// assert!(collector.spans().is_empty());
/// # Ok::<(), sheaf_testkit::Error>(())
/// ```
#[derive(Debug)]
pub struct Collector {
    spans: Kept,
    background: Background,
}

type Kept = Arc<Mutex<Vec<CollectedSpan>>>;

/// A span as it came; identifiers are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectedSpan {
    /// `service.name` of who sent it.
    pub service: String,
    /// What else is said of who sent it.
    pub resource: BTreeMap<String, String>,
    /// The trace that it is of.
    pub trace: String,
    /// Its own identifier.
    pub id: String,
    /// The span that caused it; empty where it begins a trace.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// What is said of it: numbers as their digits.
    pub attributes: BTreeMap<String, String>,
    /// The names of what happened in it.
    pub events: Vec<String>,
    /// Spans that caused it too.
    pub links: Vec<String>,
    /// From its begin to its end.
    pub took: Duration,
    /// Why it failed, where it did.
    pub failure: Option<String>,
}

impl Collector {
    /// One that has nothing.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no port or no thread.
    pub fn start() -> Result<Self, Error> {
        let spans = Kept::default();
        let service = TraceServiceServer::new(Keeper(Arc::clone(&spans)));
        let background = Background::start("collector", |listener| async {
            let incoming = TcpIncoming::from(listener);
            if let Err(error) =
                Server::builder().add_service(service).serve_with_incoming(incoming).await
            {
                eprintln!("the collector cannot serve: {error}");
            }
        })?;
        Ok(Collector { spans, background })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.background.addr()
    }

    /// The same as an address of OTLP.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        lock(&self.spans).clone()
    }

    /// Waits until what came so far is enough, and gives it.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    pub fn wait_spans(
        &self,
        timeout: Duration,
        what: &str,
        is_enough: impl Fn(&[CollectedSpan]) -> bool,
    ) -> Result<Vec<CollectedSpan>, Error> {
        wait_until(timeout, what, || is_enough(&lock(&self.spans)))?;
        Ok(self.spans())
    }
}

fn lock(spans: &Kept) -> MutexGuard<'_, Vec<CollectedSpan>> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Keeper(Kept);

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = lock(&self.0);
        for resource in request.into_inner().resource_spans {
            let about = resource.resource.map(|about| attributes(about.attributes));
            let mut about = about.unwrap_or_default();
            let service = about.remove("service.name").unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let room = MAX_SPANS.saturating_sub(kept.len());
            kept.extend(spans.take(room).map(|span| collected(&service, &about, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn collected(service: &str, resource: &BTreeMap<String, String>, span: Span) -> CollectedSpan {
    let nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    let status = span.status.filter(|status| status.code == StatusCode::Error as i32);
    CollectedSpan {
        service: service.to_owned(),
        resource: resource.clone(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| event.name).collect(),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        took: Duration::from_nanos(nanos),
        failure: status.map(|status| status.message),
    }
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let read = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let read = |one: KeyValue| Some((one.key, read(one.value?.value?)));
    attributes.into_iter().filter_map(read).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
