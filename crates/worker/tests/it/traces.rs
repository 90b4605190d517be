//! The span of an attempt, between that of its batch and those of what it makes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sheaf_coordinator::{BatchSpec, State};
use sheaf_proto::{Begin, Recording, TraceContext, Tracer, Value};
use sheaf_retry::{RetryPolicy, SystemClock};
use sheaf_worker::{Config, Job, Parts, ProcessError, Worker};

use crate::support::{Each, Scene, id};

/// What was said of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Note {
    name: String,
    parent: Option<TraceContext>,
    said: BTreeMap<&'static str, String>,
}

/// Keeps spans that have ended. The number of each span is its identifier.
#[derive(Debug, Default)]
struct Notes {
    begun: Mutex<u8>,
    ended: Arc<Mutex<Vec<Note>>>,
}

struct Open(Note, Arc<Mutex<Vec<Note>>>);

impl Tracer for Notes {
    fn start(&self, begin: Begin<'_>) -> (Option<TraceContext>, Option<Box<dyn Recording>>) {
        let Begin { name, of, parent, .. } = begin;
        let mut number = self.begun.lock().unwrap();
        *number += 1;
        let trace = parent.map_or([*number; 16], |parent| parent.trace());
        let note = Note { name: format!("{name} {of}"), parent, said: BTreeMap::new() };
        let context = TraceContext::new(trace, [*number; 8], true);
        (context, Some(Box::new(Open(note, Arc::clone(&self.ended)))))
    }
}

impl Recording for Open {
    fn set(&mut self, key: &'static str, value: Value<'_>) {
        self.0.said.insert(key, format!("{value:?}"));
    }

    fn event(&mut self, name: &'static str, text: &str) {
        self.0.said.insert(name, text.to_owned());
    }

    fn link(&mut self, _: TraceContext) {}

    fn fail(&mut self, why: &str) {
        self.0.said.insert("failure", why.to_owned());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(std::mem::take(&mut self.0));
    }
}

fn caused() -> TraceContext {
    TraceContext::new([0xab; 16], [0xcd; 8], true).unwrap()
}

/// Makes `child` of `parent`, and fails at `child` the first time.
async fn work(job: Job) -> Result<sheaf_worker::Output, ProcessError> {
    let name = job.spec.id.as_str().to_owned();
    if name == "child" && job.attempt == 1 {
        return Err(ProcessError::transient("not yet"));
    }
    let mut output = job.into_rows().await?;
    if name == "parent" {
        let retry = Some(crate::support::eager(3));
        output.batches.push(BatchSpec { retry, ..BatchSpec::new(id("child")) });
    }
    Ok(output)
}

async fn run(tracer: Option<Arc<Notes>>) -> Scene {
    let scene = Scene::new().await;
    for name in ["parent", "child"] {
        scene.shelf.put(name, &[1, 2]);
    }
    let parts = Parts::new(
        Arc::clone(&scene.coordinator),
        Arc::clone(&scene.shelf) as _,
        Arc::new(Each(work)),
        SystemClock::shared(),
    );
    let tracer = tracer.map(|notes| notes as sheaf_proto::SharedTracer);
    let worker = Worker::new(Config::new("pool"), parts.traced_by(tracer)).unwrap();
    worker.start().unwrap();
    let trace_context = caused().to_string();
    let retry = Some(RetryPolicy::none());
    let spec = BatchSpec { trace_context, retry, rows: 2, ..BatchSpec::new(id("parent")) };
    scene.coordinator.register(vec![spec]).await.unwrap();
    scene.reaches("child", State::Completed).await;
    worker.shutdown().await;
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_goes_on_with_its_batch_and_what_it_makes_with_the_attempt() {
    let notes = Arc::new(Notes::default());
    let scene = run(Some(Arc::clone(&notes))).await;
    let ended = notes.ended.lock().unwrap().clone();
    let [parent, failed, child] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((parent.name.as_str(), parent.parent), ("work default", Some(caused())));
    assert_eq!(parent.said["sheaf.batch_id"], "Text(\"parent\")");
    assert_eq!(parent.said["sheaf.rows"], "Number(2)");
    assert_eq!(parent.said["sheaf.batches"], "Number(1)");
    let own = TraceContext::new([0xab; 16], [1; 8], true);
    assert_eq!(scene.batch("child").await.spec.trace_context, own.unwrap().to_string());
    assert_eq!((failed.parent, child.parent), (own, own));
    assert_eq!(failed.said["failure"], "not yet");
    let attempts = (&failed.said["sheaf.attempt"], &child.said["sheaf.attempt"]);
    assert_eq!((attempts.0.as_str(), attempts.1.as_str()), ("Number(1)", "Number(2)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tracer_a_trace_goes_on_past_the_worker() {
    let scene = run(None).await;
    assert_eq!(scene.batch("child").await.spec.trace_context, caused().to_string());
}
