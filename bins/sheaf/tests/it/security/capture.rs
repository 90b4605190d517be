//! Every byte between client and server, recorded on the way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::calls::{http, tls};
use super::files::{RIGHT, Secured, tokens, write};
use crate::harness::{Ran, Server, command};

/// In every row that is put.
const MARKER: &str = "marker-of-the-payload";
const METRIC: &str = "sheaf_flight_requests_total";
const ID: &str = "batch-with-a-telling-name";

/// Hands everything on, both ways, and keeps a copy.
struct Relay {
    address: SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                copy(client.try_clone().unwrap(), server.try_clone().unwrap(), kept.clone());
                copy(server, client, kept.clone());
            }
        });
        Relay { address, bytes }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, kept: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            kept.lock().unwrap().extend_from_slice(&buffer[..length]);
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Write));
    });
}

/// Puts and gets marked rows through a relay; what of them can be read there.
fn readable(
    server: &Server,
    scheme: &str,
    token_file: &str,
    ca: Option<&str>,
) -> Vec<&'static str> {
    let relay = Relay::start(server.ready.addr("flight").unwrap());
    let csv = server.path("marked.csv");
    let rows: String = (0..100).map(|n| format!("{n},{MARKER}\n")).collect();
    std::fs::write(&csv, format!("n,text\n{rows}")).unwrap();
    let run = |words: &[&str]| {
        let mut command = command();
        command.env("SHEAF_SERVER", format!("{scheme}://{}", relay.address));
        command.env("SHEAF_TOKEN_FILE", token_file);
        if let Some(ca) = ca {
            command.env("SHEAF_TLS_CA", ca);
        }
        Ran(command.args(words).output().unwrap())
    };
    run(&["put", &csv, "--id", ID, "--register"]).ok();
    assert!(run(&["get", ID, "--format", "csv"]).ok().contains(MARKER));
    // HTTP/2 packs headers (Huffman): a token is seen as it is on the admin port.
    let admin = Relay::start(server.ready.addr("admin").unwrap());
    let header = format!("authorization: Bearer {RIGHT}\r\n");
    let answer = match ca {
        Some(ca) => http(tls(admin.address, ca, None), "/metrics", &header),
        None => http(TcpStream::connect(admin.address).unwrap(), "/metrics", &header),
    };
    assert_eq!(answer.unwrap().0, 200);
    let bytes = [&relay.bytes, &admin.bytes].map(|bytes| bytes.lock().unwrap().clone());
    assert!(bytes.iter().all(|bytes| bytes.len() > 1_000), "the relays were on the way");
    let bytes = bytes.concat();
    let seen = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    [MARKER, RIGHT, ID, METRIC].into_iter().filter(seen).collect()
}

#[test]
fn nothing_can_be_read_on_the_way_under_tls_and_everything_without() {
    let secured = Secured::start(&["--workers", "0"]);
    let (tokens_path, ca) = (secured.path("tokens"), secured.path("ca"));
    let seen = readable(&secured.server, "grpc+tls", &tokens_path, Some(&ca));
    assert_eq!(seen, [""; 0]);

    // The same without TLS shows that the relays would have seen it.
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let path = folder.path().join("tokens").to_str().unwrap().to_owned();
    write(&path, &tokens());
    let open = Server::start(&["--workers", "0", "--token-file", &path]);
    let seen = readable(&open, "grpc", &path, None);
    assert_eq!(seen, [MARKER, RIGHT, ID, METRIC]);
}
