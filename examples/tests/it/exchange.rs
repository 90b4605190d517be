//! Peers of an exchange that speak gRPC, and those that speak Flight, as their
//! READMEs start them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_testkit::{Process, TempDir};

use crate::python::{finish, script};
use crate::run::binary;
use crate::server::Server;

/// Only bounds how long a broken example hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example server, and where it serves.
fn serve(arguments: &[&str]) -> (Process, String) {
    let mut server = Process::command(binary("exchange_server"))
        .arg("127.0.0.1:0")
        .args(arguments)
        .spawn()
        .unwrap();
    let address = server
        .wait_for_line(PATIENCE, |line| line.strip_prefix("serving ").map(str::to_owned))
        .unwrap();
    (server, address)
}

/// Python with what `exchange.py` imports.
struct Python {
    program: PathBuf,
    path: String,
    _stubs: TempDir,
}

impl Python {
    /// Generates the client from the published definition.
    async fn new() -> Option<Self> {
        let program = sheaf_testkit::python()?;
        let packages = sheaf_testkit::grpc_packages()?;
        let stubs = TempDir::new().unwrap();
        let path = format!("{}:{}", packages.display(), stubs.path().display());
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
        let generate = Process::command(&program)
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(&proto)
            .arg(format!("--python_out={}", stubs.path().display()))
            .arg(format!("--grpc_python_out={}", stubs.path().display()))
            .arg(proto.join("sheaf/exchange/v1/data_exchange.proto"))
            .env("PYTHONPATH", &path)
            .spawn()
            .unwrap();
        finish(generate).await;
        Some(Python { program, path, _stubs: stubs })
    }

    fn exchange(&self, address: &str, arguments: &[&str]) -> Process {
        Process::command(&self.program)
            .arg(script("data_exchange/exchange.py"))
            .arg(address)
            .args(arguments)
            .env("PYTHONPATH", &self.path)
            .spawn()
            .unwrap()
    }

    async fn shuffle(&self, address: &str, arguments: &[&str]) -> String {
        let uri = format!("grpc://{address}");
        let python = Process::command(&self.program)
            .arg(script("pyarrow_shuffle.py"))
            .arg(uri)
            .args(arguments)
            .spawn()
            .unwrap();
        finish(python).await
    }
}

const SUM: u64 = 100_000 * 99_999 / 2;

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_and_pyarrow_exchange_partitions_on_one_port() {
    let Some(python) = Python::new().await else { return };
    let (mut server, address) = serve(&[]);
    for (partition, codec) in ["none", "lz4", "snappy", "zstd"].into_iter().enumerate() {
        let partition = partition.to_string();
        let sent = ["send", "--partition", &partition, "--compression", codec];
        let told = finish(python.exchange(&address, &sent)).await;
        assert_eq!(told.trim(), "sent 100000 rows in 5 chunks");
        // What was sent in one compression is read in another, and over Flight.
        let asked = ["receive", "--partition", &partition, "--compression", "zstd"];
        let told = finish(python.exchange(&address, &asked)).await;
        assert_eq!(told.trim(), format!("received 100000 rows, sum {SUM}, as zstd"));
        let told = python.shuffle(&address, &["receive", "example", &partition]).await;
        assert_eq!(told.trim(), format!("received 100000 rows, sum {SUM}"));
    }
    let told = finish(python.exchange(&address, &["list"])).await;
    assert_eq!(told.lines().count(), 4, "{told}");
    assert!(told.contains("partition 3: 100000 rows, 5 chunks, ready"), "{told}");

    // And the other way round.
    let told = python.shuffle(&address, &["send", "other", "7"]).await;
    assert_eq!(told.trim(), "sent 100000 rows in 5 chunks");
    let asked = ["receive", "--query", "other", "--partition", "7", "--compression", "snappy"];
    let told = finish(python.exchange(&address, &asked)).await;
    assert_eq!(told.trim(), format!("received 100000 rows, sum {SUM}, as snappy"));

    let told = finish(python.exchange(&address, &["drop"])).await;
    assert_eq!(told.trim(), "dropped 4 partitions");
    let gone = python.exchange(&address, &["receive"]);
    assert!(fails(gone).await.starts_with("failed_precondition: "));
    assert!(server.terminate(PATIENCE).unwrap().success());
}

/// What it says when it ends badly.
async fn fails(mut process: Process) -> String {
    let ended = tokio::task::spawn_blocking(move || {
        assert!(!process.wait_exit(PATIENCE).unwrap().success());
        process.stderr()
    });
    ended.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sheaf_serves_has_both_faces_too() {
    let Some(python) = Python::new().await else { return };
    let server = Server::start().await;
    let uri = server.uri();
    let address = uri.split("//").last().unwrap();
    let told = finish(python.exchange(address, &["send", "--compression", "snappy"])).await;
    assert_eq!(told.trim(), "sent 100000 rows in 5 chunks");
    let told = python.shuffle(address, &["receive"]).await;
    assert_eq!(told.trim(), format!("received 100000 rows, sum {SUM}"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_needs_the_token_of_the_port() {
    let Some(python) = Python::new().await else { return };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "reader reader-0123456789abcdef allow=shuffle:r\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (mut server, address) = serve(&[file.to_str().unwrap()]);
    for (token, code) in [
        ("", "unauthenticated"),
        ("nobody-0123456789abcdef", "unauthenticated"),
        ("reader-0123456789abcdef", "permission_denied"),
    ] {
        let sent = python.exchange(&address, &["send", "--token", token]);
        let said = fails(sent).await;
        assert!(said.starts_with(code), "{token}: {said}");
    }
    let asked = ["list", "--token", "reader-0123456789abcdef"];
    assert!(fails(python.exchange(&address, &asked)).await.starts_with("not_found"));
    assert!(server.terminate(PATIENCE).unwrap().success());
}
