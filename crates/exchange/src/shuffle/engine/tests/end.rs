//! Queries that nobody uses, and a process that is to end.

use sheaf_retry::{Disposition, Retryable as _};

use super::*;

const HOUR: Duration = DEFAULT_IDLE;
const MINUTE: Duration = Duration::from_secs(60);

fn idled_out(error: &Error) -> bool {
    matches!(error, Error::CleanedUp { why: Gone::Idle { limit: HOUR }, .. })
}

#[tokio::test]
async fn a_query_that_nobody_uses_goes_and_who_comes_is_told_why() {
    let world = World::new();
    world.clock.advance(MINUTE);
    world.begin();
    world.push();
    world.clock.advance(HOUR - MINUTE);
    // Each use counts: a chunk that comes again, a commit, a read.
    world.push();
    world.clock.advance(HOUR - MINUTE);
    world.commit();
    world.clock.advance(HOUR - MINUTE);
    assert!(world.exchange.sweep().is_empty());
    let read = world.exchange.read(key(), ReadOptions::default());
    let mut reader = read.await.unwrap();
    world.clock.advance(HOUR - MINUTE);
    assert!(matches!(reader.next().await.unwrap(), Item::Chunk { .. }));
    world.clock.advance(HOUR - MINUTE);
    assert!(world.exchange.sweep().is_empty());
    // What is only looked at does not count.
    assert!(world.exchange.get_available_partitions("q", 0).unwrap().partitions[0].ready);
    assert_eq!(world.exchange.stats(None).queries[0].idle_ms, 59 * 60_000);
    world.clock.advance(MINUTE);
    assert_eq!(world.exchange.sweep(), ["q"]);
    assert_eq!(world.exchange.budget().used(), 0);
    let error = reader.next().await.unwrap_err();
    assert!(idled_out(&error), "{error}");
    assert!(error.to_string().contains("3600s"), "{error}");
    let begun = world.exchange.begin(&key(), Sender::only(), &world.messages[0]);
    assert!(idled_out(&begun.unwrap_err()));
    assert!(world.exchange.stats(None).queries.is_empty());
}

#[tokio::test]
async fn who_waits_for_its_senders_keeps_a_query() {
    let world = World::new();
    world.begin();
    world.clock.advance(HOUR - MINUTE);
    let read = world.exchange.read(key(), ReadOptions::default()).await;
    let mut reader = read.unwrap();
    world.clock.advance(HOUR - MINUTE);
    let error = reader.next().await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
    world.clock.advance(HOUR - MINUTE);
    assert!(world.exchange.sweep().is_empty());
}

#[tokio::test]
async fn an_attempt_of_a_dead_sender_goes_with_its_query_and_another_query_stays() {
    let world = World::new();
    world.begin();
    world.push();
    world.clock.advance(HOUR / 2);
    let other = PartitionKey::try_new("other", 0, 0).unwrap();
    world.exchange.begin(&other, Sender::only(), &world.messages[0]).unwrap();
    assert_eq!(world.exchange.open_attempts(), 2);
    world.clock.advance(HOUR / 2);
    assert_eq!(world.exchange.sweep(), ["q"]);
    assert_eq!(
        (world.exchange.queries(), world.exchange.open_attempts()),
        (vec!["other".into()], 1)
    );
}

#[tokio::test]
async fn an_attempt_of_a_dead_sender_loses_its_chunks_while_others_go_on() {
    let world = World::new();
    let [dead, alive] = [0, 1].map(|index| Sender { index, attempt: 1, senders: 2 });
    for sender in [dead, alive] {
        world.exchange.begin(&key(), sender, &world.messages[0]).unwrap();
    }
    let before = world.exchange.budget().used();
    world.exchange.push(&key(), dead, 0, None, world.messages[1].clone()).unwrap();
    world.clock.advance(HOUR);
    world.exchange.push(&key(), alive, 0, None, world.messages[1].clone()).unwrap();
    let both = world.exchange.budget().used();
    assert!(world.exchange.sweep().is_empty());
    let one = world.exchange.budget().used();
    assert!(one < both && one - before == both - one, "{before}, {both}, {one}");
    assert_eq!(world.exchange.open_attempts(), 1);
    let commit = world.exchange.commit(&key(), dead, Totals { chunks: 1, rows: 3 });
    assert!(matches!(commit.unwrap_err(), Error::Totals { .. }));
    let push = world.exchange.push(&key(), dead, 0, None, world.messages[1].clone());
    let error = push.unwrap_err();
    assert!(error.to_string().contains("begin another attempt"), "{error}");
    let again = Sender { attempt: 2, ..dead };
    for sender in [again, alive] {
        world.exchange.begin(&key(), sender, &world.messages[0]).unwrap();
        world.exchange.push(&key(), sender, 0, None, world.messages[1].clone()).unwrap();
        world.exchange.commit(&key(), sender, Totals { chunks: 1, rows: 3 }).unwrap();
    }
    assert_eq!(end(world.reader_of_all()).await.unwrap(), 2);
    // What has been read stays, and so does what has committed.
    world.clock.advance(HOUR / 2);
    let old = Sender { attempt: 3, ..dead };
    assert!(world.exchange.begin(&key(), old, &world.messages[0]).is_err());
    assert_eq!(end(world.reader_of_all()).await.unwrap(), 2);
    world.clock.advance(HOUR / 2);
    assert!(world.exchange.sweep().is_empty());
    assert_eq!(end(world.reader_of_all()).await.unwrap(), 2);
}

#[tokio::test]
async fn what_was_opened_sweeps_by_itself_and_no_longer_than_it_lives() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let options = ReceiverOptions::new(Budget::new(1 << 20), clock.clone()).with_idle(MINUTE);
    let exchange = Exchange::open(options).await.unwrap();
    let messages = World::new().messages;
    exchange.begin(&key(), Sender::only(), &messages[0]).unwrap();
    let reader =
        exchange.read(key(), ReadOptions { wait: HOUR, pipelined: true, ..Default::default() });
    let mut reader = reader.await.unwrap();
    let waiting = tokio::spawn(async move { reader.next().await.map(drop) });
    for _ in 0..6 {
        // The sweeper and the reader.
        let both = || async { clock.sleepers() == 2 };
        sheaf_testkit::wait_until_async(WAIT, "both to sleep", both).await.unwrap();
        clock.advance(MINUTE / 4);
        if waiting.is_finished() {
            break;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        if exchange.queries().is_empty() {
            break;
        }
    }
    let error = tokio::time::timeout(WAIT, waiting).await.unwrap().unwrap().unwrap_err();
    let limit = MINUTE;
    assert!(
        matches!(error, Error::CleanedUp { why: Gone::Idle { limit: its }, .. } if its == limit)
    );
    drop(exchange);
    let none = || async {
        clock.advance(MINUTE);
        clock.sleepers() == 0
    };
    sheaf_testkit::wait_until_async(WAIT, "the sweeper to end", none).await.unwrap();
}

#[tokio::test]
async fn who_drains_takes_no_new_attempts_and_lets_the_others_end() {
    let world = World::new();
    world.begin();
    world.exchange.drain();
    assert!(world.exchange.is_draining() && world.exchange.stats(None).draining);
    // Neither in another stage, nor another attempt of the same sender.
    let other = PartitionKey::try_new("q", 1, 0).unwrap();
    let second = Sender { attempt: 2, ..Sender::only() };
    for (key, sender) in [(&other, Sender::only()), (&key(), second)] {
        let error = world.exchange.begin(key, sender, &world.messages[0]).unwrap_err();
        assert_eq!(error.code(), Code::Draining, "{error}");
        assert!(matches!(error.disposition(), Disposition::Transient { .. }), "{error}");
    }
    let mut drained = Box::pin(world.exchange.drained());
    assert!(futures::poll!(&mut drained).is_pending());
    // The one that has begun goes on in another call.
    world.begin();
    world.push();
    assert!(futures::poll!(&mut drained).is_pending());
    world.commit();
    tokio::time::timeout(WAIT, drained).await.expect("it is drained");
    assert_eq!(end(world.reader_of_all()).await.unwrap(), 1);
    world.commit();
}

#[tokio::test]
async fn a_query_that_goes_ends_its_attempts_for_who_drains() {
    let world = World::new();
    world.begin();
    world.exchange.drain();
    let mut drained = Box::pin(world.exchange.drained());
    assert!(futures::poll!(&mut drained).is_pending());
    world.exchange.cleanup_query_data("q").unwrap();
    tokio::time::timeout(WAIT, drained).await.expect("it is drained");
}

#[tokio::test]
async fn an_attempt_that_nobody_sends_holds_up_no_drain() {
    let world = World::new();
    let call = world.exchange.under_way();
    world.begin();
    world.push();
    world.exchange.drain();
    let mut drained = Box::pin(world.exchange.drained());
    // As long as there is a call, however long it says nothing.
    world.clock.advance(HOUR / 2);
    assert!(futures::poll!(&mut drained).is_pending());
    drop(call);
    // And a while in which another one may come.
    assert!(futures::poll!(&mut drained).is_pending());
    world.clock.advance(Duration::from_secs(1));
    world.push();
    world.clock.advance(Duration::from_millis(1_500));
    assert!(futures::poll!(&mut drained).is_pending());
    world.clock.advance(Duration::from_millis(500));
    tokio::time::timeout(WAIT, drained).await.expect("it is drained");
    assert_eq!(world.exchange.open_attempts(), 1);
}

#[tokio::test]
async fn an_attempt_whose_stream_breaks_holds_up_no_drain() {
    let world = World::new();
    let _call = world.exchange.under_way();
    world.begin();
    world.exchange.drain();
    let mut drained = Box::pin(world.exchange.drained());
    assert!(futures::poll!(&mut drained).is_pending());
    let column = Arc::new(arrow_array::StringArray::from(vec!["another"])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let other = encode_batches(batch.schema(), &[batch]).unwrap().remove(1);
    world.exchange.push(&key(), Sender::only(), 0, None, other).unwrap_err();
    tokio::time::timeout(WAIT, drained).await.expect("it is drained");
}

#[tokio::test]
async fn an_attempt_that_has_begun_begins_its_next_partition_after_a_drain() {
    let world = World::new();
    world.begin();
    world.push();
    world.exchange.drain();
    let next = PartitionKey::try_new("q", 0, 1).unwrap();
    let begin = |sender| world.exchange.begin(&next, sender, &world.messages[0]);
    assert_eq!(begin(Sender::only()).unwrap(), 0);
    let other = Sender { attempt: 2, ..Sender::only() };
    assert_eq!(begin(other).unwrap_err().code(), Code::Draining);
    world.commit();
    // It may be the last that is left.
    let third = PartitionKey::try_new("q", 0, 2).unwrap();
    assert_eq!(world.exchange.begin(&third, Sender::only(), &world.messages[0]).unwrap(), 0);
}

#[tokio::test]
async fn who_asks_for_a_large_stage_gets_all_of_it_in_pages() {
    let world = World::new();
    let sender = |index| Sender { index, attempt: 1, senders: 1_000 };
    for partition in 0..20 {
        let key = PartitionKey::try_new("q", 3, partition).unwrap();
        world.exchange.begin(&key, sender(partition), &world.messages[0]).unwrap();
        world.exchange.push(&key, sender(partition), 0, None, world.messages[1].clone()).unwrap();
    }
    let page = |from| world.exchange.state().table.page("q", 3, from, SENDERS_AT_ONCE).unwrap();
    let (first, next) = page(0);
    assert_eq!((first.len(), next), (9, Some(9)));
    let all = world.exchange.get_available_partitions("q", 3).unwrap();
    assert!(all.partitions.iter().map(|one| one.partition).eq(0..20));
    assert_eq!((all.skew.rows_min, all.skew.rows_max), (3, 3));
    // One of them by itself is the same.
    let key = PartitionKey::try_new("q", 3, 7).unwrap();
    assert_eq!(world.exchange.available(&key).unwrap(), all.partitions[7]);
    let none = PartitionKey::try_new("q", 3, 20).unwrap();
    assert!(matches!(world.exchange.available(&none), Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn what_comes_is_counted() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let metrics = ReceiverMetrics::default();
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let shown = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let budget = Budget::new(1 << 20);
    let options = ReceiverOptions::new(Arc::clone(&budget), clock.clone()).with_metrics(metrics);
    let exchange = Exchange::open(options).await.unwrap();
    let messages = World::new().messages;
    let (first, second) = (Sender::only(), Sender { attempt: 2, ..Sender::only() });
    exchange.begin(&key(), first, &messages[0]).unwrap();
    exchange.push(&key(), first, 0, None, messages[1].clone()).unwrap();
    exchange.push(&key(), first, 0, None, messages[1].clone()).unwrap();
    let wrong = exchange.push(&key(), first, 1, Some(7), messages[1].clone());
    assert!(matches!(wrong, Err(Error::Corrupt { .. })));
    exchange.begin(&key(), second, &messages[0]).unwrap();
    exchange.push(&key(), second, 0, None, messages[1].clone()).unwrap();
    let bytes = 2 * messages[1].len();
    let lines = |lines: &[(&str, u64)]| {
        let text = shown();
        for (name, value) in lines {
            let line = format!("sheaf_exchange_{name} {value}\n");
            assert!(text.contains(&line), "no {line} in {text}");
        }
    };
    lines(&[
        ("received_chunks_total", 2),
        ("received_rows_total", 6),
        ("received_bytes_total", bytes as u64),
        ("duplicates_total", 1),
        ("checksum_failures_total", 1),
        ("attempts_replaced_total", 1),
        ("attempts_open", 1),
        ("partitions", 1),
        ("queries", 1),
        ("memory_bytes", messages[1].len() as u64),
        ("readers_waiting", 0),
    ]);
    let stage = exchange.stats(Some("q")).queries[0].stages[0].clone();
    assert_eq!((stage.partitions, stage.committed, stage.senders, stage.rows), (1, 0, 1, 3));
    assert_eq!(stage.memory_bytes, messages[1].len() as u64);
    exchange.commit(&key(), second, Totals { chunks: 1, rows: 3 }).unwrap();
    let stage = exchange.stats(Some("q")).queries[0].stages[0].clone();
    assert_eq!((stage.ready, stage.committed), (1, 1));
    assert!(exchange.stats(Some("r")).queries.is_empty());
    exchange.cleanup_query_data("q").unwrap();
    lines(&[("attempts_open", 0), ("partitions", 0), ("queries", 0), ("memory_bytes", 0)]);
}

#[tokio::test]
async fn the_report_is_bounded_and_says_what_it_leaves_out() {
    let world = World::new();
    for query in 0..150_u32 {
        world.clock.advance(Duration::from_millis(1));
        for stage in 0..if query == 149 { 150 } else { 1 } {
            let key = PartitionKey::try_new(&format!("q{query}"), stage, 0).unwrap();
            world.exchange.begin(&key, Sender::only(), &world.messages[0]).unwrap();
        }
    }
    let stats = world.exchange.stats(None);
    assert_eq!((stats.queries.len(), stats.left_out), (100, 50));
    let newest = &stats.queries[0];
    assert_eq!((newest.query.as_str(), newest.stages.len(), newest.left_out), ("q149", 100, 50));
    assert_eq!((stats.queries[99].query.as_str(), stats.queries[99].age_ms), ("q50", 99));
}
