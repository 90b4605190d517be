//! Killed at random moments: what was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::{RngExt as _, SeedableRng as _};
use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::{Kind, PipelineState, Status};

use crate::harness::{beat, clock, directory, file, plan, registration, worker};

const CHILD: &str = "SHEAF_TEST_CONTROL_CHILD";

fn open(home: &Path) -> ControlPlane {
    ControlPlane::open(Options { state: file(home), ..Options::default() }, clock()).unwrap()
}

/// One line for each acknowledged effect, written after it was acknowledged.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {text}").unwrap();
    out.flush().unwrap();
}

/// Runs in the child: registers, beats, plans and leaves until it is killed.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent names the directory so")]
fn child() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let plane = open(Path::new(&home));
        let run = std::process::id();
        let callers =
            (0..4).map(|caller| tokio::spawn(work(plane.clone(), format!("{run}-{caller}"))));
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    });
}

async fn work(plane: ControlPlane, caller: String) {
    for n in 0.. {
        let asked = worker(&format!("w{caller}-{n}"));
        let fence = plane.register(asked.clone()).await.unwrap().fence;
        say(&format!("registered {} {fence}", asked.id));
        plane.beat(beat(&asked, 1)).await.unwrap();
        let id = format!("p{caller}-{n}");
        plane.plan(plan(&id)).await.unwrap();
        say(&format!("planned {id}"));
        let source = registration(&format!("{id}:read"), Kind::Source);
        let fence = plane.register(source.clone()).await.unwrap().fence;
        say(&format!("registered {} {fence}", source.id));
        plane.begin_run(id.clone()).await.unwrap();
        let reason = "it was enough".to_owned();
        plane.set_pipeline_state(id.clone(), PipelineState::Stopped, reason).await.unwrap();
        say(&format!("stopped {id}"));
        plane.deregister(source.id.clone(), source.incarnation, String::new(), None).await.unwrap();
        say(&format!("left {}", source.id));
        // The registry stays within its limits however long this goes on.
        if n % 3 != 0 {
            say(&format!("removing {id}"));
            plane.remove_pipeline(id).await.unwrap();
            plane
                .deregister(asked.id.clone(), asked.incarnation, String::new(), None)
                .await
                .unwrap();
        }
    }
}

fn run_and_kill(home: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    for _ in 0..lines {
        assert!(out.read_line(&mut said).unwrap() > 0, "the child ended by itself: {said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died counts too; the last line may be torn.
    out.read_to_string(&mut said).unwrap();
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let acks = whole.lines().filter_map(|line| Some(line.split_once("ack ")?.1.to_owned()));
    acks.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    const SEED: u64 = 9;
    let home = directory();
    let mut random = rand::rngs::StdRng::seed_from_u64(SEED);
    let (mut fences, mut removing) = (BTreeMap::new(), BTreeSet::new());
    let mut said: Vec<String> = Vec::new();
    for round in 0..8 {
        let new = run_and_kill(home.path(), random.random_range(10..250));
        assert!(new.len() > 3, "round {round} got to work");
        let plane = open(home.path());
        assert!(plane.damaged().is_empty(), "{:?}", plane.damaged());
        for line in &new {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["registered", id, fence] = words[..] {
                let before = fences.insert(fence.parse::<u64>().unwrap(), id.to_owned());
                assert_eq!(before, None, "seed {SEED}: fence {fence} was given twice");
            }
            if let ["removing", id] = words[..] {
                removing.insert(id.to_owned());
            }
        }
        said.extend(new);
        for line in &said {
            check(&plane, line, &removing).await;
        }
        let probe = plane.register(worker(&format!("probe-{round}"))).await.unwrap();
        let greatest = fences.keys().next_back().copied().unwrap_or(0);
        assert!(probe.fence > greatest, "seed {SEED}: fences ascend over {greatest}");
        fences.insert(probe.fence, format!("probe-{round}"));
        plane.close().await.unwrap();
    }
}

/// Whether one acknowledged effect is there. What may have been removed after
/// it proves nothing.
async fn check(plane: &ControlPlane, line: &str, removing: &BTreeSet<String>) {
    let words: Vec<&str> = line.split(' ').collect();
    let id = words[1].to_owned();
    // Worker and pipeline of one round have the same number, and go together.
    let base = id[1..].split(':').next().unwrap();
    if removing.contains(&format!("p{base}")) {
        return;
    }
    match words[..] {
        ["registered", _, fence] => {
            let found = plane.component(id).await.unwrap_or_else(|_| panic!("{line} is lost"));
            assert_eq!(found.fence.to_string(), fence, "{line}");
        }
        ["planned", _] => {
            let found = plane.pipeline(id).await.unwrap_or_else(|_| panic!("{line} is lost"));
            assert_eq!(found.plan.places.len(), 3);
        }
        ["stopped", _] => {
            let found = plane.pipeline(id).await.unwrap();
            assert_eq!(found.state, PipelineState::Stopped, "{line}");
            assert_eq!((&*found.runs[0].reason, found.last_run), ("it was enough", 1));
        }
        ["left", _] => {
            let found = plane.component(id).await.unwrap();
            assert_eq!(found.status, Status::Stopped, "{line}");
        }
        _ => panic!("{line} is no line of the child"),
    }
}
