//! What `sheafctl render` prints, done by hand on this machine as a cluster would do it: the
//! control plane with its command line, components with their assignments.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sheaf_testkit::{Process, TempDir, wait_until};

use super::containers::rows;
use super::pipelines::TIME;
use super::{code, data, notes, sheafctl, sheafctl_in};

const TEXT: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: rendered}
sources:
  - {id: make, kind: generate, config: {rows: 6000, rowsPerSecond: 3000, batchRows: 100,
     columns: [{name: n, values: sequence}]}, health: {interval: 200ms, timeout: 2s}}
processors:
  - {id: pass, kind: project, replicas: 2, config: {columns: [n]},
     inputs: [{from: make, partitioning: round-robin}], health: {interval: 200ms, timeout: 2s}}
sinks:
  - {id: keep, kind: file, inputs: [pass], config: {path: out, format: csv},
     health: {interval: 200ms, timeout: 2s}}
";

/// Built by `cargo test` of the workspace, beside `sheafctl`.
pub(crate) fn component_program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_sheafctl")).with_file_name("sheaf-component");
    assert!(path.is_file(), "{} is missing: cargo build -p sheaf-component", path.display());
    path
}

/// The rendered objects, and a folder that stands for the volumes.
struct Cluster {
    folder: TempDir,
    objects: Vec<Value>,
}

impl Cluster {
    fn new() -> Self {
        Cluster::of(TEXT, &[])
    }

    fn of(text: &str, more: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("rendered.yaml").display().to_string();
        std::fs::write(&file, text).unwrap();
        let output = sheafctl(&[&["render", &*file], more].concat());
        assert_eq!(code(&output), 0, "{}", notes(&output));
        let documents = data(&output);
        let documents = documents.split("\n---\n");
        let objects = documents.map(|one| serde_saphyr::from_str(one).unwrap()).collect();
        let cluster = Cluster { folder, objects };
        let tokens = cluster.find("Secret", "rendered-tokens")["stringData"]["tokens.json"].clone();
        cluster.write("tokens/tokens.json", tokens.as_str().unwrap());
        let kept = cluster.find("ConfigMap", "rendered-file")["data"]["pipeline.yaml"].clone();
        assert_eq!(kept, text);
        cluster.write("file/pipeline.yaml", text);
        cluster
    }

    fn find(&self, kind: &str, name: &str) -> &Value {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        path
    }

    /// The command line of the control plane, with the paths of this machine.
    fn command_line(&self, address: &str) -> Vec<String> {
        let pod = &self.find("Deployment", "rendered-control")["spec"]["template"]["spec"];
        let words = pod["containers"][0]["args"].as_array().unwrap();
        let folder = self.folder.path().display();
        let words = words.iter().map(|word| {
            let word = word.as_str().unwrap();
            word.replace("0.0.0.0:8080", address)
                .replace("/etc/sheaf/pipeline/", &format!("{folder}/file/"))
                .replace("/run/sheaf/tokens/", &format!("{folder}/tokens/"))
                .replace("/var/lib/sheaf", &format!("{folder}/data"))
        });
        words.collect()
    }

    fn control(&self, address: &str) -> (Process, String) {
        let mut process = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args(self.command_line(address))
            .current_dir(self.folder.path())
            .spawn()
            .unwrap();
        let ready = process.wait_ready(TIME).unwrap();
        (process, ready.addr("control").unwrap().to_string())
    }

    /// The assignment of an instance, as it is true on this machine.
    fn assignment(&self, secret: &str, index: usize, control: &str) -> Value {
        let secret = self.find("Secret", secret);
        let text = secret["stringData"][format!("{index}.json")].as_str().unwrap();
        let mut told: Value = serde_json::from_str(text).unwrap();
        assert_eq!(told["control"], "grpc://rendered-control.default.svc:8080");
        told["control"] = format!("grpc://{control}").into();
        told["listen"] = "127.0.0.1:0".into();
        told["healthListen"] = "127.0.0.1:0".into();
        told["advertiseHost"] = "127.0.0.1".into();
        let state = self.folder.path().join("state").join(told["instance"].as_str().unwrap());
        told["stateDir"] = state.display().to_string().into();
        told
    }

    fn component(&self, told: &Value) -> Process {
        let name = format!("assignments/{}.json", told["instance"].as_str().unwrap());
        let path = self.write(&name, &told.to_string());
        let process = Process::command(component_program())
            .args(["run", "--assignment"])
            .arg(path)
            .current_dir(self.folder.path());
        process.spawn().unwrap()
    }

    fn pipeline(&self, control: &str) -> Value {
        let arguments = ["ps", "--all", "--json", "--server", control, "--data-dir", "data"];
        let output = sheafctl_in(self.folder.path(), &arguments);
        let answer: Value = serde_json::from_str(&data(&output)).expect("it answers");
        answer["pipelines"][0].clone()
    }
}

#[test]
fn components_with_rendered_assignments_run_against_the_rendered_control_plane() {
    let cluster = Cluster::new();
    let (mut first, address) = cluster.control("127.0.0.1:0");
    assert_eq!(cluster.pipeline(&address)["state"], "starting");
    let places = [
        ("rendered--keep", 0),
        ("rendered--pass", 0),
        ("rendered--pass", 1),
        ("rendered--make", 0),
    ];
    let told = places.map(|(secret, index)| cluster.assignment(secret, index, &address));
    let mut components: Vec<Process> = told.iter().map(|told| cluster.component(told)).collect();
    wait_until(TIME, "all to be there", || cluster.pipeline(&address)["state"] == "running")
        .unwrap();
    // The control plane is started anew, as a deployment does: the run goes on.
    first.kill9().unwrap();
    let (_second, address) = cluster.control(&address);
    for component in &mut components {
        let status = component.wait_exit(TIME).unwrap();
        assert!(status.success(), "{}", component.stderr());
    }
    wait_until(TIME, "the end", || cluster.pipeline(&address)["state"] == "stopped").unwrap();
    assert_eq!(cluster.pipeline(&address)["run"], 1);
    let rows = rows(cluster.folder.path(), "out", "csv");
    let number = |row: &String| serde_json::from_str::<Value>(row).unwrap()["n"].as_u64().unwrap();
    let mut numbers: Vec<u64> = rows.iter().map(number).collect();
    numbers.sort_unstable();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + 6000).collect::<Vec<u64>>(), "each once");
    // What is over has no way to be stopped or started here.
    let stop = ["stop", "rendered", "--server", &address, "--data-dir", "data"];
    let refused = notes(&sheafctl_in(cluster.folder.path(), &stop));
    assert!(refused.contains("are started by others"), "{refused}");
    let start = ["start", "file/pipeline.yaml", "--server", &address, "--data-dir", "data"];
    let refused = notes(&sheafctl_in(cluster.folder.path(), &start));
    assert!(refused.contains("this process runs one pipeline"), "{refused}");
}

/// A store and coordinator that ask for a token, and their address.
fn store(folder: &Path) -> Option<(Process, String, PathBuf)> {
    let program = Path::new(env!("CARGO_BIN_EXE_sheafctl")).with_file_name("sheaf");
    if !super::durable::are_built() {
        return None;
    }
    let token = folder.join("store-token");
    std::fs::write(&token, "a-token-of-the-store\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut process = Process::command(program)
        .args(["serve", "--mode", "all", "--workers", "0", "--coordinator", "embedded"])
        .args(["--flight-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
        .args(["--durability", "disk", "--data-dir", "store", "--token-file"])
        .arg(&token)
        .current_dir(folder)
        .spawn()
        .unwrap();
    let address = process.wait_ready(TIME).unwrap().addr("flight").unwrap().to_string();
    Some((process, address, token))
}

#[test]
fn durable_edges_are_rendered_with_their_store_and_run() {
    const STORE: &str = "grpc://store.shop.svc:50051";
    let folder = TempDir::new().unwrap();
    let Some((_store, at, token)) = store(folder.path()) else { return };
    let text =
        TEXT.replace("metadata: {name: rendered}", "metadata: {name: rendered}\ndurable: true");
    let given = ["--durable-store", STORE, "--durable-token-file", token.to_str().unwrap()];
    let file = super::written("rendered-open.yaml", &text);
    let refused = sheafctl(&[&["render", &*file][..], &given].concat());
    assert_eq!(code(&refused), 2);
    assert!(notes(&refused).contains("--durable-insecure"), "{}", notes(&refused));
    let cluster = Cluster::of(&text, &[&given[..], &["--durable-insecure"]].concat());
    let (_control, address) = cluster.control("127.0.0.1:0");
    let places = [
        ("rendered--keep", 0),
        ("rendered--pass", 0),
        ("rendered--pass", 1),
        ("rendered--make", 0),
    ];
    let mut components = places.map(|(secret, index)| {
        let mut told = cluster.assignment(secret, index, &address);
        assert_eq!(
            (&told["durable"]["store"], &told["durable"]["coordinator"]),
            (&STORE.into(), &STORE.into())
        );
        told["durable"]["store"] = format!("grpc://{at}").into();
        told["durable"]["coordinator"] = format!("grpc://{at}").into();
        cluster.component(&told)
    });
    for component in &mut components {
        let status = component.wait_exit(TIME).unwrap();
        assert!(status.success(), "{}", component.stderr());
    }
    wait_until(TIME, "the end", || cluster.pipeline(&address)["state"] == "stopped").unwrap();
    let rows = rows(cluster.folder.path(), "out", "csv");
    assert_eq!(rows.len(), 6000);
}

#[test]
fn a_component_with_a_token_of_another_place_is_refused() {
    let cluster = Cluster::new();
    let (_control, address) = cluster.control("127.0.0.1:0");
    let mut told = cluster.assignment("rendered--keep", 0, &address);
    told["token"] = cluster.assignment("rendered--make", 0, &address)["token"].clone();
    let mut component = cluster.component(&told);
    assert!(!component.wait_exit(TIME).unwrap().success());
    let said = component.stderr();
    assert!(said.contains("cannot be registered"), "{said}");
    let token = told["token"].as_str().unwrap();
    assert!(!said.contains(token), "{said}");
}

#[test]
fn tokens_without_a_pipeline_and_of_another_one_are_refused() {
    let cluster = Cluster::new();
    let mut words = cluster.command_line("127.0.0.1:0");
    words.retain(|word| !word.starts_with("--pipeline"));
    let run = |words: &[String]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        sheafctl_in(cluster.folder.path(), &words)
    };
    let output = run(&words);
    assert_eq!(code(&output), 2);
    assert!(notes(&output).contains("--pipeline"), "{}", notes(&output));
    let renamed = TEXT.replace("id: keep", "id: kept");
    cluster.write("other.yaml", &renamed);
    words.push("--pipeline=other.yaml".to_owned());
    let output = run(&words);
    assert_eq!(code(&output), 2, "{}", notes(&output));
    assert!(notes(&output).contains("there is no token for rendered:kept"), "{}", notes(&output));
}

#[test]
fn a_port_of_all_addresses_is_served_only_where_that_is_asked_for() {
    let cluster = Cluster::new();
    let mut words = cluster.command_line("0.0.0.0:0");
    words.retain(|word| word != "--insecure");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = sheafctl_in(cluster.folder.path(), &words);
    assert!(notes(&output).contains("--insecure to allow it"), "{}", notes(&output));
}
