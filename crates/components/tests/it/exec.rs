//! Programs that answer batches: real ones, with pyarrow.

use std::path::Path;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use sheaf_dataflow::Processor;
use sheaf_retry::{Code, Retryable as _};

use crate::support::{array, batch, processor, received, rows};

fn numbers(from: i64, to: i64) -> RecordBatch {
    batch([("n", array(Int64Array::from_iter_values(from..to)))])
}

fn exec(command: Value) -> Box<dyn Processor> {
    processor("exec", json!({ "command": command, "timeout": "20s" }))
}

fn counter(processor: &dyn Processor) -> u64 {
    processor.counters()[0].1
}

/// A program in Python that keeps the even rows, adds a column, and crashes once at 1000.
const PROGRAM: &str = r#"
import os, sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.ipc as ipc

marker = sys.argv[1]
print("ready", file=sys.stderr)
reader = ipc.open_stream(sys.stdin.buffer)
out = sys.stdout.buffer
writer = None
total = 0
for batch in reader:
    first = batch.column("n")[0].as_py()
    if first == 1000 and not os.path.exists(marker):
        open(marker, "w").close()
        print("crashing on purpose", file=sys.stderr)
        os._exit(3)
    if first == 2000:
        print("rows of no use", file=sys.stderr)
        sys.exit(65)
    kept = batch.filter(pc.equal(pc.bit_wise_and(batch.column("n"), 1), 0))
    made = pa.RecordBatch.from_arrays(
        [kept.column("n"), pc.multiply(kept.column("n"), 2)], names=["n", "twice"])
    total += made.num_rows
    if writer is None:
        writer = ipc.new_stream(out, made.schema)
    writer.write_batch(made)
    out.flush()
if writer is not None:
    last = pa.RecordBatch.from_arrays(
        [pa.array([-1], pa.int64()), pa.array([total], pa.int64())], names=["n", "twice"])
    writer.write_batch(last)
    writer.close()
    out.flush()
"#;

fn python(dir: &Path) -> Option<Box<dyn Processor>> {
    let python = sheaf_testkit::python()?;
    let script = dir.join("program.py");
    std::fs::write(&script, PROGRAM).unwrap();
    Some(exec(json!([python, script, dir.join("crashed")])))
}

#[tokio::test]
async fn a_python_program_answers_batches_and_has_a_last_word() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut exec) = python(dir.path()) else { return };
    let outcome = exec.process(&received(numbers(0, 4), 1)).await.unwrap();
    assert_eq!((rows(&outcome.batches), outcome.done), (vec!["0,0".into(), "2,4".into()], 1));
    // No row is left: nothing goes on, and the batch is done.
    let outcome = exec.process(&received(numbers(7, 8), 2)).await.unwrap();
    assert_eq!((outcome.batches.len(), outcome.done), (0, 2));
    let outcome = exec.process(&received(numbers(10, 11), 3)).await.unwrap();
    assert_eq!((rows(&outcome.batches), outcome.done), (vec!["10,20".to_owned()], 3));
    let outcome = exec.end().await.unwrap();
    assert_eq!((rows(&outcome.batches), outcome.done), (vec!["-1,3".to_owned()], 3));
    assert_eq!(counter(&*exec), 1);
}

#[tokio::test]
async fn a_program_that_dies_is_started_again_for_the_same_batch() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut exec) = python(dir.path()) else { return };
    assert_eq!(exec.process(&received(numbers(0, 2), 1)).await.unwrap().done, 1);
    let error = exec.process(&received(numbers(1000, 1002), 2)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let text = error.to_string();
    assert!(text.contains("ended before its input did (exit status: 3): "), "{text}");
    assert!(text.ends_with("crashing on purpose"), "{text}");
    let outcome = exec.process(&received(numbers(1000, 1002), 2)).await.unwrap();
    assert_eq!((rows(&outcome.batches), outcome.done), (vec!["1000,2000".to_owned()], 2));
    assert_eq!(counter(&*exec), 2);
    let error = exec.process(&received(numbers(2000, 2001), 3)).await.unwrap_err();
    assert_eq!(error.code(), Code::ProcessorFailed);
    assert!(error.to_string().ends_with("rows of no use"), "{error}");
}

#[tokio::test]
async fn a_program_may_be_any_and_is_started_anew_for_other_columns() {
    let mut exec = exec(json!(["cat"]));
    let outcome = exec.process(&received(numbers(0, 2), 1)).await.unwrap();
    assert_eq!(outcome.batches, [numbers(0, 2)]);
    let other = batch([("t", array(StringArray::from(vec!["x"])))]);
    let outcome = exec.process(&received(other.clone(), 2)).await.unwrap();
    assert_eq!((outcome.batches, outcome.done), (vec![other], 2));
    assert_eq!(counter(&*exec), 2);
    // Larger than the pipes are.
    let large = batch([("t", array(StringArray::from(vec!["x".repeat(1_000); 5_000])))]);
    let outcome = exec.process(&received(large.clone(), 3)).await.unwrap();
    assert_eq!(outcome.batches, [large]);
    assert_eq!(exec.end().await.unwrap().done, 3);
}

#[tokio::test]
async fn a_program_that_does_not_answer_is_stopped_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; echo thinking >&2; wait", pid.display());
    let config = json!({ "command": ["sh", "-c", script], "timeout": "1s" });
    let mut exec = processor("exec", config);
    let error = exec.process(&received(numbers(0, 2), 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let text = error.to_string();
    assert!(text.contains("has not answered a batch within 1s and was stopped"), "{text}");
    assert!(text.ends_with(": thinking"), "{text}");
    let pid = std::fs::read_to_string(pid).unwrap();
    let process = format!("/proc/{}/stat", pid.trim());
    // Gone, or dead and not yet collected by the machine's first process.
    let is_gone = || match std::fs::read_to_string(&process) {
        Ok(stat) => stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
        Err(_) => true,
    };
    let mut tries = 0;
    while !is_gone() {
        tries += 1;
        assert!(tries < 1_000, "{process} is still there");
        // sleep: between two looks at the condition, which has a deadline.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_no_answer_is_refused() {
    for (command, code, text) in [
        (json!(["/nowhere/program"]), Code::NotFound, "cannot be started; check `command`"),
        (
            json!(["sh", "-c", "echo hello hello hello; cat >&2 | cat > /dev/null"]),
            Code::MalformedData,
            "is no Arrow IPC stream",
        ),
        (
            json!(["sh", "-c", "exit 0"]),
            Code::Unavailable,
            "ended before its input did (exit status: 0)",
        ),
    ] {
        let error = exec(command.clone()).process(&received(numbers(0, 2), 1)).await.unwrap_err();
        assert_eq!(error.code(), code, "{command}: {error}");
        assert!(error.to_string().contains(text), "{command}: {error}");
    }
    let config = json!({ "command": ["cat"], "maxOutput": 1_000 });
    let error = processor("exec", config).process(&received(numbers(0, 100_000), 1)).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded);
    assert!(error.to_string().contains("raise `maxOutput`"), "{error}");
}

#[tokio::test]
async fn a_program_that_fails_at_its_end_fails_the_component() {
    let mut exec = exec(json!(["sh", "-c", "cat; echo too late >&2; exit 4"]));
    assert_eq!(exec.process(&received(numbers(0, 2), 1)).await.unwrap().done, 1);
    let error = exec.end().await.unwrap_err();
    assert_eq!(error.code(), Code::ProcessorFailed);
    assert!(error.to_string().contains("failed at its end (exit status: 4): too late"), "{error}");
}
