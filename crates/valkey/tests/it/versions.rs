//! T12: libraries of two versions on one server.

use std::net::SocketAddr;
use std::sync::Arc;

use sheaf_coordinator::Coordinator as _;
use sheaf_testkit::Valkey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{
    self, DEADLINE, LONG, Traffic, assert_fences_grow, assert_once, builder, connect, quick_core,
    sized,
};

/// The library that a coordinator has loaded.
fn library(server: &Valkey) -> Vec<String> {
    let list = server.command(&["FUNCTION", "LIST"]).unwrap();
    let names = list.items().iter().filter_map(|library| library.field("library_name")?.text());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// Stands before a server and gives the library another name of the same
/// length in all that clients send: for the server, they are of another
/// version, with functions of their own.
async fn renaming(server: SocketAddr, name: String, other: String) -> SocketAddr {
    assert_eq!(name.len(), other.len(), "lengths are sent along");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (name, other) = (name.clone(), other.clone());
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let down = tokio::io::copy(&mut from_server, &mut to_client);
                let up = async {
                    let mut held = Vec::with_capacity(64 << 10);
                    while from_client.read_buf(&mut held).await? > 0 {
                        let passed = rename(&mut held, name.as_bytes(), other.as_bytes());
                        to_server.write_all(&passed).await?;
                    }
                    to_server.write_all(&held).await
                };
                // Either end ends both; the test tells what came of it.
                tokio::select! {
                    ended = up => drop(ended),
                    ended = down => drop(ended),
                }
            });
        }
    });
    addr
}

/// Takes what may pass, renamed; what may be the beginning of the name stays.
fn rename(held: &mut Vec<u8>, name: &[u8], other: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while at + name.len() <= held.len() {
        if held[at..].starts_with(name) {
            held[at..at + name.len()].copy_from_slice(other);
            at += name.len();
        } else {
            at += 1;
        }
    }
    let tail = (1..name.len().min(held.len() + 1))
        .rev()
        .find(|length| held.ends_with(&name[..*length]))
        .unwrap_or(0);
    held.drain(..held.len() - tail).collect()
}

#[test]
fn a_name_in_pieces_is_renamed() {
    for piece in 1..12 {
        let (mut held, mut passed) = (Vec::new(), Vec::new());
        for part in b"x abcab abcd abcd ab".chunks(piece) {
            held.extend_from_slice(part);
            passed.extend(rename(&mut held, b"abcd", b"wxyz"));
        }
        passed.extend(held);
        assert_eq!(passed, b"x abcab wxyz wxyz ab", "{piece}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t12_two_versions_work_on_the_same_batches() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let one = connect(builder(server.addr()).poll_interval(DEADLINE)).await;
    let name = library(&server).remove(0);
    // The last of its digest is another: a digit, as before.
    let (rest, last) = name.split_at(name.len() - 1);
    let other = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    let renamed = renaming(server.addr(), name.clone(), other.clone()).await;
    let two = connect(builder(renamed).poll_interval(DEADLINE)).await;
    let mut both = vec![name, other];
    both.sort_unstable();
    assert_eq!(library(&server), both);

    // What one registers wakes the other, which has it until the end.
    let waiting = {
        let (two, wait) = (Arc::clone(&two), DEADLINE);
        let request = kit::request("two", "two-waits", 1);
        let request = sheaf_coordinator::ClaimRequest { wait, ..request };
        tokio::spawn(async move { two.claim(request).await.unwrap() })
    };
    one.register(vec![kit::spec("crossing")]).await.unwrap();
    let claim = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!(claim.leases.len(), 1);
    // A claim that is sent again by way of the other has the same answer.
    let again = one.claim(kit::request("two", "two-waits", 1)).await.unwrap();
    assert_eq!(again.leases, claim.leases);
    let done = kit::settle(&claim.leases, sheaf_coordinator::Resolution::Completed);
    let reply = one.settle(done).await.unwrap();
    assert_eq!(reply.outcomes[0].verdict, sheaf_coordinator::Verdict::Applied);
    quick_core(&two, "by-two").await;
    quick_core(&one, "by-one").await;

    let coordinators = [Arc::clone(&one), Arc::clone(&two)];
    let mut traffic = Traffic::start("mixed", &coordinators, LONG);
    // Both register.
    traffic.join(&[two, one], LONG);
    for _ in 0..sized(5, 500) {
        traffic.goes_on(100, DEADLINE).await;
        // A rolling deploy goes through this, too.
        server.command(&["FUNCTION", "FLUSH", "SYNC"]).unwrap();
    }
    traffic.goes_on(100, DEADLINE).await;
    let seen = traffic.finish(0).await;
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert_once(&coordinators[0], &seen).await;
    assert_fences_grow(&seen.fences);
    assert_eq!(library(&server), both);
}
