//! What a span costs that is not sampled. A program of its own: it counts allocations.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(unsafe_code, reason = "only an allocator sees every allocation")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use sheaf_proto::{Begin, SharedTracer, Span, TraceContext};
use sheaf_retry::SystemClock;
use sheaf_telemetry::{TraceOptions, init_traces};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's, with a count for each thread.
struct Counting;

// SAFETY: every call is handed on as it is; the count is a thread's own number without a
// destructor, and counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

fn begin(tracer: &SharedTracer, parent: Option<TraceContext>) -> Span {
    Span::start(Some(tracer), Begin { name: "write", of: "files", parent, ago: Duration::ZERO })
}

#[test]
fn a_span_that_is_not_sampled_allocates_nothing() {
    let options = TraceOptions {
        service: "none".to_owned(),
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        sampler: Some("parentbased_traceidratio".to_owned()),
        sampler_argument: Some("0".to_owned()),
        ..TraceOptions::default()
    };
    let traces = init_traces(&options, &SystemClock::shared()).unwrap();
    let tracer = traces.tracer().unwrap();
    // The random numbers of this thread are made ready by the first.
    let unsampled = begin(&tracer, None).context();
    let of_sources = allocations(|| (0..1_000).for_each(|_| drop(begin(&tracer, None))));
    assert_eq!(of_sources, 0, "where a trace begins");
    let of_others = allocations(|| (0..1_000).for_each(|_| drop(begin(&tracer, unsampled))));
    assert_eq!(of_others, 0, "where it goes on");
    // And it does count.
    let sampled = TraceContext::new([1; 16], [2; 8], true);
    assert!(allocations(|| drop(begin(&tracer, sampled))) > 0);
}
