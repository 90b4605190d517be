//! Spans of the SDK of OpenTelemetry, on their way to a collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_otlp::{
    RetryPolicy, SpanExporter as Exporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter};
use sheaf_proto::{Begin, Recording, SharedTracer, TraceContext, Tracer, Value};
use sheaf_retry::SharedClock;
use tokio::runtime::Runtime;

use super::sampler::sampler;
use super::{PROTOCOL, TraceOptions};
use crate::Error;

/// How long the last spans may take at the end of the process.
const FLUSH: Duration = Duration::from_secs(3);

/// Once more, and at once: the end of the process waits for it.
fn retries() -> RetryPolicy {
    RetryPolicy::recommended().with_max_retries(1)
}

/// What sends spans. The calls are made on a thread of its own: whoever ends the process blocks
/// the threads that it has.
#[derive(Debug)]
pub(super) struct Sending {
    provider: SdkTracerProvider,
    tracer: Arc<Recorder>,
    runtime: Option<Runtime>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    recorded: AtomicU64,
    sent: AtomicU64,
}

impl Sending {
    pub(super) fn start(
        options: &TraceOptions,
        endpoint: &str,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        if let Some(protocol) = options.protocol.as_deref().filter(|name| name.trim() != "grpc") {
            let (variable, value) = (PROTOCOL, protocol.to_owned());
            let help = "traces are sent by grpc, to the port that a collector has for that";
            return Err(Error::TraceVariable { variable, value, help });
        }
        let (sampler, follows_parents) = sampler(options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(Error::TraceThread)?;
        let entered = runtime.enter();
        let exporter =
            Exporter::builder().with_tonic().with_endpoint(endpoint).with_retry_policy(retries());
        let exporter = exporter.build().map_err(|error| Error::Collector {
            endpoint: endpoint.to_owned(),
            why: error.to_string(),
        })?;
        let counts = Arc::new(Counts::default());
        let exporter = Telling {
            exporter,
            endpoint: endpoint.to_owned(),
            is_away: AtomicBool::new(false),
            counts: Arc::clone(&counts),
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource(&options.service))
            .with_batch_exporter(exporter)
            .build();
        drop(entered);
        let tracer = Arc::new(Recorder {
            tracer: provider.tracer("sheaf"),
            follows_parents,
            clock,
            counts: Arc::clone(&counts),
        });
        tracing::info!(endpoint, sampler = options.sampler, "traces are sent");
        Ok(Sending { provider, tracer, runtime: Some(runtime), counts })
    }

    pub(super) fn tracer(&self) -> SharedTracer {
        Arc::clone(&self.tracer) as _
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // What becomes of it, the counts tell.
        drop(self.provider.shutdown_with_timeout(FLUSH));
        let recorded = self.counts.recorded.load(Ordering::Acquire);
        let sent = self.counts.sent.load(Ordering::Acquire);
        if sent < recorded {
            tracing::warn!(sent, lost = recorded - sent, "not all spans were sent");
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the environment says of this process, and its name.
fn resource(service: &str) -> Resource {
    let resource = Resource::builder().build();
    let name = resource.get(&Key::from_static_str("service.name"));
    // So the SDK calls one that has no name.
    match name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        true => Resource::builder().with_service_name(service.to_owned()).build(),
        false => resource,
    }
}

/// Says once that the collector does not answer, and once that it does again.
#[derive(Debug)]
struct Telling {
    exporter: Exporter,
    endpoint: String,
    is_away: AtomicBool,
    counts: Arc<Counts>,
}

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        let endpoint = &self.endpoint;
        match &result {
            Ok(()) => {
                self.counts.sent.fetch_add(count, Ordering::AcqRel);
                if self.is_away.swap(false, Ordering::AcqRel) {
                    tracing::info!(endpoint, "the collector takes traces again");
                }
            }
            Err(error) => {
                if !self.is_away.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        endpoint,
                        %error,
                        "the collector does not take traces: they are lost until it does, and \
                         nothing else waits for it"
                    );
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Begins spans.
#[derive(Debug)]
struct Recorder {
    tracer: SdkTracer,
    /// What its parent is, a span is too: sampled, or not.
    follows_parents: bool,
    clock: SharedClock,
    counts: Arc<Counts>,
}

impl Tracer for Recorder {
    fn start(&self, begin: Begin<'_>) -> (Option<TraceContext>, Option<Box<dyn Recording>>) {
        let Begin { name, of, parent, ago } = begin;
        if self.follows_parents && parent.is_some_and(|parent| !parent.is_sampled()) {
            return (parent, None);
        }
        let (around, kind) = match parent {
            Some(parent) => {
                (Context::new().with_remote_span_context(remote(parent)), SpanKind::Consumer)
            }
            None => (Context::new(), SpanKind::Producer),
        };
        let since = Duration::from_micros(self.clock.now().as_micros()).saturating_sub(ago);
        let builder = SpanBuilder {
            span_kind: Some(kind),
            start_time: Some(SystemTime::UNIX_EPOCH + since),
            ..SpanBuilder::from_name(name)
        };
        let mut span = self.tracer.build_with_context(builder, &around);
        let made = span.span_context();
        let (trace, id) = (made.trace_id().to_bytes(), made.span_id().to_bytes());
        // After the end of traces a span has no identifiers.
        let context = TraceContext::new(trace, id, made.is_sampled()).or(parent);
        if !span.is_recording() {
            return (context, None);
        }
        span.update_name(format!("{name} {of}"));
        self.counts.recorded.fetch_add(1, Ordering::AcqRel);
        (context, Some(Box::new(Recorded(span))))
    }
}

fn remote(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace()),
        SpanId::from_bytes(context.span()),
        TraceFlags::default().with_sampled(context.is_sampled()),
        true,
        TraceState::default(),
    )
}

/// A span, which ends when it is dropped.
struct Recorded(Span);

impl Recording for Recorded {
    fn set(&mut self, key: &'static str, value: Value<'_>) {
        self.0.set_attribute(match value {
            Value::Text(text) => KeyValue::new(key, text.to_owned()),
            Value::Number(number) => KeyValue::new(key, i64::try_from(number).unwrap_or(i64::MAX)),
        });
    }

    fn event(&mut self, name: &'static str, text: &str) {
        let attributes = match text {
            "" => Vec::new(),
            text => vec![KeyValue::new("message", text.to_owned())],
        };
        self.0.add_event(name, attributes);
    }

    fn link(&mut self, cause: TraceContext) {
        self.0.add_link(remote(cause), Vec::new());
    }

    fn fail(&mut self, why: &str) {
        self.0.set_status(Status::error(why.to_owned()));
    }
}
