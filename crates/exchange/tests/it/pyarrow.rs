//! Partitions as pyarrow reads them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use arrow_ipc::reader::StreamReader;
use sheaf_exchange::{Partitioner, PartitionerOptions, Partitioning, Sealed};
use sheaf_flight::Message;

const PARTITIONS: usize = 3;

/// Appends a message as the stream format frames it.
fn frame(stream: &mut Vec<u8>, message: &Message) {
    let padded = message.header.len().next_multiple_of(8);
    stream.extend([0xff; 4]);
    stream.extend((padded as u32).to_le_bytes());
    stream.extend(&message.header);
    stream.resize(stream.len() + padded - message.header.len(), 0);
    message.body.iter().for_each(|piece| stream.extend(piece));
}

/// The partitions of a stream.
fn partition(path: &Path) -> Result<(Message, Vec<Sealed>), Box<dyn std::error::Error>> {
    let reader = StreamReader::try_new(File::open(path)?, None)?;
    let options = PartitionerOptions::default();
    let rule = Partitioning::RoundRobin;
    let mut partitioner = Partitioner::try_new(reader.schema(), rule, PARTITIONS, options)?;
    let mut sealed = Vec::new();
    for batch in reader {
        sealed.extend(partitioner.push(&batch?)?);
    }
    let first = partitioner.schema_message();
    sealed.extend(partitioner.finish()?);
    Ok((first, sealed))
}

fn script(python: &Path, what: &str, folder: &Path) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pyarrow_partitions.py");
    let output = Command::new(python).args([path, what]).arg(folder).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    out
}

#[test]
fn pyarrow_reads_every_type_that_it_can_make_from_its_partitions() {
    let Some(python) = sheaf_testkit::python() else { return };
    let folder = sheaf_testkit::TempDir::new().unwrap();
    script(&python, "make", folder.path());
    for number in 0.. {
        let path = folder.path().join(format!("{number}.arrow"));
        if !path.exists() {
            break;
        }
        let (first, sealed) = partition(&path).unwrap();
        for partition in 0..PARTITIONS {
            let mut stream = Vec::new();
            frame(&mut stream, &first);
            for part in sealed.iter().filter(|part| part.partition as usize == partition) {
                part.messages.iter().for_each(|message| frame(&mut stream, message));
            }
            // The end of a stream.
            stream.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
            let path = folder.path().join(format!("{number}.{partition}.parts"));
            File::create(path).unwrap().write_all(&stream).unwrap();
        }
    }
    let told = script(&python, "check", folder.path());
    let types: usize = told.trim().strip_prefix("types ").unwrap().parse().unwrap();
    assert!(types >= 100, "{types}");
    assert!(fs::read_dir(folder.path()).unwrap().count() > types * 3);
}
