//! A clear error for each thing that can be wrong with the place or the data.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{PATIENCE, Server, serve, spawn};

/// Ends with this code before it is ready; its standard error.
fn refused(mut process: sheaf_testkit::Process, code: i32) -> String {
    let status = process.wait_exit(PATIENCE).unwrap();
    let text = process.stderr();
    assert_eq!(status.code(), Some(code), "{text}");
    assert!(text.contains("error: ") && text.contains("help: "), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(process.stdout(), "");
    text
}

#[test]
fn a_port_in_use_names_its_flag() {
    let taken = sheaf_testkit::free_port().unwrap().into_listener();
    let address = taken.local_addr().unwrap().to_string();
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let text = refused(spawn(folder.path(), &["--flight-addr", &address]), 5);
    assert!(text.contains("--flight-addr") && text.contains(&address), "{text}");
    let text = refused(spawn(folder.path(), &["--admin-addr", &address]), 5);
    assert!(text.contains("--admin-addr") && text.contains(&address), "{text}");
    assert!(!folder.path().join("data").exists(), "ports come before data");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no directory").unwrap();
    let below = file.join("data");
    let text = refused(serve(&["--data-dir", below.to_str().unwrap()], &[]), 74);
    assert!(text.contains(below.to_str().unwrap()), "{text}");
    // Permissions do not hold for root.
    if !rustix::process::geteuid().is_root() {
        let closed = folder.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        let text = refused(serve(&["--data-dir", closed.to_str().unwrap()], &[]), 74);
        assert!(text.contains("cannot be written"), "{text}");
    }
}

#[test]
fn a_sink_whose_path_cannot_be_is_no_missing_batch() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no directory").unwrap();
    for (path, code) in [(file.to_str().unwrap(), 4), ("/proc/none/out", 3)] {
        let text = refused(spawn(folder.path(), &["--sink", &format!("csv:{path}")]), code);
        assert!(text.contains(path), "{text}");
        let (_, help) = text.split_once("help: ").unwrap();
        assert!(!help.contains("payload") && !help.contains("identifier"), "{text}");
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start(&["--workers", "0"]);
    let text = refused(spawn(server.folder.path(), &[]), 5);
    assert!(text.contains("in use by process"), "{text}");
    let id = server.put(3, &[]);
    assert_eq!(server.run(&["get", &id, "--format", "csv"]).ok().lines().count(), 4);
}

#[test]
fn data_of_a_newer_version_is_left_alone() {
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("FORMAT"), "999\n").unwrap();
    let text = refused(spawn(folder.path(), &[]), 9);
    assert!(text.contains("999"), "{text}");
    assert!(!data.join("coordinator.redb").exists());
}

#[test]
fn unknown_names_and_broken_files_are_told_apart() {
    let server = Server::start(&["--workers", "0"]);
    assert!(server.run(&["get", "nobody"]).failed(3).contains("nobody"));
    assert!(server.run(&["batches", "show", "nobody"]).failed(3).contains("nobody"));
    for verb in ["cancel", "requeue"] {
        let ran = server.run(&["batches", verb, "nobody"]);
        assert_eq!(ran.code(), 3, "{}", ran.stderr());
        assert!(ran.stdout().contains("not found"), "{}", ran.stdout());
    }
    let text = server.run(&["put", &server.path("none.csv")]).failed(3);
    assert_eq!(text.matches("none.csv").count(), 1, "{text}");
    assert!(text.contains("check the path") && !text.contains("time to live"), "{text}");
    let broken = server.path("broken.parquet");
    fs::write(&broken, b"PAR1 this is none").unwrap();
    assert!(server.run(&["put", &broken]).failed(2).contains("broken.parquet"));
    let nameless = server.path("rows.bin");
    fs::write(&nameless, b"a,b\n1,2\n").unwrap();
    assert!(server.run(&["put", &nameless]).failed(2).contains("format"));
    assert_eq!(server.run(&["put", &nameless, "--input", "csv", "--json"]).json()[0]["rows"], 1);

    // What was put before the mistake is told.
    let good = server.csv("good.csv", 2);
    let ran = server.run(&["put", &good, &broken, "--id", "two"]);
    assert_eq!((ran.code(), ran.stdout().contains("two-1")), (2, true), "{}", ran.stdout());
}
