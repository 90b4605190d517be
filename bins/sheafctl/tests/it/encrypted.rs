//! Everything under TLS, with real processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sheaf_dataflow::TlsAssignment;
use sheaf_drivers::Authority;
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig, Target};
use sheaf_pipeline::control::{ClientOptions, ControlClient};
use sheaf_pipeline::registry::Filter;
use sheaf_retry::{Code, RetryPolicy, Retryable as _, SystemClock};
use sheaf_testkit::{Process, TempDir, wait_for, wait_until};

use super::containers::rows;
use super::rendered::component_program;
use super::{code, data, example, notes, sheafctl_in};

const TIME: Duration = Duration::from_secs(60);

/// A pipeline that goes on until it is stopped.
const SLOW: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: slow}
sources:
  - {id: make, kind: generate, config: {rows: 100_000_000, rowsPerSecond: 2000, batchRows: 100,
     columns: [{name: n, values: sequence}]}}
sinks:
  - {id: keep, kind: file, inputs: [make], config: {path: out, format: csv}}
";

/// A folder, and a run in it.
struct World {
    folder: TempDir,
    process: Process,
    /// Where its control plane serves, and with which certificates.
    address: String,
    tls: PathBuf,
}

impl World {
    fn start(words: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("slow.yaml"), SLOW).unwrap();
        let program = component_program().display().to_string();
        let own = ["--control-addr", "127.0.0.1:0", "--component-program", &program];
        let mut process = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args([words, &own].concat())
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let ready = process.wait_ready(TIME).unwrap();
        assert!(ready.url("control").unwrap().starts_with("grpc+tls://"));
        let address = ready.addr("control").unwrap().to_string();
        let tls = PathBuf::from(ready.url("tls").unwrap());
        World { folder, process, address, tls }
    }

    fn ask(&self, words: &[&str]) -> std::process::Output {
        let tls = self.tls.display().to_string();
        let own = ["--server", &self.address, "--tls-dir", &tls];
        sheafctl_in(self.folder.path(), &[words, &own].concat())
    }

    fn status(&self) -> Value {
        let output = self.ask(&["status", "slow", "--json"]);
        let text = data(&output);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", notes(&output)))
    }

    fn wait_running(&self) {
        let is_up = || {
            let answer = self.status();
            let all = answer["pipelines"][0]["components"].as_array().cloned().unwrap_or_default();
            all.len() == 2 && all.iter().all(|one| one["status"] == "healthy")
        };
        wait_until(TIME, "the components to be healthy", is_up).unwrap();
    }

    /// What a component was told.
    fn assignment(&self, instance: &str) -> Value {
        let path = format!(".sheaf/pipelines/slow/instances/{instance}/assignment.json");
        let path = self.folder.path().join(path);
        let read = || serde_json::from_slice(&std::fs::read(&path).ok()?).ok();
        wait_for(TIME, "an assignment", read).unwrap()
    }

    /// Starts a component by hand, and answers why it ended.
    fn refused(&self, told: &Value) -> String {
        let path = self.folder.path().join("by-hand.json");
        std::fs::write(&path, told.to_string()).unwrap();
        let output = Command::new(component_program())
            .args(["run", "--assignment"])
            .arg(&path)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{}", notes(&output));
        notes(&output)
    }

    fn client(&self, config: ClientConfig, scheme: &str) -> ControlClient {
        let pool = ChannelPool::new(config, SystemClock::shared());
        let target: Target = format!("{scheme}://{}", self.address).parse().unwrap();
        let retry = RetryPolicy { max_retries: 0, ..ClientOptions::default().retry };
        let options = ClientOptions { retry, ..ClientOptions::default() };
        ControlClient::new(pool, target, options, SystemClock::shared())
    }
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

#[test]
fn all_four_shapes_run_encrypted() {
    for (name, path, format, count) in [
        ("linear.yaml", "out/linear", "parquet", None),
        ("fan-out.yaml", "out/fan-out/csv", "csv", Some(50_000)),
        // Each way has files of its own.
        ("diamond.yaml", "out/diamond/*suspicious*", "ipc", None),
        ("diamond.yaml", "out/diamond/*plain*", "ipc", None),
    ] {
        let run = |more: &[&str]| {
            let (folder, file) = (TempDir::new().unwrap(), example(name));
            let own = ["run", &file, "--control-addr", "127.0.0.1:0"];
            let output = sheafctl_in(folder.path(), &[&own[..], more].concat());
            assert_eq!(code(&output), 0, "{name}: {}", notes(&output));
            rows(folder.path(), path, format)
        };
        let encrypted = run(&["--tls"]);
        match count {
            Some(count) => assert_eq!(encrypted.len(), count),
            None => assert!(encrypted == run(&[]), "{name}: other rows than without"),
        }
    }
    let folder = TempDir::new().unwrap();
    let own = ["run", &example("fan-in.yaml"), "--control-addr", "127.0.0.1:0", "--tls"];
    let output = sheafctl_in(folder.path(), &own);
    assert!(
        data(&output).contains("30000") && data(&output).contains("20000"),
        "{}",
        notes(&output)
    );
}

#[test]
fn commands_of_the_owner_are_answered_and_nobody_else_is() {
    let world = World::start(&["run", "slow.yaml", "--tls"]);
    world.wait_running();
    let output = world.ask(&["top", "--once", "--json"]);
    let seen: Value = serde_json::from_str(&data(&output)).expect("it answers");
    // On a busy machine the reader may be the slower one just then.
    let state = seen["edges"][0]["state"].as_str();
    assert!(matches!(state, Some("flows" | "waits")), "{seen} {}", notes(&output));
    let output = world.ask(&["tap", "make:keep", "-n", "1", "--format", "json"]);
    assert!(data(&output).contains("\"n\":"), "{}", notes(&output));

    // Without TLS, without a certificate, and with one of another authority.
    let other = TempDir::new().unwrap();
    let stranger = Authority::open(&other.path().join("tls")).unwrap().operator().unwrap();
    let here = |name: &str| world.tls.join(name);
    let of_both = TlsAssignment { ca: here("ca.pem"), ..stranger.clone() };
    let mut without = of_both.client();
    without.security.identity = None;
    for (config, scheme) in [
        (ClientConfig::default(), "grpc"),
        (without, "grpc+tls"),
        (of_both.client(), "grpc+tls"),
        (stranger.client(), "grpc+tls"),
    ] {
        let asked =
            blocking(async { world.client(config, scheme).components(&Filter::default()).await });
        let error = asked.unwrap_err();
        let refused = [Code::Unauthenticated, Code::Unavailable, Code::PermissionDenied];
        assert!(refused.contains(&error.code()), "{error:?}");
    }
    let output = sheafctl_in(world.folder.path(), &["ps", "--server", &world.address]);
    assert_ne!(code(&output), 0, "{}", data(&output));
}

#[test]
fn streams_are_given_to_their_readers_only() {
    let world = World::start(&["run", "slow.yaml", "--tls"]);
    world.wait_running();
    let told = world.assignment("keep");
    let token = told["dataToken"].as_str().unwrap().to_owned();
    let operator = TlsAssignment {
        ca: world.tls.join("ca.pem"),
        certificate: world.tls.join("operator.pem"),
        key: world.tls.join("operator.key"),
    };
    let own: TlsAssignment = serde_json::from_value(told["tls"].clone()).unwrap();
    let components = blocking(async {
        world.client(operator.client(), "grpc+tls").components(&Filter::default()).await.unwrap()
    });
    let make = components.iter().find(|one| one.id == "slow:make").unwrap();
    let get = |tls: &TlsAssignment, ticket: &'static str| {
        let (config, address, token) = (tls.client(), make.address.clone(), token.clone());
        blocking(async move {
            let pool = ChannelPool::new(config, SystemClock::shared());
            let options = CallOptions::default().header("sheaf-data-token", &token);
            pool.connection(&address)?.get(ticket, &options).await.map(drop)
        })
    };
    assert!(get(&operator, "taps/make:keep").is_ok(), "who runs it may look");
    let error = get(&own, "taps/make:keep").unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    assert!(error.message().contains("sheaf://operator"), "{error}");
    assert!(make.health_endpoint.starts_with("https://"), "{}", make.health_endpoint);
}

#[test]
fn a_component_with_a_certificate_of_another_place_or_run_is_refused() {
    let world = World::start(&["run", "slow.yaml", "--tls"]);
    world.wait_running();
    let told = world.assignment("keep");
    let by_hand = |tls: &TlsAssignment| {
        let mut told = told.clone();
        told["listen"] = "127.0.0.1:0".into();
        told["healthListen"] = "127.0.0.1:0".into();
        told["stateDir"] = world.folder.path().join("by-hand").display().to_string().into();
        told["tls"] = serde_json::to_value(tls).unwrap();
        told
    };
    let of_place: TlsAssignment =
        serde_json::from_value(world.assignment("make")["tls"].clone()).unwrap();
    let said = world.refused(&by_hand(&of_place));
    assert!(said.contains("for another place, or for another run"), "{said}");
    // The same authority, another run: its folder is copied, since runs before are removed.
    let copy = world.folder.path().join("copy");
    let folder = Path::new(&world.tls);
    for name in ["ca.pem", "ca.key"] {
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::copy(folder.join(name), copy.join(name)).unwrap();
    }
    let of_run = Authority::open(&copy).unwrap().component("slow:keep", 2).unwrap();
    let said = world.refused(&by_hand(&of_run));
    assert!(said.contains("for another place, or for another run"), "{said}");
    // Another authority, as every other run has one.
    let other = TempDir::new().unwrap();
    let stranger = Authority::open(&other.path().join("tls")).unwrap();
    let stranger = stranger.component("slow:keep", 1).unwrap();
    let ca = of_place.ca.clone();
    let said = world.refused(&by_hand(&TlsAssignment { ca, ..stranger }));
    assert!(said.contains("certificate"), "{said}");
    // None at all.
    let mut without = by_hand(&of_place);
    without.as_object_mut().unwrap().remove("tls");
    let said = world.refused(&without);
    assert!(said.contains("TLS for itself and not for the control plane"), "{said}");
}

#[test]
fn nothing_secret_is_in_logs_or_command_lines() {
    let mut world = World::start(&["run", "slow.yaml", "--tls", "--log-level", "debug"]);
    world.wait_running();
    let mut secrets = Vec::new();
    for name in ["make", "keep"] {
        let told = world.assignment(name);
        secrets.extend(["token", "dataToken"].map(|name| told[name].as_str().unwrap().to_owned()));
        let key = std::fs::read_to_string(told["tls"]["key"].as_str().unwrap()).unwrap();
        secrets.push(key.lines().nth(1).unwrap().to_owned());
    }
    let key = std::fs::read_to_string(world.tls.join("ca.key")).unwrap();
    secrets.push(key.lines().nth(1).unwrap().to_owned());
    let mut shown = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        shown += &String::from_utf8_lossy(&read("cmdline"));
    }
    for name in ["make", "keep"] {
        let log = format!(".sheaf/pipelines/slow/instances/{name}/log");
        shown += &std::fs::read_to_string(world.folder.path().join(log)).unwrap();
    }
    world.process.terminate(TIME).unwrap();
    shown += &(world.process.stdout() + &world.process.stderr());
    assert!(shown.contains("registered"), "the logs were looked at");
    for secret in secrets {
        assert!(secret.len() > 20 && !shown.contains(&secret), "a secret is shown");
    }
}

#[test]
fn a_server_keeps_its_authority_and_components_outlive_it() {
    let mut world = World::start(&["server", "--pipeline", "slow.yaml", "--tls"]);
    world.wait_running();
    assert!(world.tls.ends_with(".sheaf/tls"), "{}", world.tls.display());
    let ca = std::fs::read(world.tls.join("ca.pem")).unwrap();
    world.process.kill9().unwrap();
    let program = component_program().display().to_string();
    let words = ["server", "--pipeline", "slow.yaml", "--tls", "--component-program", &program];
    let mut again = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
        .args(words)
        .args(["--control-addr", &world.address])
        .current_dir(world.folder.path())
        .spawn()
        .unwrap();
    again.wait_ready(TIME).unwrap();
    world.wait_running();
    assert_eq!(std::fs::read(world.tls.join("ca.pem")).unwrap(), ca);
    let shown = world.status();
    assert_eq!(shown["pipelines"][0]["run"], 1, "{shown}");
    let output = world.ask(&["stop", "slow"]);
    assert_eq!(code(&output), 0, "{}", notes(&output));
    again.terminate(TIME).unwrap();
}
