//! Data that is wrong is refused with its reason, and harms nobody else.

use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{
    CallOptions, ChannelPool, ClientConfig, Error, FlightConnection, Message, MessageStream,
};
use sheaf_retry::{Code, Retryable as _, SharedClock, SystemClock};
use sheaf_testkit::Ready;

use crate::harness::{PATIENCE, Server, get};
use crate::pyarrow::script;

/// What pyarrow can get wrong: tickets, descriptors, shapes, headers, actions.
#[test]
fn pyarrow_is_told_what_is_wrong() {
    let server = Server::start(&["--memory-limit", "128MB"]);
    let Some(out) = script(&server, "bad_input.py", &[]) else { return };
    assert_eq!(out.lines().count(), 4);
    for id in out.lines() {
        server.wait_for_state(id, "completed");
    }
    assert_eq!(server.admin("/readyz").0, 200);
}

/// Two record batches with text and a dictionary.
pub(crate) fn sound() -> Vec<Message> {
    let words: DictionaryArray<arrow_array::types::Int8Type> =
        ["x", "y", "x"].into_iter().collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("s", Arc::new(StringArray::from(vec!["one", "two", "three"]))),
        ("d", Arc::new(words)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    encode_batches(batch.schema(), &[batch.clone(), batch]).unwrap()
}

/// Where in the header the node or the buffer of this number is, two numbers each.
fn place(header: &[u8], buffers: bool, number: usize) -> usize {
    let message = arrow_ipc::root_as_message(header).unwrap();
    let batch = message.header_as_record_batch().unwrap();
    let bytes = match buffers {
        true => batch.buffers().unwrap().bytes(),
        false => batch.nodes().unwrap().bytes(),
    };
    bytes.as_ptr() as usize - header.as_ptr() as usize + 16 * number
}

/// The last message with other numbers in its header.
fn patched(buffers: bool, number: usize, second: bool, value: i64) -> Vec<Message> {
    let mut messages = sound();
    let last = messages.last_mut().unwrap();
    let at = place(&last.header, buffers, number) + if second { 8 } else { 0 };
    let mut header = last.header.to_vec();
    header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    last.header = header.into();
    messages
}

fn with_last(change: impl FnOnce(&mut Message)) -> Vec<Message> {
    let mut messages = sound();
    change(messages.last_mut().unwrap());
    messages
}

fn cut(bytes: &Bytes, by: usize) -> Bytes {
    bytes.slice(..bytes.len() - by)
}

/// What each is, the messages, and what the refusal says of them.
fn lies() -> Vec<(&'static str, Vec<Message>, &'static str)> {
    let body = |change: fn(Bytes) -> Bytes| {
        with_last(|last| last.body = vec![change(last.contiguous_body())])
    };
    let header = |by| with_last(|last| last.header = cut(&last.header, by));
    let order = |places: &[usize]| {
        let messages = sound();
        places.iter().map(|&at| messages[at].clone()).collect::<Vec<_>>()
    };
    vec![
        ("body cut by a byte", body(|all| cut(&all, 1)), "message 3"),
        ("body cut in half", body(|all| cut(&all, all.len() / 2)), "message 3"),
        ("no body", body(|_| Bytes::new()), "message 3"),
        ("body too long", body(|all| [all, Bytes::from_static(&[0; 8])].concat().into()), "body"),
        ("header cut by a byte", header(1), "message 3"),
        ("header cut short", header(100), "no flatbuffer"),
        ("header of noise", with_last(|last| last.header = vec![0xa5; 64].into()), "no flatbuffer"),
        ("no such length", patched(true, 1, true, 1 << 40), "buffer"),
        ("negative length", patched(true, 1, true, -8), "buffer"),
        ("offset at the end of numbers", patched(true, 1, false, i64::MAX), "buffer"),
        ("negative offset", patched(true, 1, false, -8), "buffer"),
        ("too many rows", patched(false, 0, false, 1 << 40), "holds 24 bytes and needs"),
        ("negative rows", patched(false, 1, false, -1), "values"),
        ("more nulls than rows", patched(false, 1, true, 4), "null"),
        ("data first", order(&[2, 0, 1]), "the schema comes first"),
        ("a second schema", order(&[0, 1, 2, 0]), "a second schema"),
        ("data before its dictionary", order(&[0, 2, 1]), "dictionary"),
        ("nothing", Vec::new(), "empty"),
    ]
}

/// A client without retries.
pub(crate) struct Wire {
    pub(crate) server: Server,
    runtime: tokio::runtime::Runtime,
    connection: FlightConnection,
}

impl Wire {
    fn start(words: &[&str]) -> Self {
        Self::to(Server::start(words))
    }

    pub(crate) fn to(server: Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock: SharedClock = SystemClock::shared();
        let inside = runtime.enter();
        let pool = ChannelPool::new(ClientConfig::default(), clock);
        let connection = pool.connection(server.ready.url("flight").unwrap()).unwrap();
        drop(inside);
        Wire { server, runtime, connection }
    }

    pub(crate) fn put(
        &self,
        id: &str,
        messages: Vec<Result<Message, Error>>,
    ) -> Result<Bytes, Error> {
        self.send(id, stream::iter(messages).boxed())
    }

    fn send(&self, id: &str, messages: MessageStream) -> Result<Bytes, Error> {
        let (options, path) = (CallOptions::default(), ["batches", id]);
        self.runtime.block_on(self.connection.put(&path, &options, messages))
    }

    fn payloads(&self) -> u64 {
        let options = CallOptions::default();
        let call = self.connection.action("StoreStats", Bytes::new(), &options);
        let answer = self.runtime.block_on(call).unwrap();
        let stats: serde_json::Value = serde_json::from_slice(&answer[0]).unwrap();
        stats["payloads"].as_u64().unwrap()
    }
}

pub(crate) fn all(messages: Vec<Message>) -> Vec<Result<Message, Error>> {
    messages.into_iter().map(Ok).collect()
}

#[test]
fn streams_that_lie_are_refused_and_leave_nothing() {
    let wire = Wire::start(&[]);
    assert_eq!(sound().len(), 4, "schema, dictionary, two batches");
    for (what, messages, part) in lies() {
        let error = wire.put("lie", all(messages)).unwrap_err();
        assert_eq!(error.code(), Code::MalformedData, "{what}: {error}");
        assert!(error.message().contains(part), "{what}: {error}");
        assert_eq!(wire.payloads(), 0, "{what}");
    }
    // A client that breaks off when the server has all that it sent: that is no end.
    let ready = Ready::parse(wire.server.process.stdout().lines().next().unwrap()).unwrap();
    let metric = move |name: &str| -> Option<u64> {
        let (_, text) = get(&ready, "/metrics");
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let (received, ended) = (
        "sheaf_flight_received_bytes_total",
        "sheaf_flight_requests_total{method=\"DoPut\",code=\"cancelled\"}",
    );
    let first = &sound()[..3];
    let wanted = metric(received).unwrap() + first.iter().map(Message::len).sum::<usize>() as u64;
    let seen = metric.clone();
    let gone = stream::once(async move {
        let all = move || seen(received) >= Some(wanted);
        let waiting = || sheaf_testkit::wait_until(PATIENCE, "the server to have it", all).unwrap();
        tokio::task::spawn_blocking(waiting).await.unwrap();
        Err(Error::new(Code::Cancelled, "went away"))
    });
    let sent = stream::iter(all(first.to_vec())).chain(gone).boxed();
    assert_eq!(wire.send("lie", sent).unwrap_err().message(), "went away");
    // The connection must live for the server to be told.
    let told = move || metric(ended) == Some(1);
    let waiting = || sheaf_testkit::wait_until(PATIENCE, "the call to be over", told).unwrap();
    wire.runtime.block_on(async { tokio::task::spawn_blocking(waiting).await.unwrap() });
    assert_eq!(wire.payloads(), 0);
    // The name is free, and the server works.
    wire.put("lie", all(sound())).unwrap();
    let table = wire.server.run(&["get", "lie", "--format", "csv", "--limit", "1"]).ok();
    assert_eq!(table, "n,s,d\n1,one,x\n");
    assert!(!wire.server.process.stderr().contains("panicked"));
}

/// Offsets and keys are data: only the processor looks at them.
#[test]
fn values_that_lie_are_found_by_verify_and_harm_no_reader() {
    let wire = Wire::start(&[]);
    // Second column: offsets 0 3 6 11; third: keys 0 1 0.
    for (id, buffer, value) in [("offsets", 3, 200), ("backwards", 3, -1), ("keys", 6, 100)] {
        let messages = with_last(|last| {
            let message = arrow_ipc::root_as_message(&last.header).unwrap();
            let buffers = message.header_as_record_batch().unwrap().buffers().unwrap();
            let at = usize::try_from(buffers.get(buffer).offset()).unwrap()
                + usize::from(id != "keys") * 4;
            let mut body = last.contiguous_body().to_vec();
            body[at] = i8::try_from(value.min(127)).unwrap().to_le_bytes()[0];
            if value < 0 {
                body[at..at + 4].fill(0xff);
            }
            last.body = vec![body.into()];
        });
        wire.put(id, all(messages)).unwrap();
        let register = format!("{{\"batch_id\":\"{id}\"}}");
        let options = CallOptions::default();
        let call = wire.connection.action("RegisterBatch", register.into(), &options);
        wire.runtime.block_on(call).unwrap();
        let batch = wire.server.wait_for_state(id, "failed");
        assert_eq!((&batch["attempts"], &batch["error"]["permanent"]), (&1.into(), &true.into()));
        let text = wire.server.run(&["get", id]).failed(2);
        assert!(text.contains("message 3"), "{text}");
    }
    wire.put("sound", all(sound())).unwrap();
    assert_eq!(wire.server.admin("/readyz").0, 200);
    assert!(!wire.server.process.stderr().contains("panicked"));
}
