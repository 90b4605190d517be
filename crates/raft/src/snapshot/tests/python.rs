//! Others read the files as what they are.

use std::process::Command;

use super::{make, open};

const SCRIPT: &str = "
import sys, pyarrow as pa
with pa.OSFile(sys.argv[1]) as file, pa.ipc.open_stream(file) as reader:
    keys = [key.decode() for key in reader.schema.metadata]
    table = reader.read_all()
print(','.join(keys), table.num_rows, table.column_names, table['value'][29].as_py()[:3])
";

#[test]
fn pyarrow_reads_a_snapshot() {
    let Some(python) = sheaf_testkit::python() else { return };
    let home = tempfile::tempdir().unwrap();
    let file = make(&open(home.path()), 5, 3);
    let out = Command::new(python).args(["-c", SCRIPT]).arg(file.path()).output().unwrap();
    let problems = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{problems}");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(text.trim(), r"sheaf.raft.snapshot 30 ['value'] b'\x02\x02\x02'");
}
