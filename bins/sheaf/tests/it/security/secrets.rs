//! No secret in a log, a list of processes or a message.

use super::calls::{METHODS, call, pool, runtime};
use super::files::{GONE, OLD, RIGHT, Secured, WRONG};
use crate::harness::{PATIENCE, spawn};

#[test]
fn no_token_is_shown_anywhere() {
    let secured = Secured::start(&["--workers", "1", "--verbose"]);
    let runtime = runtime();
    let ca = secured.path("ca");
    let mut texts = Vec::new();
    for token in [RIGHT, WRONG, OLD, GONE] {
        let pool = pool(Some(token), Some(&ca), None);
        texts.push(format!("{pool:?}"));
        for method in METHODS {
            if let Err(error) = runtime.block_on(call(&pool, secured.uri(), method)) {
                texts.push(format!("{error} {error:?}"));
            }
        }
    }
    let csv = secured.server.csv("rows.csv", 2);
    texts.push(secured.run(&["put", &csv, "--register"]).ok());
    let process = format!("/proc/{}/cmdline", secured.server.process.pid());
    texts.push(std::fs::read_to_string(process).unwrap());
    let log = secured.server.process.stderr();
    assert!(log.contains("DEBUG"), "it is verbose: {log}");
    texts.push(log);
    let key = std::fs::read_to_string(secured.path("server.key")).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    for text in texts {
        assert!(!text.contains("0123456789abcdef") && !text.contains(&key), "{text}");
    }
}

#[test]
fn files_that_everybody_can_read_are_refused_at_the_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let path = folder.path().join("tokens").to_str().unwrap().to_owned();
    std::fs::write(&path, super::files::tokens()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut process = spawn(folder.path(), &["--token-file", &path]);
    let status = process.wait_exit(PATIENCE).unwrap();
    let text = process.stderr();
    assert_eq!(status.code(), Some(5), "{text}");
    assert!(text.contains("chmod 600") && text.contains(&path), "{text}");
    assert!(!text.contains("0123456789abcdef"), "{text}");
}
