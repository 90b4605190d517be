//! Messages that a table of the database does not take.

use sheaf_testkit::wait_until_async;

use crate::group::{Group, PATIENCE};

/// What is wrong with some of them costs these alone, and reading goes on.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_table_refuses_are_dead_letters_there_and_no_other_is() {
    let Some(group) = Group::start(1, 3).await else { return };
    let table = "CREATE TABLE orders (n BIGINT PRIMARY KEY CHECK (n <> 700), note INTEGER)";
    group.database.execute(table).await.unwrap();
    let value = |n: i64| match n {
        // A text where the table has numbers.
        900..=904 => format!(r#"{{"n":{n},"note":"x{n}"}}"#),
        // A key that is taken.
        1_000 => r#"{"n":1}"#.to_owned(),
        _ => format!(r#"{{"n":{n}}}"#),
    };
    group.send((0..3_000).map(value));
    let gateway = group.member(&[]).await;
    let is_read = async || group.rows().await >= 2_993;
    wait_until_async(PATIENCE, "all rows", is_read).await.unwrap();
    let read_all = "SELECT CAST(sum(next_offset) AS BIGINT) FROM _sheaf_offsets";
    let is_done = async || group.numbers(read_all).await == [3_000];
    wait_until_async(PATIENCE, "all places", is_done).await.unwrap();
    // What comes later has the columns that the stream got by then.
    group.send((3_000..3_300).map(value));
    let is_done = async || group.numbers(read_all).await == [3_300];
    wait_until_async(PATIENCE, "the rest", is_done).await.unwrap();
    gateway.stop().await;
    let sql = "SELECT count(*), count(DISTINCT n), count(DISTINCT (_partition, _offset)), \
               CAST(sum(n) AS BIGINT) FROM orders";
    let lost = 700 + (900..=904).sum::<i64>() + 1_000;
    let sum = 3_300 * 3_299 / 2 - lost;
    assert_eq!(group.numbers(sql).await, [3_293, 3_293, 3_293, sum]);
    let letters = "SELECT count(*), count(DISTINCT (_partition, _offset)), \
                   count(*) FILTER (error LIKE '%note%' AND value LIKE '%\"note\":\"x90_\"}'), \
                   count(*) FILTER (error LIKE '%CHECK%' AND value = '{\"n\":700}'), \
                   count(*) FILTER (value = '{\"n\":1}' AND _partition = 1 AND _offset = 333) \
                   FROM (SELECT * REPLACE (decode(value) AS value) \
                   FROM orders_dead_letters)";
    assert_eq!(group.numbers(letters).await, [7, 7, 5, 1, 1]);
    let committed: i64 = group.committed().unwrap().values().sum();
    assert_eq!(committed, 3_300);
}
