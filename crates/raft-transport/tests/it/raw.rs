//! Frames as the documentation describes them, written here once more: what a
//! node does with those that are wrong.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig, FlightConnection, Message};
use sheaf_raft_transport::Reason;
use sheaf_retry::{Code, Retryable as _, SystemClock};

use crate::support::{CLUSTER, Node, arrow_messages, config};

const HELLO: u8 = 1;
const REQUEST: u8 = 2;
const BULK: u8 = 4;
const BULK_END: u8 = 5;

/// A frame of packets without payloads.
#[derive(Clone)]
struct Raw {
    kind: u8,
    version: u8,
    cluster: String,
    from: u64,
    to: u64,
    session: u64,
    sequence: u64,
    metas: Vec<Vec<u8>>,
    arrow: Message,
}

fn fnv(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Raw {
    fn new(kind: u8, sequence: u64, metas: &[&[u8]]) -> Self {
        let metas = metas.iter().map(|meta| meta.to_vec()).collect();
        let (cluster, arrow) = (CLUSTER.to_owned(), Message::default());
        Raw { kind, version: 1, cluster, from: 1, to: 2, session: 9, sequence, metas, arrow }
    }

    fn hello() -> Self {
        Raw::new(HELLO, 0, &[b"\x01\x01test"])
    }

    fn request(sequence: u64) -> Self {
        Raw::new(REQUEST, sequence, &[b"request"])
    }

    fn bytes(&self) -> Vec<u8> {
        let mut table = Vec::new();
        for meta in &self.metas {
            table.extend(u32::try_from(meta.len()).unwrap().to_le_bytes());
            table.extend(0_u32.to_le_bytes());
        }
        table.extend(self.metas.concat());
        let body = self.arrow.contiguous_body();
        let length = u32::try_from(body.len()).unwrap();
        let mut bytes = b"SRFT".to_vec();
        bytes.extend([self.version, self.kind, 0, 0]);
        for number in [fnv(&self.cluster), self.from, self.to, self.session, self.sequence] {
            bytes.extend(number.to_le_bytes());
        }
        let packets = u32::try_from(self.metas.len()).unwrap();
        for number in [packets, u32::try_from(table.len()).unwrap(), length, length] {
            bytes.extend(number.to_le_bytes());
        }
        let whole = [&bytes[..], &table, &self.arrow.header, &body].concat();
        bytes.extend(crc32c::crc32c(&whole).to_le_bytes());
        bytes.extend(table);
        bytes
    }

    fn message(&self) -> Message {
        Message { app_metadata: self.bytes().into(), ..self.arrow.clone() }
    }
}

fn connect(node: &Node) -> FlightConnection {
    ChannelPool::new(ClientConfig::default(), SystemClock::shared())
        .connection(&node.endpoint())
        .unwrap()
}

/// What becomes of a stream of these messages: its error, if there is one.
async fn exchange(node: &Node, kind: &str, messages: Vec<Message>) -> Option<sheaf_flight::Error> {
    // It stays open: what ends it is the node.
    let messages = stream::iter(messages.into_iter().map(Ok)).chain(stream::pending()).boxed();
    let options = CallOptions::default();
    let mut answers = match connect(node).exchange(&["raft", kind], &options, messages).await {
        Ok(answers) => answers,
        Err(error) => return Some(error),
    };
    while let Some(answer) = answers.next().await {
        if let Err(error) = answer {
            return Some(error);
        }
    }
    None
}

#[track_caller]
fn assert_refused(node: &Node, error: &sheaf_flight::Error, reason: Reason, word: &str) {
    assert!(error.message().contains(&format!("a bad frame ({reason})")), "{error}");
    assert!(error.message().contains(word), "{error}");
    assert_eq!(node.transport_errors(reason), 1, "{reason}");
}

impl Node {
    fn transport_errors(&self, reason: Reason) -> u64 {
        use sheaf_raft_transport::RaftTransport as _;
        self.transport.metrics().errors(reason.as_str())
    }
}

#[tokio::test]
async fn frames_as_documented_are_read() {
    let node = Node::start(config(2)).await;
    let messages = [Raw::hello(), Raw::request(1), Raw::request(2)].map(|raw| raw.message());
    let messages = stream::iter(messages.map(Ok)).boxed();
    let options = CallOptions::default();
    let answers = connect(&node).exchange(&["raft", "echo"], &options, messages).await.unwrap();
    let answers: Vec<Message> = answers.map(Result::unwrap).collect().await;
    let all: Vec<u8> = answers.iter().flat_map(|one| one.app_metadata.to_vec()).collect();
    let found = all.windows(7).filter(|window| *window == b"request").count();
    assert_eq!((found, node.echo.taken.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test]
async fn who_is_of_another_cluster_or_calls_another_node_is_refused() {
    let hello = Raw::hello();
    let cases = [
        (
            Raw {
                cluster: "other".into(),
                metas: vec![b"\x01\x01other".to_vec()],
                ..hello.clone()
            },
            Reason::Cluster,
            "\"other\", this node of cluster \"test\"",
        ),
        (Raw { to: 3, ..hello.clone() }, Reason::Node, "for node 3, this is node 2"),
        (Raw { from: 2, ..hello.clone() }, Reason::Node, "which is this one"),
        (Raw { metas: vec![b"\x02\x03test".to_vec()], ..hello.clone() }, Reason::Version, "2 to 3"),
        (Raw { version: 2, ..hello.clone() }, Reason::Version, "version 2"),
        (Raw { kind: REQUEST, ..hello.clone() }, Reason::Malformed, "Request"),
        (Raw { kind: 77, ..hello.clone() }, Reason::Malformed, "kind 77"),
        (Raw { metas: vec![], ..hello.clone() }, Reason::Malformed, "no packets"),
    ];
    for (raw, reason, word) in cases {
        let node = Node::start(config(2)).await;
        let error = exchange(&node, "echo", vec![raw.message()]).await.unwrap();
        assert_refused(&node, &error, reason, word);
    }
}

#[tokio::test]
async fn a_frame_that_is_missing_or_comes_again_ends_its_stream() {
    for (second, word) in [
        (Raw::request(1), "comes again"),
        (Raw::hello(), "Hello"),
        (Raw::request(3), "comes too early"),
        (Raw { session: 8, ..Raw::request(2) }, "session 8"),
        (Raw { from: 3, ..Raw::request(2) }, "from node 3"),
    ] {
        // Also where the engine takes no notice of it.
        for kind in ["echo", "deaf"] {
            let node = Node::start(config(2)).await;
            let messages = [Raw::hello(), Raw::request(1), second.clone()];
            let messages = messages.map(|raw| raw.message()).to_vec();
            let error = exchange(&node, kind, messages).await.unwrap();
            assert!(error.message().contains(word), "{kind}: {error}");
        }
    }
}

#[tokio::test]
async fn bytes_that_were_changed_or_cut_end_the_stream() {
    let whole = Raw::request(1).message();
    let bent = |at: usize| {
        let mut bytes = whole.app_metadata.to_vec();
        bytes[at] ^= 1;
        Message { app_metadata: bytes.into(), ..Message::default() }
    };
    let cut = |end: usize| Message {
        app_metadata: whole.app_metadata.slice(..end),
        ..Message::default()
    };
    let longer = Message { body: vec![Bytes::from_static(b"more")], ..whole.clone() };
    let end = whole.app_metadata.len();
    for (message, reason) in [
        (bent(0), Reason::Magic),
        (bent(4), Reason::Version),
        (bent(20), Reason::Checksum),
        (bent(64), Reason::Checksum),
        (bent(end - 1), Reason::Checksum),
        (cut(3), Reason::Truncated),
        (cut(67), Reason::Truncated),
        (cut(end - 1), Reason::Truncated),
        (longer, Reason::Truncated),
    ] {
        let node = Node::start(config(2)).await;
        let messages = vec![Raw::hello().message(), message];
        let error = exchange(&node, "deaf", messages).await.unwrap();
        assert_refused(&node, &error, reason, "");
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_its_stream() {
    let node = Node::start(config(2)).await;
    let raw = Raw { metas: vec![vec![0; 3 << 20]], ..Raw::request(1) };
    let error = exchange(&node, "echo", vec![Raw::hello().message(), raw.message()]).await;
    assert_refused(&node, &error.unwrap(), Reason::TooLarge, "max_message_bytes");
}

#[tokio::test]
async fn a_call_with_a_bad_frame_is_refused() {
    let node = Node::start(config(2)).await;
    let action = async |name: &'static str, body: Vec<u8>| {
        let options = CallOptions::default();
        connect(&node).action(name, body.into(), &options).await
    };
    let request = Raw::request(0);
    assert!(action("raft.vote.v1", request.bytes()).await.is_ok());
    let mut bent = request.bytes();
    bent[70] ^= 1;
    let error = action("raft.vote.v1", bent).await.unwrap_err();
    assert_eq!(error.code(), Code::Corrupt);
    let error = action("raft.vote.v1", Vec::new()).await.unwrap_err();
    assert_refused(&node, &error, Reason::Truncated, "");
    let other = Raw { cluster: "other".into(), ..request.clone() };
    let error = action("raft.vote.v1", other.bytes()).await.unwrap_err();
    assert_refused(&node, &error, Reason::Cluster, "another cluster");
    let two = Raw { metas: vec![vec![1], vec![2]], ..request };
    let error = action("raft.vote.v1", two.bytes()).await.unwrap_err();
    assert_refused(&node, &error, Reason::Malformed, "2 packets");
}

/// A sealed transfer of record batches, and its end.
fn transfer() -> Vec<Raw> {
    let mut sequence = 0;
    let mut raws: Vec<Raw> = Vec::new();
    for arrow in arrow_messages(3) {
        let own = &b"own"[..];
        let metas = if sequence == 0 { vec![own, b"\x01\x01test", b"meta"] } else { vec![own] };
        let arrow = Message { app_metadata: Bytes::new(), ..arrow };
        raws.push(Raw { arrow, ..Raw::new(BULK, sequence, &metas) });
        sequence += metas.len() as u64;
    }
    raws.push(Raw::new(BULK_END, sequence, &[b""]));
    raws
}

async fn put(node: &Node, raws: Vec<Message>) -> Result<Bytes, sheaf_flight::Error> {
    let messages = stream::iter(raws.into_iter().map(Ok)).boxed();
    connect(node).put(&["raft", "snapshot"], &CallOptions::default(), messages).await
}

#[tokio::test]
async fn a_transfer_with_a_part_missing_twice_or_changed_is_refused() {
    let node = Node::start(config(2)).await;
    let whole: Vec<Message> = transfer().iter().map(Raw::message).collect();
    assert!(put(&node, whole.clone()).await.is_ok());
    let without = |index: usize| {
        let mut less = whole.clone();
        less.remove(index);
        less
    };
    let twice = [&whole[..2], &whole[1..]].concat();
    let mut bent = whole.clone();
    let mut body = bent[2].contiguous_body().to_vec();
    body[100] ^= 1;
    bent[2].body = vec![body.into()];
    let mut odd = whole.clone();
    odd[0].header = odd[1].header.clone();
    for (what, messages) in [
        ("no end", without(4)),
        ("a part is missing", without(2)),
        ("a part comes twice", twice),
        ("a part was changed", bent),
        ("no hello", without(0)),
        ("another header", odd),
    ] {
        assert!(put(&node, messages).await.is_err(), "{what}");
    }
    assert_eq!(node.echo.bulk_messages.load(Ordering::Relaxed), 4, "only the whole one");
    let other = Raw { cluster: "other".into(), ..transfer().remove(0) };
    let error = put(&node, vec![other.message()]).await.unwrap_err();
    assert_refused(&node, &error, Reason::Cluster, "another cluster");
}
