//! Processes: output, signals, ends.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use sheaf_testkit::{Error, Process, TempDir, wait_until};

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Process {
    Process::command("sh").args(["-c", script]).spawn().unwrap()
}

/// The state letter that the kernel shows of a process, if there is one.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn output_is_captured_in_memory_and_in_files() {
    let folder = TempDir::new().unwrap();
    let mut process = Process::command("sh")
        .args(["-c", "echo \"$GREETING\"; pwd; echo bad >&2; exit 3"])
        .env("GREETING", "hello")
        .current_dir(folder.path())
        .name("greeter")
        .logs_in(folder.path())
        .spawn()
        .unwrap();
    assert_eq!(process.wait_exit(LONG).unwrap().code(), Some(3));
    let pwd = folder.path().canonicalize().unwrap();
    assert_eq!(process.stdout(), format!("hello\n{}\n", pwd.display()));
    assert_eq!(process.stderr(), "bad\n");
    assert_eq!(process.stderr_path(), folder.path().join("greeter.stderr"));
    assert_eq!(std::fs::read_to_string(process.stderr_path()).unwrap(), "bad\n");
    assert_eq!(std::fs::read_to_string(process.stdout_path()).unwrap(), process.stdout());
}

#[test]
fn the_ready_line_is_found_among_others() {
    let mut process = sh("echo starting; echo ready flight=grpc://127.0.0.1:7; exec sleep 600");
    let ready = process.wait_ready(LONG).unwrap();
    assert_eq!(ready.addr("flight").unwrap().port(), 7);
    let again = process.wait_for_line(LONG, |line| line.strip_prefix("start").map(str::to_owned));
    assert_eq!(again.unwrap(), "ing", "lines printed before the call count");
}

#[test]
fn a_process_that_ends_first_says_so_with_its_output() {
    let mut process = sh("echo no such flag >&2; exit 2");
    let error = process.wait_ready(LONG).unwrap_err();
    assert!(matches!(&error, Error::Ended { status, .. } if status.code() == Some(2)));
    let shown = error.to_string();
    assert!(shown.starts_with("sh ended with exit status: 2 before its ready line"), "{shown}");
    assert!(shown.ends_with("no such flag\n"), "{shown}");
}

#[test]
fn a_line_that_never_comes_times_out() {
    let mut process = sh("echo something else >&2; exec sleep 600");
    process.wait_for_stderr_line(LONG, |line| (line == "something else").then_some(())).unwrap();
    let error = process.wait_ready(Duration::from_millis(30)).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { .. }));
    assert!(error.to_string().contains("something else"), "{error}");
}

#[test]
fn kill9_is_a_crash_and_harmless_twice() {
    let mut process = sh("trap 'echo never' TERM EXIT; echo up; while :; do sleep 0.01; done");
    process.wait_for_line(LONG, |line| (line == "up").then_some(())).unwrap();
    assert_eq!(process.kill9().unwrap().signal(), Some(9));
    assert_eq!(process.kill9().unwrap().signal(), Some(9));
    assert_eq!(process.stdout(), "up\n");
}

#[test]
fn terminate_lets_a_process_say_goodbye() {
    let mut process = sh("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done");
    process.wait_for_line(LONG, |line| (line == "up").then_some(())).unwrap();
    assert_eq!(process.terminate(LONG).unwrap().code(), Some(7));
    assert_eq!(process.stdout(), "up\nbye\n");
}

#[test]
fn terminate_gives_up_on_a_process_that_will_not_end() {
    let mut process = sh("trap '' TERM; echo up; while :; do sleep 0.01; done");
    process.wait_for_line(LONG, |line| (line == "up").then_some(())).unwrap();
    let error = process.terminate(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }));
    assert_eq!(process.try_exit().unwrap(), None);
}

#[test]
fn a_paused_process_stands_still_until_it_is_resumed() {
    let mut process = sh("exec sleep 600");
    process.pause().unwrap();
    let pid = process.pid();
    wait_until(LONG, "the process to stop", || state(pid) == Some('T')).unwrap();
    process.resume().unwrap();
    wait_until(LONG, "the process to go on", || state(pid) == Some('S')).unwrap();
}

#[test]
fn dropping_kills_even_a_paused_process() {
    let mut process = sh("exec sleep 600");
    let pid = process.pid();
    process.pause().unwrap();
    drop(process);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let error = Process::command("/nowhere/at-all").spawn().unwrap_err();
    assert!(matches!(&error, Error::Io { .. }));
    assert!(error.to_string().contains("/nowhere/at-all"), "{error}");
}
