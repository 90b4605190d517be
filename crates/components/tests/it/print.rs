//! Rows on standard output.

use std::path::Path;

use arrow_ipc::reader::StreamReader;
use serde_json::json;

use crate::common::{Printed, batch, received, sink_of};

async fn printed(format: &str) -> Vec<u8> {
    let printed = Printed::default();
    let config = json!({"format": format});
    let mut sink = sink_of("stdout", config, Path::new("/"), &printed.host()).await.unwrap();
    for (number, rows) in [(1, 2), (2, 0), (3, 1)] {
        let first = i64::try_from(number).unwrap();
        assert_eq!(sink.write(&received(number, first, rows)).await.unwrap(), number);
    }
    sink.end().await.unwrap();
    printed.bytes()
}

#[tokio::test]
async fn rows_are_printed_as_asked() {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let lines = concat!(
        "{\"n\":1,\"text\":\"row 1\"}\n",
        "{\"n\":2,\"text\":\"row 2\"}\n",
        "{\"n\":3,\"text\":null}\n"
    );
    assert_eq!(text(printed("json").await), lines);
    assert_eq!(text(printed("csv").await), "n,text\n1,row 1\n2,row 2\n3,\n");
    let table = text(printed("table").await);
    assert!(table.starts_with("+---+-------+\n| n | text  |\n"), "{table}");
    let ipc = printed("ipc").await;
    let read = StreamReader::try_new(ipc.as_slice(), None).unwrap();
    let read: Vec<_> = read.map(Result::unwrap).collect();
    assert_eq!(read, [batch(1, 2), batch(3, 1)]);
}

#[tokio::test]
async fn nothing_goes_on_where_nobody_reads() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let output = sheaf_components::Output::new(Gone);
    let host = sheaf_components::Host { output, ..sheaf_components::Host::plain() };
    let mut sink = sink_of("stdout", json!({}), Path::new("/"), &host).await.unwrap();
    let error = sink.write(&received(1, 0, 1)).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
}
