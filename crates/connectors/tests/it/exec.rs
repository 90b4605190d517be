//! External programs.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array as _, Int64Array, RecordBatch, cast::AsArray as _, types::Int64Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt as _, stream};
use sheaf_connectors::{BatchStream, Error, ExecCommand, ExecLimits, ExecOutput};
use sheaf_retry::{Code, ManualClock, Retryable as _, SystemClock, Timestamp};

use crate::common::key;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn batch(from: i64, count: i64) -> RecordBatch {
    let column = Int64Array::from_iter_values(from..from + count);
    RecordBatch::try_new(schema(), vec![Arc::new(column)]).unwrap()
}

fn input(batches: Vec<RecordBatch>) -> BatchStream {
    stream::iter(batches.into_iter().map(Ok)).boxed()
}

async fn run(command: &str, batches: Vec<RecordBatch>) -> Result<ExecOutput, Error> {
    let command = ExecCommand::new(command, SystemClock::shared());
    command.run(&key("orders:1", 42), 3, schema(), input(batches)).await
}

/// The error, at the start or the end.
async fn failure(command: &str) -> Error {
    match run(command, vec![batch(0, 10)]).await {
        Ok(output) => output.collect().await.unwrap_err(),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_program_far_larger_than_the_pipes_does_not_deadlock() {
    let batches: Vec<_> = (0..40).map(|n| batch(n * 50_000, 50_000)).collect();
    let output = run("cat", batches).await.unwrap();
    assert_eq!(output.schema, Some(schema()));
    let batches = output.collect().await.unwrap();
    let mut next = 0;
    for batch in batches {
        for value in batch.column(0).as_primitive::<Int64Type>().values() {
            assert_eq!(*value, next);
            next += 1;
        }
    }
    assert_eq!(next, 2_000_000);
}

#[tokio::test]
async fn id_fence_and_attempt_are_in_the_environment() {
    let error = failure("echo $SHEAF_BATCH_ID $SHEAF_FENCE $SHEAF_ATTEMPT >&2; exit 65").await;
    assert!(error.to_string().ends_with("orders:1 42 3"), "{error}");
}

#[tokio::test]
async fn the_exit_code_decides_what_a_failure_is() {
    let permanent = failure("cat >/dev/null; echo broken row 7 >&2; exit 65").await;
    assert_eq!(permanent.code(), Code::ProcessorFailed, "{permanent}");
    assert!(permanent.to_string().contains("broken row 7"), "{permanent}");
    for command in ["exit 1", "no-such-program-here", "kill -9 $$", "cat; exit 3"] {
        let transient = failure(command).await;
        assert_eq!(transient.code(), Code::Unavailable, "{command}: {transient}");
    }
}

#[tokio::test]
async fn only_the_end_of_standard_error_is_kept() {
    let error =
        failure("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done >&2; exit 1");
    let text = error.await.to_string();
    assert!(text.ends_with("line 19999"), "{}", &text[text.len() - 40..]);
    assert!(text.len() < 5_000, "{} bytes", text.len());
}

#[tokio::test]
async fn nothing_is_a_result_and_unread_input_no_failure() {
    let nothing = run("exit 0", (0..40).map(|n| batch(n, 50_000)).collect()).await.unwrap();
    assert_eq!(nothing.schema, None);
    assert_eq!(nothing.collect().await.unwrap(), []);
}

#[tokio::test]
async fn output_that_is_no_arrow_stream_is_malformed() {
    for command in ["echo hello, this is no Arrow stream at all", "head -c 200", "head -c 3"] {
        let error = failure(command).await;
        assert_eq!(error.code(), Code::MalformedData, "{command}: {error}");
    }
    let failed = failure("echo hello there, no Arrow stream either; exit 65").await;
    assert_eq!(failed.code(), Code::ProcessorFailed, "the exit code counts: {failed}");
}

#[tokio::test]
async fn the_output_has_a_limit() {
    let limits = ExecLimits { max_output_bytes: 100_000, ..ExecLimits::default() };
    let command = ExecCommand::new("cat", SystemClock::shared()).with_limits(limits);
    let batches = input((0..40).map(|n| batch(n, 50_000)).collect());
    let error = match command.run(&key("a", 1), 1, schema(), batches).await {
        Ok(output) => output.collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
}

#[tokio::test]
async fn a_failing_input_ends_the_program_and_is_the_error() {
    let command = ExecCommand::new("cat", SystemClock::shared());
    let broken = stream::iter([Ok(batch(0, 1)), Err(Error::Invalid("source broke".to_owned()))]);
    let output = command.run(&key("a", 1), 1, schema(), broken.boxed()).await;
    let error = match output {
        Ok(output) => output.collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.to_string(), "source broke");
}

/// The process ids that a shell wrote: its own and its child's.
async fn pids(path: &std::path::Path) -> Vec<i32> {
    wait_until(|| std::fs::read_to_string(path).is_ok_and(|text| text.ends_with(".\n"))).await;
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn is_running(pid: i32) -> bool {
    // A zombie that nobody has reaped yet has ended too.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

async fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited 20 s in vain");
        tokio::task::yield_now().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dropped_run_ends_the_program_and_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pids");
    // Deaf to SIGTERM, with a child that holds the pipes open.
    let line = format!("trap '' TERM; sleep 600 & echo $$ $! . > {}; wait; wait", path.display());
    let clock = ManualClock::new(Timestamp::EPOCH);
    let command = ExecCommand::new(&line, clock.clone());
    let running = tokio::spawn(async move {
        let output = command.run(&key("a", 1), 1, schema(), stream::pending().boxed()).await;
        drop(output);
    });
    let pids = pids(&path).await;
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| is_running(*pid)));
    running.abort();
    // SIGTERM is ignored: the grace runs, and its end brings SIGKILL.
    wait_until(|| clock.sleepers() > 0).await;
    clock.advance(Duration::from_secs(5));
    wait_until(|| !pids.iter().any(|pid| is_running(*pid))).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_over_its_time_is_stopped_and_may_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pids");
    let line = format!("sleep 600 & echo $$ $! . > {}; echo patience >&2; wait", path.display());
    let clock = ManualClock::new(Timestamp::EPOCH);
    let limits = ExecLimits { timeout: Some(Duration::from_secs(90)), ..ExecLimits::default() };
    let command = ExecCommand::new(&line, clock.clone()).with_limits(limits);
    let running = tokio::spawn(async move {
        command.run(&key("a", 1), 1, schema(), stream::pending().boxed()).await.unwrap_err()
    });
    let pids = pids(&path).await;
    wait_until(|| clock.sleepers() > 0).await;
    clock.advance(Duration::from_secs(90));
    let error = running.await.unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("limit of 1m30s"), "{error}");
    wait_until(|| !pids.iter().any(|pid| is_running(*pid))).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_ended_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pids");
    let line = format!("sleep 600 & echo $$ $! . > {}; exit 0", path.display());
    let output = run(&line, vec![batch(0, 1)]).await.unwrap();
    assert_eq!(output.collect().await.unwrap().len(), 0);
    let pids = pids(&path).await;
    wait_until(|| !pids.iter().any(|pid| is_running(*pid))).await;
}

#[tokio::test]
async fn dictionaries_and_empty_batches_pass() {
    use arrow_array::{DictionaryArray, types::Int8Type};
    let one: DictionaryArray<Int8Type> = vec!["a", "b", "a"].into_iter().collect();
    let two: DictionaryArray<Int8Type> = vec!["c", "a"].into_iter().collect();
    let schema = Arc::new(Schema::new(vec![Field::new("d", one.data_type().clone(), true)]));
    let make = |a: &DictionaryArray<Int8Type>| {
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(a.clone())]).unwrap()
    };
    let given = vec![make(&one), make(&one).slice(0, 0), make(&two)];
    let command = ExecCommand::new("cat", SystemClock::shared());
    let output =
        command.run(&key("a", 1), 1, Arc::clone(&schema), input(given.clone())).await.unwrap();
    assert_eq!(output.collect().await.unwrap(), given);
}
