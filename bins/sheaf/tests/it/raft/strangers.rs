//! Nodes that do not belong: of another cluster, on the data of another node or of a later
//! version, with a certificate that is not theirs. Each is refused, by name, and the
//! cluster goes on without it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sheaf_coordinator::{BatchSpec, Coordinator as _};
use sheaf_flight::{ClientSecurity, TokenSource};
use sheaf_testkit::{TempDir, wait_for_async, wait_until};

use super::cluster::{Cluster, free_addresses, plainly};
use super::damage::{HEAD, newest_segment, records};
use super::load::Load;
use crate::harness::{PATIENCE, serve};
use crate::parts::{Launch, Part};
use crate::security::files::{Authority, write};

/// As any process is started, with more words, which win.
fn with(words: &[&str]) -> Launch {
    let more: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Arc::new(move |words| {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        serve(words, &more)
    })
}

/// Waits until a node has written a line with all of these.
fn says(cluster: &Cluster, index: usize, texts: &[&str]) {
    let is_it = |line: &str| texts.iter().all(|text| line.contains(text));
    let node = &cluster.nodes[index].process;
    wait_until(PATIENCE, "a line in a log", || node.stderr().lines().any(is_it))
        .unwrap_or_else(|error| panic!("{error}: {texts:?}: {}", cluster.last_words()));
}

/// Who founds is alone with that for a moment: the others give no vote before they have it.
async fn all_have_founded(cluster: &Cluster) {
    let founded = wait_for_async(PATIENCE, "all to have the first entry", || async {
        for index in 0..3 {
            let status = cluster.status(index, false).await?;
            status["applied"].as_u64().filter(|applied| *applied > 0)?;
        }
        Some(())
    });
    founded.await.unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words()));
}

/// What a node says of itself, as soon as it answers.
async fn answer(cluster: &Cluster, index: usize) -> Value {
    let told = wait_for_async(PATIENCE, "an answer", || cluster.status(index, false)).await;
    told.unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words()))
}

/// The third node gets nothing of the log, which the two others have a majority for.
async fn is_left_out(cluster: &Cluster, batch: usize) {
    let two = [cluster.uri(0), cluster.uri(1)];
    // In a queue of its own, beside that of a load.
    let specs = super::specs(batch, 1).into_iter();
    let specs = specs.map(|spec| BatchSpec { queue: "beside".to_owned(), ..spec });
    cluster.client_of(&two).register(specs.collect()).await.unwrap();
    let leader = cluster.leader_among(&[0, 1]).await;
    let status = answer(cluster, leader).await;
    let third = &status["members"][2];
    assert_eq!(third["node_id"], 3, "{status}");
    assert!(third["matched"].as_u64() < status["committed"].as_u64(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_node_of_another_cluster_is_refused_by_name() {
    let mut cluster = Cluster::start(3, &[]).await;
    all_have_founded(&cluster).await;
    let (stranger, elsewhere) = (2, TempDir::new().unwrap());
    cluster.kill(stranger);
    let words = cluster.nodes[stranger].words.clone();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let data = elsewhere.path().to_str().unwrap();
    let launch = with(&["--cluster-id", "elsewhere", "--data-dir", data]);
    cluster.nodes[stranger] = Part::launch(launch, &words);
    cluster.leader_among(&[0, 1]).await;
    says(&cluster, 0, &["refused", "of cluster \"elsewhere\", this node of cluster \"sheaf\""]);
    says(
        &cluster,
        stranger,
        &["refused", "of cluster \"sheaf\", this node of cluster \"elsewhere\""],
    );
    is_left_out(&cluster, 0).await;
    cluster.assert_calm(cluster.leader_among(&[0, 1]).await).await;
    let status = answer(&cluster, stranger).await;
    assert!(status["leader"].is_null() && status["committed"] == 0, "{status}");

    cluster.leave_out(stranger);
    let load = Load::start(2, || cluster.client());
    wait_until(PATIENCE, "the two to work", || load.completed() > 50).unwrap();
    load.settle(&cluster.client_of(&[cluster.uri(0), cluster.uri(1)])).await;
    cluster.agree().await;
}

/// A process that ends by itself; its exit code and what it said.
fn refuses(launch: Launch, words: &[String]) -> (Option<i32>, String) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut node = Part::launch(launch, &words);
    let status = node.process.wait_exit(PATIENCE).unwrap();
    let text = node.process.stderr();
    assert!(text.contains("error: ") && text.contains("help: "), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    (status.code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_node_on_data_that_is_not_its_own_does_not_start() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let words = cluster.nodes[one].words.clone();
    let foreign = cluster.data(other).to_str().unwrap().to_owned();

    // Another process has it.
    cluster.kill(one);
    let (code, text) = refuses(with(&["--data-dir", &foreign]), &words);
    assert!(code == Some(5) && text.contains("in use by another process"), "{code:?}: {text}");

    // Nobody has it now, and it is another's.
    cluster.kill(other);
    let (code, text) = refuses(with(&["--data-dir", &foreign]), &words);
    let (whose, whom) = (format!("is of node {}", other + 1), format!("not of node {}", one + 1));
    assert!(code == Some(5) && text.contains(&whose) && text.contains(&whom), "{code:?}: {text}");
    let (code, text) = refuses(with(&["--cluster-id", "elsewhere"]), &words);
    assert!(code == Some(5) && text.contains("of cluster \"elsewhere\""), "{code:?}: {text}");

    // A later version wrote it.
    let path = newest_segment(&cluster, one);
    let right = fs::read(&path).unwrap();
    fs::write(&path, of_next_version(&right)).unwrap();
    let (code, text) = refuses(plainly(), &words);
    assert_eq!(code, Some(9), "{text}");
    assert!(text.contains("records of version 2, this build knows up to 1"), "{text}");
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    fs::write(&path, right).unwrap();

    // Nothing of all that has harmed anybody.
    cluster.start_again(one);
    cluster.start_again(other);
    cluster.leader().await;
    cluster.agree().await;
}

/// The log with its last record as the next version would write it.
fn of_next_version(bytes: &[u8]) -> Vec<u8> {
    let starts = records(bytes);
    let (from, end) = (starts[starts.len() - 2], starts[starts.len() - 1]);
    let mut bytes = bytes[..end].to_vec();
    // The first field of every record: the version.
    assert_eq!(bytes[from + HEAD..][..2], [8, 1]);
    bytes[from + HEAD + 1] = 2;
    let checked = [&bytes[from..from + HEAD - 4], &bytes[from + HEAD..]].concat();
    bytes[from + HEAD - 4..from + HEAD].copy_from_slice(&crc32c(&checked).to_le_bytes());
    bytes
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

/// What a node of a cluster with TLS is started with.
fn words_of(ca: &str, (certificate, key): &(String, String)) -> Vec<String> {
    let words = ["--tls-ca", ca, "--tls-client-ca", ca];
    let own = ["--tls-cert", certificate, "--tls-key", key];
    words.iter().chain(&own).map(|word| (*word).to_owned()).collect()
}

fn launch(words: &[String]) -> Launch {
    with(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What the certificate of a node has to have among its names.
fn name(node: u64) -> String {
    format!("sheaf://sheaf/node/{node}")
}

fn client(ca: &str, folder: &Path, authority: &Authority) -> ClientSecurity {
    let (certificate, key) = authority.write_as(folder, "client", None, false);
    ClientSecurity {
        ca: Some(ca.into()),
        identity: Some((certificate.into(), key.into())),
        token: TokenSource::None,
        insecure: false,
    }
}

fn logs(cluster: &Cluster) -> Vec<String> {
    cluster.nodes.iter().map(|node| node.process.stderr()).collect()
}

/// Under TLS a node is who its certificate says, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn raft_node_without_its_own_certificate_is_refused() {
    let (folder, authority, other) = (TempDir::new().unwrap(), Authority::new(), Authority::new());
    let folder = folder.path();
    let ca = folder.join("ca").to_str().unwrap().to_owned();
    write(&ca, &authority.pem);
    let cluster = Cluster::plan(3, free_addresses(3), &[]);
    let mut cluster = cluster.secured(client(&ca, folder, &authority));
    for node in [1, 2, 3] {
        let own = authority.write_as(folder, &format!("node-{node}"), Some(&name(node)), false);
        cluster.launch(launch(&words_of(&ca, &own)));
    }
    all_have_founded(&cluster).await;
    let third = 2;
    cluster.kill(third);
    cluster.leader_among(&[0, 1]).await;

    let needed = name(3);
    let second = name(2);
    let says_so = "says that it is node 3, its certificate is for";
    for (batch, (what, own, why, own_why)) in (0..).zip([
        ("nameless", (&authority, None, false), [says_so, needed.as_str()], "it needs the URI"),
        (
            "another",
            (&authority, Some(&second), false),
            [says_so, second.as_str()],
            "it needs the URI",
        ),
        (
            "foreign",
            (&other, Some(&needed), false),
            ["certificate", "signed by no CA"],
            "this client",
        ),
        ("expired", (&authority, Some(&needed), true), ["certificate", "expired"], "this client"),
    ]) {
        let (authority, uri, is_expired) = own;
        let own = authority.write_as(folder, what, uri.map(String::as_str), is_expired);
        let words: Vec<String> = cluster.words(2, &[]).into_iter().map(str::to_owned).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // What was said of the one before does not count.
        let before: Vec<usize> = logs(&cluster).iter().map(|log| log.lines().count()).collect();
        let mut node = Part::launch(launch(&words_of(&ca, &own)), &words);
        let is_it =
            |line: &str| line.contains("WARN") && why.iter().all(|text| line.contains(text));
        let is_said = || {
            let mut logs = logs(&cluster).into_iter().zip(&before);
            logs.any(|(log, before)| log.lines().skip(*before).any(is_it))
        };
        wait_until(PATIENCE, "the refusal", is_said).unwrap_or_else(|error| {
            panic!("{what}: {error}: {}{}", cluster.last_words(), node.process.stderr())
        });
        wait_until(PATIENCE, "it to say why", || node.process.stderr().contains(own_why))
            .unwrap_or_else(|error| panic!("{what}: {error}: {}", node.process.stderr()));
        is_left_out(&cluster, batch).await;
        cluster.assert_calm(cluster.leader_among(&[0, 1]).await).await;
        assert!(node.process.try_exit().unwrap().is_none(), "{what}: {}", node.process.stderr());
    }

    cluster.start_again(third);
    let follows = wait_for_async(PATIENCE, "the right one to follow", || async {
        let status = cluster.status(third, false).await?;
        (status["role"] == "follower" && !status["leader"].is_null()).then_some(())
    });
    follows.await.unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words()));
    let load = Load::start(2, || cluster.client());
    wait_until(PATIENCE, "the three to work", || load.completed() > 50).unwrap();
    load.settle(&cluster.client()).await;
    cluster.agree().await;
}
