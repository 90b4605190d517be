//! Lines of a table that goes on.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};

use super::*;

fn batch(numbers: &[i64], names: &[&str]) -> RecordBatch {
    let numbers = Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef;
    let names = Arc::new(StringArray::from(names.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter([("n", numbers), ("name", names)]).unwrap()
}

#[test]
fn the_heading_comes_once_in_a_pipe_and_columns_grow() {
    let mut table = LiveTable::new(None);
    assert_eq!(table.lines(&batch(&[1], &["a"])).unwrap(), "n  name\n1  a\n");
    assert_eq!(table.lines(&batch(&[22], &["b"])).unwrap(), "22  b\n");
    assert_eq!(table.lines(&batch(&[], &[])).unwrap(), "");
}

#[test]
fn a_terminal_sees_the_heading_again_where_it_has_to() {
    let mut table = LiveTable::new(Some(9));
    assert_eq!(table.lines(&batch(&[1], &["abcdefgh"])).unwrap(), "n  name\n1  abcdef\n");
    assert_eq!(table.lines(&batch(&[2], &["b"])).unwrap(), "2  b\n");
    assert!(table.lines(&batch(&[33], &["b"])).unwrap().starts_with("n   name\n33  b\n"));
    let many = vec![0; HEADING_EVERY];
    let lines = table.lines(&batch(&many, &vec![""; HEADING_EVERY])).unwrap();
    assert_eq!(lines.matches("name").count(), 1, "{lines}");
}

#[test]
fn cells_are_cut_and_tamed() {
    let long = "x".repeat(60);
    let text = LiveTable::new(None).lines(&batch(&[1, 2], &[&long, "a\x1b[2J\nb"])).unwrap();
    assert!(text.contains(&format!("{}…\n", "x".repeat(WIDEST - 1))), "{text}");
    assert_eq!((text.lines().count(), text.contains('\x1b')), (3, false));
}
