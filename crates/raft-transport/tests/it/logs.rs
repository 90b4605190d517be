//! What is logged under the target `transport`.

use std::io;
use std::sync::{Arc, Mutex};

use sheaf_raft_transport::Lane;
use tracing_subscriber::filter::EnvFilter;

use crate::support::{PATIENCE, packet, pair};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn messages_are_logged_with_their_peer() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("transport=debug"))
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Of this thread, which is all that the test has.
    let _guard = tracing::subscriber::set_default(subscriber);
    let (one, _two) = pair().await;
    one.transport.call(2, Lane::Control, "vote", packet(1, 1), PATIENCE).await.unwrap();
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap();
    sender.send(packet(1, 1)).await.unwrap();
    assert!(replies.next().await.unwrap().is_ok());
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for line in ["message sent to 2", "message received from 1", "message received from 2"] {
        let count = text.lines().filter(|found| found.contains(line)).count();
        assert_eq!(count, 2, "{line} in\n{text}");
    }
    assert!(text.contains("DEBUG transport: "), "{text}");
}
