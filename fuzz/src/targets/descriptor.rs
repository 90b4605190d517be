//! Descriptors: from a path or a command to a namespace, an id and a file name.

use std::sync::Arc;

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;
use bytes::Bytes;
use prost::Message as _;
use sheaf_flight::{FlightRouter, fuzzing};
use sheaf_proto::BatchId;
use sheaf_retry::SystemClock;
use sheaf_store::fuzzing::DataDir;
use sheaf_store::{Durability, NAMESPACE, Options, PutOptions, Store, StoreHandler, Ticket};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::samples;
use super::support::{Input, refused, runtime, wait};

/// What descriptors are made of.
pub(crate) const WORDS: &[&str] =
    &["batches", "topics", "shuffle", "echo", "known", ":", "%", "\u{0}"];

/// Ids are at most 200 characters, file names 255 bytes.
const MAX_FILE_NAME: usize = 255;

struct Home {
    runtime: Runtime,
    router: FlightRouter,
    directory: DataDir,
    _folder: TempDir,
}

thread_local! {
    static HOME: Home = home();
}

fn home() -> Home {
    let runtime = runtime();
    let router = runtime.block_on(async {
        let store = Store::open(Options::new(SystemClock::shared())).await.expect("a store");
        let batches = [samples::numbers(3)];
        let id = Some("known".parse().expect("an id"));
        let put = store.put_batches(id, batches[0].schema(), &batches, PutOptions::MEMORY);
        put.await.expect("a payload");
        let handler = Arc::new(StoreHandler::new(store, Durability::Memory));
        FlightRouter::builder().handler(NAMESPACE, handler).build().expect("a router")
    });
    let folder = tempfile::tempdir().expect("a directory");
    let directory = DataDir::open(folder.path()).expect("a data directory");
    Home { runtime, router, directory, _folder: folder }
}

/// One of each form: as protobuf, as a path, as a command.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let path = |elements: &[&str]| FlightDescriptor {
        r#type: DescriptorType::Path.into(),
        path: elements.iter().map(|&element| element.to_owned()).collect(),
        ..FlightDescriptor::default()
    };
    let command = FlightDescriptor {
        r#type: DescriptorType::Cmd.into(),
        cmd: Bytes::from_static(b"known"),
        ..FlightDescriptor::default()
    };
    let long = ":".repeat(200);
    let wire = [
        path(&["batches"]),
        path(&["batches", "known"]),
        path(&["batches", &long]),
        path(&["topics", "t", "0"]),
        path(&["x"; 17]),
        path(&[]),
        command,
        FlightDescriptor { r#type: 7, path: vec!["batches".to_owned()], ..Default::default() },
    ];
    let wire = wire.iter().map(|wire| [&[0][..], &wire.encode_to_vec()].concat());
    let other = [&b"\x01batches\0known"[..], b"\x01batches\0%6bnown", b"\x02known", b"\x02\xff"];
    wire.chain(other.map(<[u8]>::to_vec)).collect()
}

/// Reads a descriptor, asks the router about it, follows the id in it.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some(wire) = read(data) else { return false };
    let answer = HOME.with(|home| wait(&home.runtime, fuzzing::info(&home.router, wire.clone())));
    let descriptor = match fuzzing::descriptor(wire) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            let code = refused(&error);
            let other = answer.map(drop).map_err(|error| refused(&error));
            assert_eq!(other, Err(code), "the router reads it in another way");
            return false;
        }
    };
    let path: Vec<&str> = descriptor.path.iter().map(String::as_str).collect();
    assert!(!descriptor.is_command || path.len() == 2 && path[0] == NAMESPACE);
    match (&answer, path.as_slice()) {
        (Ok(info), [NAMESPACE, "known"]) => assert_eq!(info.total_records, 3),
        (Err(error), _) => {
            refused(error);
        }
        (Ok(_), _) => panic!("there is no {path:?}"),
    }
    if let [_, name] = path.as_slice()
        && let Ok(id) = BatchId::try_new(name)
    {
        follow(&id, name);
    }
    true
}

fn read(data: &[u8]) -> Option<FlightDescriptor> {
    let mut input = Input::new(data);
    let kind = input.byte() % 3;
    let rest = input.rest();
    match kind {
        0 => FlightDescriptor::decode(rest).ok(),
        1 => {
            let path = std::str::from_utf8(rest).ok()?.split('\0').map(str::to_owned).collect();
            let r#type = DescriptorType::Path.into();
            Some(FlightDescriptor { r#type, path, ..FlightDescriptor::default() })
        }
        _ => {
            let (r#type, cmd) = (DescriptorType::Cmd.into(), Bytes::copy_from_slice(rest));
            Some(FlightDescriptor { r#type, cmd, ..FlightDescriptor::default() })
        }
    }
}

/// An id is a ticket, and the name of one file in one place.
fn follow(id: &BatchId, name: &str) {
    assert_eq!(id.as_str(), name);
    let ticket = Ticket::whole(id.clone());
    assert_eq!(ticket.to_string().parse().ok(), Some(ticket));
    let path = HOME.with(|home| home.directory.path(id));
    let file = path.file_name().expect("a file").to_str().expect("plain characters");
    assert!(file.len() <= MAX_FILE_NAME, "{file} is no file name");
    assert!(!file.starts_with('.') || name.starts_with('.'), "{file}");
    let shard = path.parent().and_then(|shard| shard.file_name()).expect("a shard");
    assert_eq!(shard.len(), 2, "{} is elsewhere", path.display());
    let stem = file.strip_suffix(".arrow").expect("the ending of payloads");
    assert!(stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.%".contains(&byte)));
}
