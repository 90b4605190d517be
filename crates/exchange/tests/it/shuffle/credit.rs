//! Who is promised room, and for how long.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_exchange::shuffle::{ATTEMPT, SENDER, SENDERS, crc32c_of};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{CallOptions, Message, MessageStream};
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};
use tokio::sync::mpsc;

use super::talk::alone;
use super::world::{LONG, Worker, batch, pool, schema, soon};

/// A sender of partition 0 that says what a test has it say.
struct Speaker {
    out: mpsc::Sender<Message>,
    answers: MessageStream,
}

impl Speaker {
    async fn begin(worker: &Worker, index: u32) -> Self {
        let call = CallOptions::default()
            .header(SENDER, index.to_string())
            .header(ATTEMPT, "1")
            .header(SENDERS, "2");
        let schema = encode_batches(schema(), &[]).unwrap().remove(0);
        let begin = alone(r#"{"begin":{"partitions":[0]}}"#.to_owned());
        let begin = Message { header: schema.header, ..begin };
        let (out, said) = mpsc::channel(4);
        let said = stream::unfold(said, |mut said| async { Some((Ok(said.recv().await?), said)) });
        let messages = stream::iter([Ok(begin)]).chain(said).boxed();
        let connection = pool().connection(&worker.uri).unwrap();
        let path = ["shuffle", "query:1", "3"];
        let answers = connection.exchange(&path, &call, messages).await.unwrap();
        let mut this = Speaker { out, answers };
        assert!(this.hears().await.contains("begun"));
        this
    }

    async fn says(&self, message: Message) {
        self.out.send(message).await.unwrap();
    }

    async fn wants(&self, bytes: usize) {
        self.says(alone(format!(r#"{{"want":[{bytes}]}}"#))).await;
    }

    async fn hears(&mut self) -> String {
        let answer = soon("an answer", self.answers.try_next()).await.unwrap().unwrap();
        String::from_utf8(answer.app_metadata.to_vec()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_that_is_not_used_goes_to_who_waits() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let worker = Worker::by(clock.clone(), "127.0.0.1:0", 1 << 20).await;
    let chunk = encode_batches(schema(), &[batch(0, 18_000)]).unwrap().remove(1);
    let bytes = chunk.header.len() + chunk.body_len();
    assert!((600 << 10..900 << 10).contains(&bytes), "{bytes}");
    let said = format!(
        r#"{{"chunk":{{"partition":0,"sequence":0,"crc32c":"{:08x}"}}}}"#,
        crc32c_of(&chunk)
    );
    let chunk = Message { app_metadata: said.into(), ..chunk };
    let mut idle = Speaker::begin(&worker, 0).await;
    idle.wants(bytes).await;
    assert!(idle.hears().await.contains("credit"));
    // Nobody else needs it: it stays however long that takes.
    let sleeps = || async { clock.sleepers() > 0 };
    sheaf_testkit::wait_until_async(LONG, "a timer", sleeps).await.unwrap();
    clock.advance(Duration::from_secs(60));
    let mut other = Speaker::begin(&worker, 1).await;
    other.wants(bytes).await;
    assert!(other.hears().await.contains("full"));
    // Whose turn it is to be woken is not known.
    let credit = async {
        loop {
            clock.advance(Duration::from_secs(1));
            tokio::select! {
                answer = other.answers.try_next() => break answer.unwrap().unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let credit = soon("the credit", credit).await;
    assert!(String::from_utf8_lossy(&credit.app_metadata).contains("credit"), "{credit:?}");
    other.says(chunk.clone()).await;
    assert!(other.hears().await.contains("taken"));
    // Who comes late is told to come again.
    idle.says(chunk).await;
    assert!(idle.hears().await.contains("failed"));
    let error = soon("the end", idle.answers.try_next()).await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull, "{error}");
}
