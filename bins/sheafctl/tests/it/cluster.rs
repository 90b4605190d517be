//! `--driver kubernetes`, against an API server of our own and a node that runs each pod as a
//! process of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sheaf_testkit::{Process, TempDir, wait_until};

use super::api::{ApiServer, NAMESPACE};
use super::containers::rows;
use super::rendered::component_program;
use super::{code, notes, sheafctl_in};

const TIME: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

fn text(name: &str, rows: u64) -> String {
    format!(
        "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {{name: {name}}}
sources:
  - {{id: make, kind: generate, config: {{rows: {rows}, rowsPerSecond: 4000, batchRows: 100,
     columns: [{{name: n, values: sequence}}]}}, restart: {{backoff: 50ms}}}}
processors:
  - {{id: pass, kind: project, inputs: [make], config: {{columns: [n]}}, restart: {{backoff: 50ms}}}}
sinks:
  - {{id: keep, kind: file, inputs: [pass], config: {{path: out, format: csv}},
     restart: {{backoff: 50ms}}}}
"
    )
}

/// A cluster of one node. Its threads end with it.
struct Cluster {
    folder: TempDir,
    server: Arc<ApiServer>,
    over: Arc<AtomicBool>,
    node: Option<std::thread::JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let server = Arc::new(runtime.block_on(ApiServer::start()));
        let folder = TempDir::new().unwrap();
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters: [{{name: here, cluster: {{server: \"{}\"}}}}]\n\
             users: [{{name: me, user: {{}}}}]\n\
             contexts: [{{name: here, context: {{cluster: here, user: me}}}}]\n",
            server.uri
        );
        std::fs::write(folder.path().join("kubeconfig"), config).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let node = Node {
            folder: folder.path().to_owned(),
            server: Arc::clone(&server),
            pods: BTreeMap::new(),
        };
        let told = Arc::clone(&over);
        let node = std::thread::spawn(move || node.run(&told));
        Cluster { folder, server, over, node: Some(node), _runtime: runtime }
    }

    fn run(&self, text: &str, more: &[&str]) -> Process {
        std::fs::write(self.folder.path().join("pipeline.yaml"), text).unwrap();
        let words = ["run", "pipeline.yaml", "--driver", "kubernetes", "--namespace", NAMESPACE];
        let own = ["--kubeconfig", "kubeconfig", "--control-addr", "127.0.0.1:0"];
        let host = ["--advertise-host", "127.0.0.1"];
        Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args([&words[..], &own, &host, more].concat())
            .current_dir(self.folder.path())
            .spawn()
            .unwrap()
    }

    fn left(&self) -> Vec<String> {
        let kinds = ["pods", "secrets", "services", "networkpolicies"];
        kinds.iter().flat_map(|kind| self.server.names(kind)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(node) = self.node.take() {
            drop(node.join());
        }
    }
}

/// Runs pods as the kubelet does.
struct Node {
    folder: PathBuf,
    server: Arc<ApiServer>,
    /// By name; `None` for one that has ended.
    pods: BTreeMap<String, Option<Process>>,
}

impl Node {
    fn run(mut self, over: &AtomicBool) {
        while !over.load(Ordering::Acquire) {
            let there = self.server.names("pods");
            for name in &there {
                if !self.pods.contains_key(name) {
                    let process = self.begin(name);
                    self.server.status(name, json!({ "phase": "Running" }));
                    self.pods.insert(name.clone(), Some(process));
                }
            }
            for (name, pod) in &mut self.pods {
                let Some(process) = pod else { continue };
                if !there.contains(name) {
                    // It was deleted: it is told to end, and then it is ended.
                    drop(process.terminate(Duration::from_secs(20)));
                    *pod = None;
                } else if let Some(status) = process.try_exit().unwrap() {
                    let code = status.code().unwrap_or(137);
                    let state = json!({ "terminated": { "exitCode": code, "reason": "Error" } });
                    let container = json!({ "name": "component", "image": "", "imageID": "",
                        "ready": false, "restartCount": 0, "state": state });
                    let phase = if code == 0 { "Succeeded" } else { "Failed" };
                    let status = json!({ "phase": phase, "containerStatuses": [container] });
                    self.server.status(name, status);
                    *pod = None;
                }
            }
            // sleep: between two looks at what there is to do.
            std::thread::sleep(LOOK);
        }
    }

    /// What the pod is told is changed to what is true of a process of this machine.
    fn begin(&self, name: &str) -> Process {
        let pod = self.server.object("pods", name).unwrap();
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["command"], json!(["sheaf-component", "run"]));
        let secret = self.server.object("secrets", name).unwrap();
        let mounted = self.folder.join("mounted").join(name);
        std::fs::create_dir_all(&mounted).unwrap();
        for (key, text) in secret["stringData"].as_object().unwrap() {
            write(&mounted.join(key), text.as_str().unwrap());
        }
        let mut told: Value =
            serde_json::from_str(secret["stringData"]["0.json"].as_str().unwrap()).unwrap();
        told["listen"] = "127.0.0.1:0".into();
        told["healthListen"] = "127.0.0.1:0".into();
        told["advertiseHost"] = "127.0.0.1".into();
        let state = self.folder.join("volumes").join(told["instance"].as_str().unwrap());
        told["stateDir"] = state.display().to_string().into();
        if let Some(tls) = told["tls"].as_object_mut() {
            for path in tls.values_mut() {
                let file = Path::new(path.as_str().unwrap()).file_name().unwrap().to_owned();
                *path = mounted.join(file).display().to_string().into();
            }
            let probe = &container["livenessProbe"]["httpGet"];
            assert_eq!(probe["scheme"], "HTTPS", "{probe}");
        }
        let assignment = mounted.join("here.json");
        write(&assignment, &told.to_string());
        Process::command(component_program())
            .args(["run", "--assignment"])
            .arg(assignment)
            .current_dir(&self.folder)
            .spawn()
            .unwrap()
    }
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn wait_running(process: &mut Process) {
    let is_up = |line: &str| line.ends_with("  running").then_some(());
    process.wait_for_stderr_line(TIME, is_up).unwrap();
}

#[test]
fn a_pipeline_runs_as_pods_to_its_end_and_nothing_is_left() {
    for tls in [&[][..], &["--tls"]] {
        let cluster = Cluster::start();
        let mut process = cluster.run(&text("pods", 20_000), tls);
        let status = process.wait_exit(TIME).unwrap();
        assert!(status.success(), "{}", process.stderr());
        assert_eq!(rows(cluster.folder.path(), "out", "csv").len(), 20_000);
        assert_eq!(cluster.left(), Vec::<String>::new());
    }
}

#[test]
fn a_killed_run_leaves_no_pod() {
    let cluster = Cluster::start();
    let mut process = cluster.run(&text("killed", 100_000_000), &[]);
    wait_running(&mut process);
    assert_eq!(cluster.server.names("pods").len(), 3);
    process.kill9().unwrap();
    wait_until(TIME, "the end of everything", || cluster.left().is_empty()).unwrap();
}

#[test]
fn a_cluster_that_is_not_there_or_cannot_call_back_is_told_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("p.yaml"), text("p", 1)).unwrap();
    let run = |words: &[&str]| {
        let own = ["run", "p.yaml", "--driver", "kubernetes", "--control-addr", "127.0.0.1:0"];
        sheafctl_in(folder.path(), &[&own[..], words].concat())
    };
    let output = run(&[]);
    assert_eq!(code(&output), 2);
    assert!(notes(&output).contains("--advertise-host"), "{}", notes(&output));
    let output = run(&["--advertise-host", "h", "--kubeconfig", "no-such"]);
    assert_eq!(code(&output), 7, "{}", notes(&output));
    assert!(notes(&output).contains("cannot find a cluster"), "{}", notes(&output));
    let cluster = Cluster::start();
    cluster.server.refuse(403);
    let kubeconfig = cluster.folder.path().join("kubeconfig").display().to_string();
    let output = run(&["--advertise-host", "h", "--kubeconfig", &kubeconfig]);
    assert_eq!(code(&output), 7, "{}", notes(&output));
    assert!(notes(&output).contains("does not allow it"), "{}", notes(&output));
}
