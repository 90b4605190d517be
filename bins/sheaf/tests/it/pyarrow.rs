//! An unmodified pyarrow is a full client.

use crate::harness::Server;

/// Runs a script beside this file against the server; its standard output, or
/// `None` where there is no Python with pyarrow.
pub(crate) fn script(server: &Server, name: &str, words: &[&str]) -> Option<String> {
    let python = sheaf_testkit::python()?;
    let path = format!("{}/tests/it/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(python)
        .args([path.as_str(), server.ready.url("flight").unwrap()])
        .args(words)
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = server.process.stderr();
    assert!(output.status.success(), "{name}: {out}\n{err}\nserver: {log}");
    assert!(!log.contains("panicked"), "{log}");
    Some(out.into_owned())
}

/// Every Arrow type is put, fetched as it was, registered and completed by `verify`.
#[test]
fn every_type_goes_through_and_is_verified() {
    let server = Server::start(&["--processor", "verify"]);
    let Some(out) = script(&server, "every_type.py", &[]) else { return };
    let types: u32 = out.trim().strip_prefix("types ").unwrap().parse().unwrap();
    assert!(types >= 100, "{types}");
    let stats = server.run(&["batches", "stats", "--json"]).json().remove(0);
    assert_eq!(stats["counts"]["failed"], 0, "{stats}");
    assert!(stats["counts"]["completed"].as_u64() > Some(u64::from(types)), "{stats}");
}
