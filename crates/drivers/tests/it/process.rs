//! The process driver with real processes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_dataflow::Assignment;
use sheaf_drivers::process::{LogLimits, ProcessDriver, ProcessOptions, Programs};
use sheaf_drivers::{Driver as _, Ended, Launch, LaunchId};
use sheaf_flight::Secret;
use sheaf_retry::SystemClock;
use sheaf_testkit::{TempDir, wait_for, wait_until};

const TIME: Duration = Duration::from_secs(30);

/// The example that keeps instances, which `cargo test` builds beside the tests.
fn keeper() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("examples/keeper");
    assert!(
        path.is_file(),
        "{} is missing: cargo build -p sheaf-drivers --examples",
        path.display()
    );
    path
}

fn options(folder: &TempDir) -> ProcessOptions {
    ProcessOptions {
        folder: folder.path().to_owned(),
        keeper: keeper(),
        programs: Programs { path: vec!["/bin".into(), "/usr/bin".into()], ..Programs::default() },
        outlive: false,
        prints: false,
        log: LogLimits::default(),
    }
}

fn driver(folder: &TempDir) -> Arc<ProcessDriver> {
    Arc::new(ProcessDriver::new(options(folder), SystemClock::shared()))
}

fn launch(instance: &str, attempt: u64, definition: serde_json::Value) -> Launch {
    let place = format!("p:{instance}");
    let assignment: Assignment = serde_json::from_value(serde_json::json!({
        "pipeline": "p", "run": 1, "pass": 1, "place": place, "role": "source", "instance": instance,
        "index": 0, "replicas": 1, "definition": definition, "listen": "127.0.0.1:0",
        "healthListen": "127.0.0.1:0", "control": "grpc://127.0.0.1:1", "token": "t0ken",
        "dataToken": "d", "stateDir": "/tmp",
    }))
    .unwrap();
    Launch { id: LaunchId { place, attempt }, assignment, environment: Vec::new() }
}

fn shell(instance: &str, script: &str) -> Launch {
    launch(instance, 1, serde_json::json!({"id": instance, "command": ["sh", "-c", script]}))
}

async fn next(driver: &ProcessDriver) -> Ended {
    tokio::time::timeout(TIME, driver.ended()).await.expect("an instance ends")
}

async fn log(driver: &ProcessDriver, place: &str) -> Vec<String> {
    let lines = driver.logs(&[place.to_owned()], 1_000, false).await.unwrap();
    lines.map(|line| line.text).collect().await
}

/// The number that the instance has printed behind a word.
fn printed(folder: &TempDir, instance: &str, word: &str) -> i32 {
    let path = folder.path().join("p/instances").join(instance).join("log");
    let find = || {
        let text = std::fs::read_to_string(&path).ok()?;
        let line = text.lines().find_map(|line| line.split_once(&format!(" {word} ")))?;
        line.1.trim().parse().ok()
    };
    wait_for(TIME, "the number of a process", find).unwrap()
}

fn is_there(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that has ended and is only not waited for does nothing any more.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn wait_gone(pid: i32) {
    wait_until(TIME, "the end of a process", || !is_there(pid)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_an_instance_ends_is_told_with_its_last_words() {
    let folder = TempDir::new().unwrap();
    let driver = driver(&folder);
    let cases = [
        ("good", "echo fine", true, "exit status 0"),
        ("bad", "echo no such table >&2; exit 2", false, "exit status 2: no such table"),
        ("killed", "kill -9 $$", false, "killed by signal 9 (KILL)"),
    ];
    for (name, script, success, why) in cases {
        driver.start(shell(name, script)).await.unwrap();
        let id = LaunchId { place: format!("p:{name}"), attempt: 1 };
        let ended = next(&driver).await;
        assert_eq!(ended, Ended { id, success, why: why.to_owned() });
        assert_eq!(ended.is_configuration(), name == "bad");
    }
    assert_eq!(log(&driver, "p:good").await, ["fine"]);
    assert_eq!(driver.running("p").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_gets_its_assignment_and_environment_and_nobody_else_does() {
    let folder = TempDir::new().unwrap();
    let driver = driver(&folder);
    let script =
        "grep -c '\"token\": \"t0k' $SHEAF_ASSIGNMENT; echo ${#PASSWORD}; cat /proc/$PPID/cmdline";
    let mut launch = shell("a", script);
    launch.environment.push(("PASSWORD".to_owned(), Secret::new("hunter2")));
    driver.start(launch).await.unwrap();
    assert!(next(&driver).await.success);
    let lines = log(&driver, "p:a").await;
    assert_eq!(lines[..2], ["1", "7"], "{lines:?}");
    let instance = folder.path().join("p/instances/a");
    for entry in std::fs::read_dir(&instance).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(mode, 0o600, "{}", path.display());
        assert!(!text.contains("hunter2"), "{}: {text}", path.display());
    }
    assert!(!lines[2].contains("hunter2"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_refused_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let driver = driver(&folder);
    let missing = launch("a", 1, serde_json::json!({"id": "a", "command": ["no-such-program"]}));
    let error = driver.start(missing).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot start p:a: there is no program no-such-program in PATH; check `command`, or write its path"
    );
    // One that is there and is no program is found out later.
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let odd = launch("a", 1, serde_json::json!({"id": "a", "command": [script]}));
    driver.start(odd).await.unwrap();
    let ended = next(&driver).await;
    assert!(ended.why.contains("cannot be run") && !ended.success, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_drain_and_then_kills_everything() {
    let folder = TempDir::new().unwrap();
    let driver = driver(&folder);
    driver
        .start(shell(
            "soft",
            "trap 'echo drained; exit 0' TERM; echo up 1; while :; do sleep 0.01; done",
        ))
        .await
        .unwrap();
    printed(&folder, "soft", "up");
    let id = |name: &str| LaunchId { place: format!("p:{name}"), attempt: 1 };
    driver.stop(&id("soft"), TIME).await.unwrap();
    assert!(next(&driver).await.success);
    assert_eq!(log(&driver, "p:soft").await, ["up 1", "drained"]);
    // It hears nothing, and has a child in a group of its own.
    let script = "trap '' TERM; setsid sleep 1000 & echo child $!; wait";
    driver.start(shell("hard", script)).await.unwrap();
    let child = printed(&folder, "hard", "child");
    assert!(is_there(child));
    driver.stop(&id("hard"), Duration::from_millis(100)).await.unwrap();
    assert!(!is_there(child), "when the stop has answered, nothing runs");
    let ended = next(&driver).await;
    assert_eq!(ended.why, "killed: it did not end in time");
    driver.stop(&id("hard"), TIME).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_keeper_takes_its_instance_and_all_of_its_group_along() {
    let folder = TempDir::new().unwrap();
    let driver = driver(&folder);
    driver.start(shell("a", "sleep 1000 & echo child $!; wait")).await.unwrap();
    let child = printed(&folder, "a", "child");
    let record = folder.path().join("p/instances/a/launch.json");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let pid = i32::try_from(record["keeper"]["pid"].as_i64().unwrap()).unwrap();
    let keeper = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    let ended = next(&driver).await;
    assert!(ended.why.contains("its keeper was killed") && !ended.success, "{ended:?}");
    wait_gone(child);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_outlive_their_driver_are_found_again_and_their_ends_are_told() {
    let folder = TempDir::new().unwrap();
    let outlive = || {
        let options = ProcessOptions { outlive: true, ..options(&folder) };
        ProcessDriver::new(options, SystemClock::shared())
    };
    let first = outlive();
    first.start(shell("short", "echo up $$; read line < /dev/null; exit 0")).await.unwrap();
    first.start(shell("long", "echo up $$; sleep 1000")).await.unwrap();
    let pid = printed(&folder, "long", "up");
    let ended = folder.path().join("p/instances/short/ended.json");
    wait_until(TIME, "the end of the short one", || ended.exists()).unwrap();
    drop(first);
    let second = outlive();
    let long = LaunchId { place: "p:long".to_owned(), attempt: 1 };
    assert_eq!(second.running("p").await.unwrap(), std::slice::from_ref(&long));
    let short = next(&second).await;
    assert_eq!((&*short.id.place, short.success), ("p:short", true));
    assert!(is_there(pid));
    assert_eq!(second.running("p").await.unwrap(), std::slice::from_ref(&long), "asked twice");
    second.stop(&long, TIME).await.unwrap();
    assert!(!is_there(pid));
    assert_eq!(next(&second).await.why, "killed by signal 15 (TERM)");
    assert_eq!(second.running("p").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_number_is_another_process_now_is_not_taken_for_it() {
    let folder = TempDir::new().unwrap();
    let outlive = ProcessOptions { outlive: true, ..options(&folder) };
    let first = ProcessDriver::new(outlive.clone(), SystemClock::shared());
    first.start(shell("a", "echo up $$; sleep 1000")).await.unwrap();
    let path = folder.path().join("p/instances/a/launch.json");
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let id = LaunchId { place: "p:a".to_owned(), attempt: 1 };
    first.stop(&id, TIME).await.unwrap();
    // As if this test had the number that the instance and its keeper had.
    for process in ["keeper", "component"] {
        record[process]["pid"] = std::process::id().into();
    }
    std::fs::write(&path, record.to_string()).unwrap();
    let second = ProcessDriver::new(outlive, SystemClock::shared());
    assert_eq!(second.running("p").await.unwrap(), []);
    assert_eq!(next(&second).await.id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_limited_and_a_process_that_wants_more_fails() {
    let folder = TempDir::new().unwrap();
    let driver = driver(&folder);
    let script = "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c; exit 0";
    let definition = serde_json::json!({
        "id": "a", "command": ["sh", "-c", script], "resources": {"memory": "64MB"},
    });
    driver.start(launch("a", 1, definition)).await.unwrap();
    next(&driver).await;
    let lines = log(&driver, "p:a").await.join("\n");
    assert!(!lines.contains("150000000"), "it had the memory: {lines}");
}
