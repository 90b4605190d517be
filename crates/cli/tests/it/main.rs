//! Every output format, read back by an independent reader where there is one.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

use arrow_array::{Int64Array, ListArray, RecordBatch, StringArray, types::Int32Type};
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sheaf_terminal::{Destination, Error, MAX_TABLE_ROWS, OutputFormat, RowWriter, Written};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn flat() -> RecordBatch {
    let names = StringArray::from(vec![Some("a,b"), None]);
    RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from(vec![1, 20])) as _),
        ("name", Arc::new(names) as _),
    ])
    .unwrap()
}

fn nested() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    RecordBatch::try_from_iter([("l", Arc::new(list) as _)]).unwrap()
}

fn write(format: OutputFormat, to: Destination, batches: &[RecordBatch]) -> (Vec<u8>, Written) {
    let out = Shared::default();
    let schema: SchemaRef = batches[0].schema();
    let mut writer = RowWriter::try_new(format, &schema, Box::new(out.clone()), to).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    let written = writer.finish().unwrap();
    let bytes = out.0.lock().unwrap().clone();
    (bytes, written)
}

fn text(format: OutputFormat, batches: &[RecordBatch]) -> String {
    String::from_utf8(write(format, Destination::Pipe, batches).0).unwrap()
}

#[test]
fn text_formats() {
    let two = [flat(), flat()];
    assert_eq!(text(OutputFormat::Csv, &two), "n,name\n1,\"a,b\"\n20,\n1,\"a,b\"\n20,\n");
    let json = text(OutputFormat::Json, &[flat()]);
    assert_eq!(json, "{\"n\":1,\"name\":\"a,b\"}\n{\"n\":20,\"name\":null}\n");
    assert_eq!(text(OutputFormat::Table, &[flat()]), " n  name\n 1  a,b\n20\n");
    assert_eq!(text(OutputFormat::Json, &[nested()]), "{\"l\":[1,null]}\n{\"l\":null}\n");
}

#[test]
fn an_empty_result_has_its_header() {
    let none = [flat().slice(0, 0)];
    assert_eq!(text(OutputFormat::Csv, &none), "n,name\n");
    assert_eq!(text(OutputFormat::Json, &none), "");
    assert_eq!(text(OutputFormat::Table, &none), "n  name\n");
}

#[test]
fn binary_formats_read_back() {
    for rows in [flat(), nested()] {
        let batches = [rows.clone(), rows.clone()];
        let (bytes, written) = write(OutputFormat::Parquet, Destination::File, &batches);
        assert_eq!(written, Written { rows: 4, ..Written::default() });
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        let read: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(read, 4);

        let (bytes, _) = write(OutputFormat::Arrow, Destination::File, &batches);
        let reader = arrow_ipc::reader::FileReader::try_new(Cursor::new(bytes), None).unwrap();
        assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>(), batches);

        let (bytes, _) = write(OutputFormat::Arrow, Destination::Pipe, &batches);
        let reader = arrow_ipc::reader::StreamReader::try_new(Cursor::new(bytes), None).unwrap();
        assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>(), batches);
    }
}

#[test]
fn csv_names_the_column_that_it_cannot_hold() {
    let refused = RowWriter::try_new(
        OutputFormat::Csv,
        &nested().schema(),
        Box::new(io::sink()),
        Destination::Pipe,
    );
    let Err(error) = refused else { panic!("a list was taken as CSV") };
    assert!(matches!(error, Error::Unsupported { .. }));
    assert!(error.to_string().starts_with("column \"l\" of type List"), "{error}");
}

#[test]
fn a_long_table_is_cut_and_counted() {
    let many = RecordBatch::try_from_iter([(
        "n",
        Arc::new(Int64Array::from_iter_values(0..MAX_TABLE_ROWS as i64 + 5)) as _,
    )])
    .unwrap();
    let (bytes, written) = write(OutputFormat::Table, Destination::Pipe, &[many]);
    assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), MAX_TABLE_ROWS + 1);
    assert_eq!(written, Written { rows: MAX_TABLE_ROWS as u64 + 5, hidden: 5, hidden_columns: 0 });
}

#[test]
fn a_reader_that_has_gone_is_told_from_a_bad_row() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    for format in OutputFormat::ALL {
        let begun = RowWriter::try_new(format, &flat().schema(), Box::new(Gone), Destination::Pipe);
        let end = begun.and_then(|mut writer| {
            writer.write(&flat())?;
            writer.finish()
        });
        let error = end.unwrap_err();
        assert!(error.is_closed_pipe(), "{format}: {error:?}");
    }
}
