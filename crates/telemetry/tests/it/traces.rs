//! Spans against a collector that speaks OTLP, and against one that is away.

use std::net::TcpListener;
use std::time::Duration;

use sheaf_proto::{Begin, SharedTracer, Span, TraceContext, Value};
use sheaf_retry::{Retryable as _, SharedClock, SystemClock};
use sheaf_telemetry::{TraceOptions, Traces, init_traces};
use sheaf_testkit::Collector;

const LONG: Duration = Duration::from_secs(60);

fn clock() -> SharedClock {
    SystemClock::shared()
}

fn options(endpoint: &str, sampler: &str, argument: Option<&str>) -> TraceOptions {
    TraceOptions {
        service: "mine".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        sampler: Some(sampler.to_owned()),
        sampler_argument: argument.map(str::to_owned),
        ..TraceOptions::default()
    }
}

fn start(options: &TraceOptions) -> (Traces, SharedTracer) {
    let traces = init_traces(options, &clock()).unwrap();
    let tracer = traces.tracer().unwrap();
    (traces, tracer)
}

fn span(tracer: &SharedTracer, name: &'static str, parent: Option<TraceContext>) -> Span {
    let begin = Begin { name, of: "rows", parent, ago: Duration::from_secs(2) };
    Span::start(Some(tracer), begin)
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_collector_gets_what_was_said_of_a_span() {
    let collector = Collector::start().unwrap();
    let (traces, tracer) = start(&options(&collector.endpoint(), "always_on", None));
    let first = span(&tracer, "make", None);
    let cause = TraceContext::new([5; 16], [6; 8], true).unwrap();
    let mut second = span(&tracer, "write", first.context());
    let recording = second.recorded().unwrap();
    recording.set("sheaf.rows", Value::Number(u64::MAX));
    recording.set("sheaf.edge", Value::Text("a:b"));
    recording.event("failed", "the disk is full");
    recording.link(cause);
    recording.fail("no more attempts");
    let (one, other) = (first.context().unwrap(), second.context().unwrap());
    drop((first, second));
    // What is not sent yet is sent now.
    drop(traces);
    let spans = collector.spans();
    let [make, write] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((make.name.as_str(), make.parent.as_str()), ("make rows", ""));
    assert_eq!((&make.trace, &make.id), (&text(&one.trace()), &text(&one.span())));
    assert_eq!((&write.trace, &write.parent), (&make.trace, &make.id));
    assert_eq!((write.name.as_str(), &write.id), ("write rows", &text(&other.span())));
    assert_eq!(write.service, "mine");
    assert_eq!(write.attributes["sheaf.edge"], "a:b");
    assert_eq!(write.attributes["sheaf.rows"], i64::MAX.to_string());
    assert_eq!(
        (&write.events[..], &write.links[..]),
        (&["failed".to_owned()][..], &[text(&[6; 8])][..])
    );
    assert_eq!(write.failure.as_deref(), Some("no more attempts"));
    assert!(write.took >= Duration::from_secs(2), "it began before it was said: {write:?}");
}

#[test]
fn what_follows_a_span_that_is_not_sampled_is_not_sampled_either() {
    let collector = Collector::start().unwrap();
    let none = options(&collector.endpoint(), "parentbased_traceidratio", Some("0"));
    let (traces, tracer) = start(&none);
    let mut first = span(&tracer, "make", None);
    assert!(first.recorded().is_none());
    let context = first.context().unwrap();
    assert!(!context.is_sampled(), "others are told that it is not");
    let mut second = span(&tracer, "write", Some(context));
    assert!(second.recorded().is_none());
    assert_eq!(second.context(), Some(context));
    // And what follows one that is, is.
    let sampled = TraceContext::new([5; 16], [6; 8], true);
    assert!(span(&tracer, "write", sampled).recorded().is_some());
    drop(traces);
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0].parent, text(&[6; 8]));
}

#[test]
fn spans_go_out_while_the_process_runs() {
    let collector = Collector::start().unwrap();
    let (_traces, tracer) = start(&options(&collector.endpoint(), "always_on", None));
    drop(span(&tracer, "make", None));
    collector.wait_spans(LONG, "a span", |spans| spans.len() == 1).unwrap();
}

/// Nothing listens there, or somebody who never answers.
#[test]
fn a_collector_that_is_away_holds_nothing_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let (traces, tracer) = start(&options(&format!("http://{address}"), "always_on", None));
        let begun = clock();
        // More than fit into the queue.
        for _ in 0..20_000 {
            drop(span(&tracer, "make", None));
        }
        drop(traces);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(30), "it ended only after {took:?}");
        let mut late = span(&tracer, "make", None);
        assert!(late.recorded().is_none(), "nothing is recorded after the end");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let of = |options: TraceOptions| init_traces(&options, &clock()).unwrap_err();
    let http = TraceOptions {
        protocol: Some("http/protobuf".to_owned()),
        ..options("http://127.0.0.1:4318", "always_on", None)
    };
    for (options, part) in [
        (http, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        (options("http://127.0.0.1:4317", "sometimes", None), "OTEL_TRACES_SAMPLER=sometimes"),
        (options("http://no host", "always_on", None), "\"http://no host\""),
    ] {
        let error = of(options);
        assert_eq!(error.code(), sheaf_retry::Code::InvalidArgument);
        assert!(error.to_string().contains(part), "{error}");
    }
}
