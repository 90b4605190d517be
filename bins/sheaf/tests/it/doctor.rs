//! `sheaf doctor` against real servers, disks and ports: what it finds and what
//! it says to do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sheaf_retry::SystemClock;
use sheaf_testkit::{Ready, TempDir, free_port};

use crate::bad_disk::Mount;
use crate::harness::{PATIENCE, Ran, Server, command, serve};

/// What the doctor says as one JSON document, and its exit code.
pub(crate) struct Finding {
    pub(crate) code: i32,
    pub(crate) report: Value,
}

impl Finding {
    pub(crate) fn of(words: &[&str]) -> Self {
        let ran = Ran(command().args(["doctor", "--json"]).args(words).output().unwrap());
        let (code, text) = (ran.code(), ran.stdout());
        assert_eq!(text.lines().count(), 1, "one document: {text}{}", ran.stderr());
        let report: Value = serde_json::from_str(&text).unwrap();
        if code != 0 {
            let error: Value = serde_json::from_str(&ran.stderr()).unwrap();
            assert!(error["error"]["help"].as_str().unwrap().contains("sheaf doctor"), "{error}");
        }
        assert_eq!(code == 0, report["verdict"] != "problem", "{report}");
        Finding { code, report }
    }

    /// The checks of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&Value> {
        let checks = self.report["checks"].as_array().unwrap();
        checks.iter().filter(|check| check["name"] == name).collect()
    }

    /// The one check of that name.
    pub(crate) fn check(&self, name: &str) -> &Value {
        let found = self.all(name);
        assert_eq!(found.len(), 1, "{name} in {:#}", self.report);
        found[0]
    }

    /// The one check of that name, which is a problem and says what to do.
    pub(crate) fn problem(&self, name: &str, code: &str, action: &str) -> &Value {
        let check = self.check(name);
        assert_eq!(
            (&check["verdict"], &check["code"]),
            (&"problem".into(), &code.into()),
            "{check}"
        );
        let told = check["action"].as_str().unwrap();
        assert!(told.contains(action), "{action} in {check}");
        check
    }
}

/// The flags by which a server was started, with the ports that it got.
fn flags(folder: &Path, ready: &Ready, service: &str) -> Vec<String> {
    [
        "--data-dir",
        folder.join("data").to_str().unwrap(),
        "--flight-addr",
        &ready.addr(service).unwrap().to_string(),
        "--admin-addr",
        &ready.addr("admin").unwrap().to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn words(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// The flags of a server that does not run, in a folder of its own.
fn quiet(folder: &TempDir) -> Vec<String> {
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    ["--data-dir", &data, "--flight-addr", "127.0.0.1:0"].map(str::to_owned).to_vec()
}

#[test]
fn a_server_that_runs_is_found_and_its_ports_are_its_own() {
    let server = Server::start(&["--workers", "1"]);
    let flags = flags(server.folder.path(), &server.ready, "flight");
    let found = Finding::of(&words(&flags));
    assert_eq!((found.code, &found.report["mode"]), (0, &"all".into()), "{:#}", found.report);
    let locks = &found.check("data_dir.locks")["figures"];
    assert_eq!(locks["pid"], server.process.pid());
    assert_eq!(locks["roles"], serde_json::json!(["store", "coordinator"]));
    for (name, part) in [
        ("port.flight", "is served by sheaf 0."),
        ("port.admin", "is the admin port of that server"),
        ("server.access", "is let in"),
        ("server.version", "mode all, up "),
        ("data_dir.format", "format 1"),
    ] {
        let check = found.check(name);
        assert_eq!(check["verdict"], "ok", "{check}");
        assert!(check["found"].as_str().unwrap().contains(part), "{check}");
    }
    assert!(found.check("server.latency")["figures"]["median_ms"].as_f64().unwrap() > 0.0);
    let ahead = found.check("server.clock")["figures"]["ahead_ms"].as_i64().unwrap();
    assert!(ahead.abs() < 1_000, "one machine, one clock: {ahead} ms");
    assert!(found.check("data_dir.fsync")["figures"]["median_ms"].as_f64().is_some());
    assert!(found.check("data_dir.space")["figures"]["free_bytes"].as_u64().is_some());

    // For people: a table, and no word of what to do where there is nothing.
    let ran = Ran(command().arg("doctor").args(words(&flags)).output().unwrap());
    assert!(ran.stderr().contains("0 problems"), "{}", ran.stderr());
    let text = ran.ok();
    assert!(text.starts_with("check") && text.contains("port.flight"), "{text}");
    assert!(!text.contains("PROBLEM"), "{text}");
    // It has not disturbed anything.
    let id = server.put(5, &["--register"]);
    server.wait_for_state(&id, "completed");
    assert!(!server.process.stderr().contains("ERROR"), "{}", server.process.stderr());
}

#[test]
fn before_the_first_start_nothing_is_made_and_after_the_last_the_record_is_read() {
    let folder = TempDir::new().unwrap();
    let flags = quiet(&folder);
    let found = Finding::of(&words(&flags));
    assert_eq!(found.code, 0, "{:#}", found.report);
    assert!(found.check("data_dir")["found"].as_str().unwrap().contains("will be made in"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the doctor changes nothing");

    let server = Server::start_in(folder, &["--workers", "0"]);
    server.put(5, &["--register"]);
    let Server { mut process, folder, .. } = server;
    process.terminate(PATIENCE).unwrap();
    let found = Finding::of(&words(&flags));
    assert_eq!(found.code, 0, "{:#}", found.report);
    assert_eq!(found.check("data_dir.locks")["figures"]["running"], false);
    assert_eq!(found.check("data_dir.quarantine")["figures"]["payloads"], 1);
    let record = found.check("data_dir.coordinator");
    assert_eq!((&record["verdict"], &record["figures"]["batches"]), (&"ok".into(), &1.into()));

    // What another program left in its place is told, and left alone.
    let file = folder.path().join("data/coordinator.redb");
    fs::write(&file, "no database").unwrap();
    fs::write(folder.path().join("data/batches/quarantine/x.arrow"), "damaged").unwrap();
    let found = Finding::of(&words(&flags));
    assert_eq!(found.code, 9, "{:#}", found.report);
    found.problem("data_dir.coordinator", "corrupt", "backup");
    assert_eq!(found.check("data_dir.quarantine")["verdict"], "warning");
    assert_eq!(fs::read(&file).unwrap(), b"no database");
}

#[test]
fn data_of_a_newer_version_is_a_problem_with_its_exit_code() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/FORMAT"), "99\n").unwrap();
    let flags = quiet(&folder);
    let found = Finding::of(&words(&flags));
    assert_eq!(found.code, 9, "{:#}", found.report);
    let check = found.problem("data_dir.format", "format_newer", "use the newer Sheaf");
    assert!(check["found"].as_str().unwrap().contains("format 99"), "{check}");

    let ran = Ran(command().arg("doctor").args(words(&flags)).output().unwrap());
    assert_eq!(ran.code(), 9, "{}", ran.stderr());
    let (text, error) = (ran.stdout(), ran.stderr());
    let (_, todo) = text.split_once("what to do\n").unwrap();
    let line = todo.lines().next().unwrap();
    assert!(line.starts_with("PROBLEM") && line.contains("data_dir.format"), "{text}");
    assert!(line.contains("use the newer Sheaf"), "{text}");
    assert!(error.starts_with("error: 1 problem, ") && error.contains("help: "), "{error}");
}

#[test]
fn a_coordinator_that_is_away_is_told_step_by_step() {
    let dead = free_port().unwrap().release().to_string();
    let (coordinator, unknown) = (format!("grpc://{dead}"), "grpc://nobody.invalid:8080");
    let worker = ["--mode", "worker", "--coordinator", &coordinator, "--flight-addr", unknown];
    let found = Finding::of(&worker);
    assert_eq!(found.code, 7, "{:#}", found.report);
    found.problem("coordinator.connection", "unavailable", "correct --coordinator");
    // A name server that does not answer is no better than one that says no.
    let name = found.check("flight.name");
    assert_eq!(name["verdict"], "problem", "{name}");
    assert!(name["action"].as_str().unwrap().contains("spelling in --flight-addr"), "{name}");
    assert!(found.all("coordinator.health").is_empty(), "{:#}", found.report);
    assert_eq!(found.check("data_dir")["verdict"], "skipped");
}

/// Ports that take connections and never say a word: each costs one deadline,
/// and two of them no more than one.
#[test]
fn silent_servers_do_not_add_up() {
    let silent = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, second) = (silent(), silent());
    let at = |listener: &TcpListener| format!("grpc://{}", listener.local_addr().unwrap());
    let timed = |coordinator: &str, flight: &str| {
        let clock = SystemClock::shared();
        let worker = ["--mode", "worker", "--coordinator", coordinator, "--flight-addr", flight];
        let found = Finding::of(&worker);
        assert_eq!(found.code, 7, "{:#}", found.report);
        found.problem("coordinator.health", "deadline_exceeded", "it hangs");
        clock.elapsed()
    };
    let one = timed(&at(&first), &at(&first));
    let two = timed(&at(&first), &at(&second));
    assert!(two < one + Duration::from_millis(2_500), "{one:?} for one, {two:?} for two");
    assert!(two < Duration::from_secs(30), "{two:?}");
}

#[test]
fn a_disk_that_is_full_or_cannot_be_written_says_how_to_mend_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    let found = Finding::of(&["--data-dir", file, "--flight-addr", "127.0.0.1:0"]);
    assert_eq!(found.code, 4, "{:#}", found.report);
    found.problem("data_dir", "already_exists", "name a directory");

    let flags = quiet(&folder);
    {
        let Some(_disk) = Mount::new(&folder.path().join("data"), "size=8m") else { return };
        let found = Finding::of(&words(&flags));
        assert_eq!(found.code, 6, "{:#}", found.report);
        found.problem("data_dir.space", "disk_full", "free disk space");
        let kind = found.check("data_dir.file_system");
        assert_eq!(
            (&kind["verdict"], &kind["figures"]["kind"]),
            (&"warning".into(), &"tmpfs".into())
        );
    }
    let Some(_disk) = Mount::new(&folder.path().join("data"), "size=1m,ro") else { return };
    let found = Finding::of(&words(&flags));
    let check = found.problem("data_dir", "permission_denied", "mount it for writing");
    assert!(check["found"].as_str().unwrap().contains("Read-only"), "{check}");
}

#[test]
fn a_taken_port_is_named_with_whoever_has_it() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let found =
        Finding::of(&["--data-dir", &data, "--flight-addr", &taken, "--admin-addr", &taken]);
    assert_eq!(found.code, 5, "{:#}", found.report);
    found.problem("port.flight", "address_in_use", "choose another port with --flight-addr");
    found.problem("port.admin", "address_in_use", "choose another port with --admin-addr");

    // The server of another directory is in the way as well.
    let other = Server::start(&["--workers", "0"]);
    let (flight, admin) = (other.ready.addr("flight").unwrap(), other.ready.addr("admin").unwrap());
    let (flight, admin) = (flight.to_string(), admin.to_string());
    let found =
        Finding::of(&["--data-dir", &data, "--flight-addr", &flight, "--admin-addr", &admin]);
    assert_eq!(found.code, 5, "{:#}", found.report);
    let check = found.problem("port.flight", "address_in_use", "stop what listens there");
    let text = check["found"].as_str().unwrap();
    assert!(text.contains("taken by sheaf 0.") && text.contains("does not serve this"), "{check}");
    let check = found.problem("port.admin", "address_in_use", "stop what listens there");
    assert!(check["found"].as_str().unwrap().contains("admin port of sheaf 0."), "{check}");
}

#[test]
fn every_mistake_of_the_configuration_is_a_problem_of_its_own() {
    let found = Finding::of(&["--lease", "5", "--workers", "many", "--mode", "all"]);
    assert_eq!(found.code, 2, "{:#}", found.report);
    let problems = found.all("configuration");
    assert_eq!(problems.len(), 2, "{:#}", found.report);
    assert_eq!(problems[0]["figures"]["setting"], "--lease");
    assert!(problems[0]["action"].as_str().unwrap().contains("sheaf serve --help"));
    assert_eq!(found.check("everything else")["verdict"], "skipped");
    let found = Finding::of(&["--config", "/nonexistent/sheaf.yaml"]);
    assert_eq!(found.code, 3, "{:#}", found.report);
    found.problem("configuration", "not_found", "name a readable YAML file");
}

/// Coordinator, Flight server and workers in processes of their own, each seen
/// by the doctor as itself, and asked by `--probe`.
#[test]
fn every_mode_is_looked_at_as_what_it_is() {
    let coordinator = Server::start(&["--mode", "coordinator"]);
    let at = coordinator.ready.url("coordinator").unwrap().to_owned();
    let flight = Server::start(&["--mode", "flight", "--coordinator", &at]);
    let store = flight.ready.url("flight").unwrap().to_owned();
    let worker = ["--mode", "worker", "--coordinator", &at, "--flight-addr", &store];
    let mut process = serve(&worker, &["--admin-addr", "127.0.0.1:0"]);
    let ready = process.wait_ready(PATIENCE).unwrap();
    let admin = ready.addr("admin").unwrap().to_string();
    let workers = [&worker[..], &["--admin-addr", &admin]].concat();

    let first = flags(coordinator.folder.path(), &coordinator.ready, "coordinator");
    let first = [&["--mode", "coordinator"][..], &words(&first)].concat();
    let second = flags(flight.folder.path(), &flight.ready, "flight");
    let second = [&["--mode", "flight", "--coordinator", &at][..], &words(&second)].concat();
    let probe =
        |flags: &[&str]| Ran(command().args(["doctor", "--probe"]).args(flags).output().unwrap());
    for (flags, mode) in [(&first, "coordinator"), (&second, "flight"), (&workers, "worker")] {
        let found = Finding::of(flags);
        assert_eq!((found.code, &found.report["mode"]), (0, &mode.into()), "{:#}", found.report);
        assert_eq!(found.check("port.admin")["verdict"], "ok", "{:#}", found.report);
        assert_eq!(probe(flags).ok(), "");
    }
    let found = Finding::of(&first);
    assert_eq!(found.check("data_dir.locks")["figures"]["running"], true);
    assert_eq!(found.check("server.version")["figures"]["mode"], "coordinator");
    let found = Finding::of(&second);
    assert_eq!(found.check("coordinator.version")["figures"]["mode"], "coordinator");
    assert_eq!(found.check("server.version")["figures"]["mode"], "flight");
    let found = Finding::of(&workers);
    assert_eq!(found.check("flight.version")["figures"]["mode"], "flight");

    process.terminate(PATIENCE).unwrap();
    let text = probe(&workers).failed(7);
    assert!(text.contains("does not answer"), "{text}");
    let Server { mut process, .. } = coordinator;
    process.terminate(PATIENCE).unwrap();
    probe(&first).failed(7);
    let text = probe(&["--flight-addr", "127.0.0.1:0"]).failed(2);
    assert!(text.contains("name a port with --flight-addr"), "{text}");
}

/// Servers that are up and well, and of the wrong kind.
#[test]
fn a_fleet_whose_parts_do_not_fit_is_a_problem() {
    let coordinator = Server::start(&["--mode", "coordinator"]);
    let at = coordinator.ready.url("coordinator").unwrap();
    let alone = Server::start(&["--mode", "flight"]);
    let store = alone.ready.url("flight").unwrap();
    let found = Finding::of(&["--mode", "worker", "--coordinator", store, "--flight-addr", at]);
    found.problem("coordinator.mode", "failed_precondition", "mode all or coordinator");
    found.problem("flight.mode", "failed_precondition", "the server that has the payloads");
    let found = Finding::of(&["--mode", "worker", "--coordinator", at, "--flight-addr", at]);
    found.problem("coordinator.mode", "failed_precondition", "the server that has the payloads");

    let forwards = Server::start(&["--mode", "flight", "--coordinator", at]);
    let store = forwards.ready.url("flight").unwrap();
    let folder = TempDir::new().unwrap();
    let flags = quiet(&folder);
    let second = [&["--mode", "flight", "--coordinator", store][..], &words(&flags)].concat();
    let found = Finding::of(&second);
    found.problem("coordinator.mode", "failed_precondition", "name the coordinator itself");
    // A worker may talk to the coordinator through it.
    let found = Finding::of(&["--mode", "worker", "--coordinator", store, "--flight-addr", store]);
    assert_eq!(found.check("coordinator.mode")["verdict"], "ok", "{:#}", found.report);
    let Server { mut process, .. } = coordinator;
    process.terminate(PATIENCE).unwrap();
    let found = Finding::of(&["--mode", "worker", "--coordinator", store, "--flight-addr", store]);
    // The server in between tries for a while: its answer may come too late.
    let check = found.check("coordinator.mode");
    assert_eq!(check["verdict"], "problem", "{check}");
    assert!(check["action"].as_str().unwrap().contains("start the coordinator"), "{check}");
}

/// Files that a person or a failing disk may have touched.
#[test]
fn damage_beside_the_payloads_is_seen_before_a_start() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start_in(folder, &["--workers", "0"]);
    (0..3).for_each(|_| drop(server.put(3, &["--register"])));
    let flags = quiet(&server.folder);
    server.process.terminate(PATIENCE).unwrap();
    let doctor = || Finding::of(&words(&flags));
    assert_eq!(doctor().check("data_dir.registered")["figures"]["records"], 3);

    let file = data.join("registered.log");
    let sound = fs::read(&file).unwrap();
    let mut damaged = sound.clone();
    damaged[30] ^= 1;
    let mut newer = sound.clone();
    newer[8] = 99;
    for (bytes, verdict, code, action) in [
        (&damaged[..], "warning", 0, "start with the coordinator"),
        (b"rubbish", "warning", 0, "put back the registered.log"),
        (&newer, "problem", 9, "use the newer Sheaf"),
        (&sound[..sound.len() - 3], "ok", 0, ""),
    ] {
        fs::write(&file, bytes).unwrap();
        let found = doctor();
        let check = found.check("data_dir.registered");
        assert_eq!((&check["verdict"], found.code), (&verdict.into(), code), "{check}");
        let told = check["action"].as_str().unwrap_or_default();
        assert!(told.contains(action), "{check}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "left as it was");
    }
    fs::write(data.join("FORMAT"), "rubbish\n").unwrap();
    doctor().problem("data_dir.format", "corrupt", "write the number into it again");
}

/// Nobody ever writes into the pipe.
#[test]
fn a_pipe_in_place_of_a_token_file_is_told_at_once() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("tokens");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let pipe = pipe.to_str().unwrap();
    let flags = quiet(&folder);
    let found = Finding::of(&[&words(&flags)[..], &["--token-file", pipe]].concat());
    let check = found.problem("tokens", "invalid_argument", "one token a line");
    assert!(check["found"].as_str().unwrap().contains("is no regular file"), "{check}");
    assert_eq!(found.check("data_dir")["verdict"], "ok", "{:#}", found.report);
}
