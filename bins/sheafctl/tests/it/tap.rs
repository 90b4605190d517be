//! `sheafctl tap` of a pipeline that runs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::live::{Live, batch};
use crate::{code, data, notes};

/// A tap that has begun to look, and what it prints.
struct Tap {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Tap {
    async fn open(live: &Live, arguments: &[&str]) -> Self {
        let file = live.token_file();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sheafctl"))
            .args(["tap", "make:pass", "--server", &live.address, "--token-file", &file])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // `taps` in the sender's own statistics.
        live.wait_for_taps(1).await;
        Tap { child, lines }
    }

    fn rest(self) -> (Vec<String>, String, Option<i32>) {
        let lines = self.lines.map(Result::unwrap).collect();
        let output = self.child.wait_with_output().unwrap();
        (lines, String::from_utf8(output.stderr).unwrap(), output.status.code())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_prints_exactly_the_rows_that_flow_and_ends_with_them() {
    let mut live = Live::start().await;
    live.open.send_replace(true);
    let tap = Tap::open(&live, &["--format", "json"]).await;
    for start in 0..5 {
        live.send(batch(start * 3..start * 3 + 3)).await;
    }
    live.end().await;
    let (lines, notes, code) = tokio::task::spawn_blocking(|| tap.rest()).await.unwrap();
    let expected: Vec<String> = (0..15).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!((lines, code), (expected, Some(0)), "{notes}");
    assert!(notes.contains("looking at make:pass of live, 1 instance\n"), "{notes}");
    assert!(notes.contains("15 rows; left out for want of time: 0 rows in 0 batches\n"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_ends_after_so_many_rows_and_the_pipeline_goes_on() {
    let mut live = Live::start().await;
    live.open.send_replace(true);
    let tap = Tap::open(&live, &["--format", "csv", "--rows", "4"]).await;
    live.send(batch(0..3)).await;
    live.send(batch(3..6)).await;
    let (lines, notes, code) = tokio::task::spawn_blocking(|| tap.rest()).await.unwrap();
    assert_eq!((lines.join(" "), code), ("n 0 1 2 3".to_owned(), Some(0)), "{notes}");
    live.send(batch([100])).await;
    live.written.subscribe().wait_for(|written| *written == (3, 115)).await.unwrap();
    live.wait_for_taps(0).await;
    live.end().await;
}

/// It never reads what the tap prints, so that the tap stands still with a full pipe.
#[tokio::test(flavor = "multi_thread")]
async fn a_tap_that_stands_still_does_not_slow_the_edge() {
    const BATCHES: i64 = 600;
    const ROWS: i64 = 20_000;
    let mut live = Live::start().await;
    live.open.send_replace(true);
    let tap = Tap::open(&live, &["--format", "json"]).await;
    for _ in 0..BATCHES {
        live.send(batch(0..ROWS)).await;
    }
    let all = (BATCHES.cast_unsigned(), BATCHES * (ROWS * (ROWS - 1) / 2));
    let mut written = live.written.subscribe();
    let written = written.wait_for(|written| *written == all);
    tokio::time::timeout(std::time::Duration::from_secs(60), written)
        .await
        .expect("everything is written while nobody reads what the tap has")
        .unwrap();
    // The newest is never left out.
    live.send(batch([-1])).await;
    let reading = tokio::task::spawn_blocking(move || {
        let mut tap = tap;
        let before = tap.lines.by_ref().map(Result::unwrap).take_while(|line| line != "{\"n\":-1}");
        (before.count() as u64, tap)
    });
    let (lines, tap) = reading.await.unwrap();
    live.end().await;
    let (_, notes, _) = tokio::task::spawn_blocking(|| tap.rest()).await.unwrap();
    let missed = notes.split("left out for want of time: ").nth(1).unwrap();
    let missed: u64 = missed.split(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert!(missed > 0, "{notes}");
    assert_eq!(lines + missed, u64::try_from(BATCHES * ROWS).unwrap(), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_look_and_what_is_not_there_is_told() {
    let live = Live::start().await;
    let file = live.token_file();
    let output = live.sheafctl(&["tap", "make:keep", "--token-file", &file]).await;
    let text = notes(&output);
    assert_eq!((code(&output), data(&output)), (3, String::new()));
    assert!(text.contains("there are: make:pass, pass:keep"), "{text}");
    live.wait_for_top(|seen| seen["components"][1]["status"] == "healthy").await;
    std::fs::write(&file, "another token").unwrap();
    let output = live.sheafctl(&["tap", "make:pass", "--token-file", &file]).await;
    let text = notes(&output);
    assert!(code(&output) != 0 && text.contains("run.json"), "{text}");
    assert!(!text.contains("another token"), "{text}");
    let output = live.sheafctl(&["tap", "make:pass"]).await;
    assert!(notes(&output).contains("--token-file"), "{}", notes(&output));
}
