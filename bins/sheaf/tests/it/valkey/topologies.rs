//! Every kind of Valkey that an address may name.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sheaf_testkit::{Cluster, Flavour, Sentinels, TempDir, TlsFiles, Valkey, free_port};

use crate::doctor::Finding;
use crate::harness::sheaf;
use crate::parts::{Part, data, uri};
use crate::remote::{Remote, assert_rows_once};

const BATCHES: u64 = 20;

/// A server of mode `all` on the Valkey that these words name does its work.
async fn works(folder: &Path, words: &[&str]) -> Part {
    let at = free_port().unwrap().release();
    let (folder, out) = (data(folder, "data"), folder.join("out"));
    let (address, sink) = (at.to_string(), format!("parquet:{}", out.display()));
    let first = ["--data-dir", &folder, "--flight-addr", &address, "--sink", &sink];
    let part = Part::start(&[&first, words].concat());
    let remote = Remote::at(&uri(at));
    remote.put(0..BATCHES).await;
    remote.completes(BATCHES).await;
    assert_rows_once(&out, BATCHES);
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn one_behind_tls_with_a_user_and_certificates() {
    let files = TlsFiles::new().unwrap();
    let user = ["--user", "sheaf", "on", ">hunter2", "~{sheaf}:*", "&*", "+@all"];
    let args = [&["--tls-auth-clients", "yes"], &user[..]].concat();
    let Some(valkey) = Valkey::start_tls(&files, &args).unwrap() else { return };
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    for secret in [&password, &files.client_key()] {
        std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let url = format!("valkeys://{}", valkey.tls_addr().unwrap());
    let (ca, cert, key) = (files.ca(), files.client_certificate(), files.client_key());
    let paths = [&ca, &cert, &key, &password].map(|path| path.to_str().unwrap());
    let [ca, cert, key, password] = paths;
    let who = ["--valkey-user", "sheaf", "--valkey-password-file", password];
    let shown = ["--valkey-tls-cert", cert, "--valkey-tls-key", key];
    let words = [&["--valkey-addr", &url, "--valkey-tls-ca", ca], &who[..], &shown].concat();
    let part = works(folder.path(), &words).await;
    assert!(!part.process.stderr().contains("hunter2"));
    let other = folder.path().join("other");
    let words =
        [&words, &["--data-dir", other.to_str().unwrap(), "--flight-addr", "127.0.0.1:0"][..]]
            .concat();
    let found = Finding::of(&words);
    assert_eq!(found.check("valkey.connection")["verdict"], "ok");
    assert!(!found.report.to_string().contains("hunter2"));
    // Of an authority that did not sign its certificate.
    let strangers = TlsFiles::new().unwrap();
    let ca = strangers.ca();
    let words = [&["serve"], &words[..], &["--valkey-tls-ca", ca.to_str().unwrap()]].concat();
    let text = sheaf(&words).failed(7);
    assert!(text.contains(&url), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_that_sentinels_name() {
    let Some(sentinels) = Sentinels::start(Flavour::Valkey, &[]).unwrap() else { return };
    let addrs = sentinels.addrs();
    let (first, rest) = addrs.split_first().unwrap();
    let nodes: String = rest.iter().map(|addr| format!("&node={addr}")).collect();
    let name = Sentinels::NAME;
    let url = format!("valkey-sentinel://{first}?sentinelServiceName={name}{nodes}");
    let folder = TempDir::new().unwrap();
    let words = ["--valkey-addr", &url, "--valkey-durability", "replicated"];
    works(folder.path(), &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster() {
    let Some(cluster) = Cluster::start(Flavour::Valkey, &[]).unwrap() else { return };
    let addrs = cluster.addrs();
    let (first, rest) = addrs.split_first().unwrap();
    let nodes: Vec<String> = rest.iter().map(|addr| format!("node={addr}")).collect();
    let url = format!("valkey-cluster://{first}?{}", nodes.join("&"));
    let folder = TempDir::new().unwrap();
    works(folder.path(), &["--valkey-addr", &url]).await;
}
