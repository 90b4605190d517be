//! Files of payloads: set aside, or served with the checksums that they have.

use arrow_ipc::{FooterBuilder, KeyValueArgs, MetadataVersion};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flatbuffers::FlatBufferBuilder;
use futures::StreamExt as _;
use prost::Message as _;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Decoder};
use sheaf_proto::BatchId;
use sheaf_proto::storage::v1::PayloadRecord;
use sheaf_retry::{Code, SystemClock};
use sheaf_store::fuzzing::{DataDir, Found};
use sheaf_store::{Options, PutOptions, Store};
use tempfile::TempDir;

use super::samples;
use super::support::{Input, push_chunk, refused, runtime, wait};

/// What files are made of, besides flatbuffers.
pub(crate) const WORDS: &[&str] = &[
    "ARROW1",
    "sheaf.payload",
    "sheaf.payload.crc32c",
    "sheaf.dictionaries",
    "x:1",
    "replaced",
    "\u{0}\u{0}\u{0}\u{0}",
];

/// The id of the one payload.
const ID: &str = "x:1";
/// Length of the footer and the mark at the end.
const TRAILER: usize = 10;
/// What an input may be: a file, …
const WHOLE: u8 = 0;
/// … the messages and the record of one, …
const PARTS: u8 = 1;
/// … the same with the right id in the record, …
const NAMED: u8 = 2;
/// … or a place in a valid file, where one byte is changed.
const CHANGED: u8 = 3;

struct Home {
    directory: DataDir,
    id: BatchId,
    /// Valid files with the messages in them.
    files: Vec<(Vec<u8>, Vec<Message>)>,
    _folder: TempDir,
}

thread_local! {
    static HOME: Home = home();
}

fn home() -> Home {
    let folder = tempfile::tempdir().expect("a directory");
    let directory = DataDir::open(folder.path()).expect("a data directory");
    let id = ID.parse().expect("an id");
    Home { directory, id, files: files(), _folder: folder }
}

/// Files as the store writes them.
fn files() -> Vec<(Vec<u8>, Vec<Message>)> {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a directory");
    let options = Options::new(SystemClock::shared()).with_data_dir(folder.path());
    let store = runtime.block_on(Store::open(options)).expect("a store");
    let id: BatchId = ID.parse().expect("an id");
    let mut files = Vec::new();
    for mut messages in samples::streams().into_iter().step_by(3) {
        messages[0].app_metadata = b"metadata"[..].into();
        messages.push(Message { app_metadata: b"end"[..].into(), ..Message::default() });
        let stream = futures::stream::iter(messages.clone().into_iter().map(Ok)).boxed();
        let put = store.put(Some(id.clone()), stream, PutOptions::DISK);
        wait(&runtime, put).expect("a payload");
        files.push((std::fs::read(file_below(folder.path())).expect("its file"), messages));
        wait(&runtime, store.delete(&id)).expect("it is there");
    }
    wait(&runtime, store.close());
    files
}

fn file_below(folder: &std::path::Path) -> std::path::PathBuf {
    let shards = std::fs::read_dir(folder.join("batches")).expect("a directory");
    let files = shards.flatten().filter_map(|shard| std::fs::read_dir(shard.path()).ok());
    let mut paths = files.flatten().flatten().map(|file| file.path());
    paths.find(|path| path.extension().is_some_and(|end| end == "arrow")).expect("a file")
}

/// Valid files, whole and in parts, and changes of them.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (file, _) in files() {
        seeds.push([&[WHOLE][..], &file].concat());
        let (messages, record) = taken_apart(&file);
        for kind in [PARTS, NAMED] {
            let mut parts = vec![kind];
            push_chunk(&mut parts, &record);
            parts.extend_from_slice(messages);
            seeds.push(parts);
        }
    }
    for place in [0_u16, 9, 70, 200, 500, 1_000] {
        let [low, high] = place.to_le_bytes();
        seeds.push(vec![CHANGED, 0, low, high, 1]);
    }
    seeds
}

/// What is before the footer, and the record in it.
fn taken_apart(file: &[u8]) -> (&[u8], Vec<u8>) {
    let end = file.len() - TRAILER;
    let length = file[end..end + 4].try_into().expect("four bytes");
    let at = end - usize::try_from(u32::from_le_bytes(length)).expect("a length");
    let footer = arrow_ipc::root_as_footer(&file[at..end]).expect("a footer");
    let metadata = footer.custom_metadata().expect("metadata");
    let record = metadata.iter().find(|entry| entry.key() == Some("sheaf.payload"));
    let record = record.and_then(|entry| entry.value()).expect("a record");
    (&file[..at], STANDARD.decode(record).expect("base64"))
}

/// A file whose footer holds this record, with a checksum that fits.
fn put_together(messages: &[u8], record: &[u8]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let crc = format!("{:08x}", crc32c::crc32c(record));
    let entries = [("sheaf.payload", STANDARD.encode(record)), ("sheaf.payload.crc32c", crc)];
    let entries = entries.map(|(key, value)| {
        let (key, value) = (builder.create_string(key), builder.create_string(&value));
        let entry = KeyValueArgs { key: Some(key), value: Some(value) };
        arrow_ipc::KeyValue::create(&mut builder, &entry)
    });
    let entries = builder.create_vector(&entries);
    let mut footer = FooterBuilder::new(&mut builder);
    footer.add_version(MetadataVersion::V5);
    footer.add_custom_metadata(entries);
    let footer = footer.finish();
    builder.finish(footer, None);
    let footer = builder.finished_data();
    let length = u32::try_from(footer.len()).expect("a short footer");
    [messages, footer, &length.to_le_bytes(), b"ARROW1"].concat()
}

fn named(record: &[u8]) -> Vec<u8> {
    match PayloadRecord::decode(record) {
        Ok(record) => PayloadRecord { id: ID.to_owned(), ..record }.encode_to_vec(),
        Err(_) => record.to_vec(),
    }
}

/// Starts a store that finds a file, and reads what it found.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let kind = input.byte() % 4;
    if kind == CHANGED {
        return HOME.with(|home| change(home, input));
    }
    let file = match kind {
        WHOLE => input.rest().to_vec(),
        PARTS => {
            let record = input.chunk();
            put_together(input.rest(), record)
        }
        _ => {
            let record = named(input.chunk());
            put_together(input.rest(), &record)
        }
    };
    HOME.with(|home| match home.directory.find(&home.id, &file) {
        Ok(Found::Served { messages, crcs, .. }) => {
            assert_eq!(messages.len(), crcs.len());
            assert!(crcs.iter().all(|(stored, is)| stored == is), "served though damaged");
            decode(&messages);
            true
        }
        Ok(Found::SetAside | Found::Corrupt) => false,
        Err(error) => {
            assert_eq!(refused(&error), Code::FormatNewer, "{error}");
            false
        }
    })
}

/// One wrong byte is noticed, or is where nothing of the payload is.
fn change(home: &Home, mut input: Input<'_>) -> bool {
    let number = usize::from(input.byte()) % home.files.len();
    let (mut file, put) = home.files[number].clone();
    let at = input.short() % file.len();
    file[at] ^= input.byte().max(1);
    match home.directory.find(&home.id, &file).expect("no error of the whole store") {
        Found::SetAside | Found::Corrupt => false,
        Found::Served { messages, .. } => {
            assert_eq!(messages, put, "byte {at} of file {number} changes what is served");
            true
        }
    }
}

/// What is served may be nonsense, if it was put so; it is no panic.
fn decode(messages: &[Message]) {
    let bounds = Bounds { max_decoded_bytes: 8 << 20, ..Bounds::default() };
    let mut decoder = Decoder::new(bounds);
    for message in messages {
        if let Err(error) = decoder.push(message) {
            refused(&error);
            return;
        }
    }
}
