//! Backups that were broken off or damaged: refused, by name.

use std::fs;
use std::path::{Path, PathBuf};

use sheaf_testkit::TempDir;

use super::held::{LARGE, Slow};
use crate::harness::{PATIENCE, Server, sheaf};

/// The first file below a folder with this ending.
fn find(folder: &Path, ending: &str) -> PathBuf {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                return path;
            }
        }
    }
    panic!("no {ending} in {}", folder.display());
}

/// Refused for this reason, and nothing was made.
fn refused(backup: &Path, code: i32, names: &str) {
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    let (backup, to) = (backup.to_str().unwrap(), data.to_str().unwrap());
    for words in [&["restore", backup, "--data-dir", to][..], &["restore", backup, "--check"]] {
        let text = sheaf(words).failed(code);
        assert!(text.contains(names), "{names} in {text}");
        assert!(!data.exists(), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bit_that_changes_is_found_and_its_file_is_named() {
    let server = Server::start(&["--workers", "0"]);
    server.put(300, &["--register", "--id", "kept"]);
    server.put(400, &["--register"]);
    super::ask(server.ready.url("flight").unwrap(), "PinBatch", "{\"batch_id\":\"kept\"}").await;
    let backup = PathBuf::from(server.path("backup"));
    server.run(&["backup", backup.to_str().unwrap()]).ok();
    sheaf(&["restore", backup.to_str().unwrap(), "--check"]).ok();
    for ending in ["MANIFEST.json", "FILES", "coordinator.redb", "registered.log", ".arrow"] {
        let file = find(&backup, ending);
        let whole = fs::read(&file).unwrap();
        for at in [whole.len() / 3, whole.len() / 2, whole.len() - 3] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&file, changed).unwrap();
            refused(&backup, 9, file.to_str().unwrap());
        }
        fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        refused(&backup, 9, file.to_str().unwrap());
        fs::remove_file(&file).unwrap();
        let code = if ending == "MANIFEST.json" { 5 } else { 9 };
        refused(&backup, code, ending);
        fs::write(&file, whole).unwrap();
    }
    let pin = find(&backup, ".pin");
    fs::remove_file(&pin).unwrap();
    refused(&backup, 9, pin.to_str().unwrap());
    fs::write(&pin, "").unwrap();
    let more = pin.with_file_name("more.arrow");
    fs::write(&more, "").unwrap();
    refused(&backup, 9, "files");
    fs::remove_file(&more).unwrap();
    sheaf(&["restore", backup.to_str().unwrap(), "--check"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_into_an_empty_directory_only() {
    let server = Server::start(&["--workers", "0"]);
    server.put(3, &["--register"]);
    let backup = server.path("backup");
    server.run(&["backup", &backup]).ok();
    let taken = server.run(&["backup", &backup]).failed(4);
    assert!(taken.contains(&backup), "{taken}");
    let text = sheaf(&["restore", &backup, "--data-dir", &server.path("data")]).failed(5);
    assert!(text.contains("in use by process"), "{text}");
    let (full, empty) = (server.path("full"), server.path("empty"));
    fs::create_dir(&full).unwrap();
    fs::create_dir(&empty).unwrap();
    fs::write(format!("{full}/mine"), "kept").unwrap();
    let text = sheaf(&["restore", &backup, "--data-dir", &full]).failed(4);
    assert!(text.contains("not empty"), "{text}");
    sheaf(&["restore", &backup, "--data-dir", &empty]).ok();
    // As a crash in the middle leaves it.
    fs::write(format!("{empty}/RESTORING"), "").unwrap();
    let text = sheaf(&["restore", &backup, "--data-dir", &empty]).failed(5);
    assert!(text.contains("broken off"), "{text}");
    for mode in ["all", "coordinator", "flight"] {
        let words = ["serve", "--flight-addr", "127.0.0.1:0", "--mode", mode, "--data-dir", &empty];
        let text = sheaf(&words).failed(5);
        assert!(text.contains("broken off"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_client_is_killed_is_refused_and_its_hold_ends() {
    let mut slow = Slow::start(&["--workers", "0"]).await;
    slow.put(0..LARGE).await;
    let mut client = slow.begin();
    assert_eq!(slow.holds().await, 1);
    client.kill().unwrap();
    client.wait().unwrap();
    slow.released().await;
    assert!(!slow.backup.exists());
    refused(&slow.partial(), 5, "no complete backup");
    // And the next one of that name begins anew.
    slow.fast();
    let backup = slow.backup.to_str().unwrap().to_owned();
    slow.server.run(&["backup", &backup]).ok();
    assert!(!slow.partial().exists());
    sheaf(&["restore", &backup, "--check"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_server_is_killed_is_refused() {
    let mut slow = Slow::start(&["--workers", "0"]).await;
    slow.put(0..LARGE).await;
    let client = slow.begin();
    slow.server.process.kill9().unwrap();
    slow.fast();
    let ended = tokio::task::block_in_place(|| client.wait_with_output()).unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert!(!slow.backup.exists());
    refused(&slow.partial(), 5, "no complete backup");
    let leftover = slow.server.folder.path().join("data/coordinator.redb.copy");
    let Slow { server: Server { folder, .. }, .. } = slow;
    let mut server = Server::start_in(folder, &["--workers", "0"]);
    assert!(!leftover.exists());
    server.process.terminate(PATIENCE).unwrap();
}

/// What the server itself has lost is no reason to have no backup of the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_damaged_on_the_server_is_named_and_the_rest_is_whole() {
    let mut server = Server::start(&["--workers", "0"]);
    server.put(3_000, &["--register", "--id", "good"]);
    server.put(4_000, &["--register", "--id", "bad"]);
    server.process.kill9().unwrap();
    let Server { folder, .. } = server;
    let file = find(&folder.path().join("data/batches"), "/bad.arrow");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let server = Server::start_in(folder, &["--workers", "0"]);
    let backup = server.path("backup");
    let made = server.run(&["backup", &backup, "--json"]).json().remove(0);
    assert_eq!(made["payloads"], 1, "{made}");
    assert_eq!(made["missing"], serde_json::json!({ "count": 1, "batch_ids": ["bad"] }));
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    let restored = sheaf(&["restore", &backup, "--data-dir", data.to_str().unwrap()]);
    assert!(restored.stderr().contains("such as bad"), "{}", restored.stderr());
    restored.ok();
    let server = Server::start_in(home, &["--workers", "1"]);
    server.wait_for_state("good", "completed");
    let batch = server.wait_for_state("bad", "failed");
    assert_eq!(batch["error"]["code"], "payload_lost", "{batch}");
}
