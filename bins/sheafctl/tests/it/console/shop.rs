//! A shop: a pipeline of built-in components that runs, and a node with batches.

use std::path::{Path, PathBuf};

use sheaf_testkit::{Process, TempDir, program_beside, wait_until};

use super::TIME;
use super::batches::QUEUE;
use crate::{code, data, notes, sheafctl_in};

const FILE: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: shop}
sources:
  - id: web-orders
    kind: generate
    config:
      rowsPerSecond: 90_000
      batchRows: 1_500
      columns:
        - {name: id, values: sequence}
        - {name: amount, values: {integers: [1, 1000]}}
        - {name: country, values: {choice: [AT, DE, FR, IT]}}
  - id: store-orders
    kind: generate
    config:
      rowsPerSecond: 30_000
      batchRows: 1_000
      columns:
        - {name: id, values: sequence}
        - {name: amount, values: {integers: [1, 1000]}}
        - {name: country, values: {choice: [AT, DE, FR, IT]}}
processors:
  - {id: all-orders, kind: merge, inputs: [web-orders, store-orders]}
  - {id: large, kind: filter, inputs: [all-orders], config: {where: amount > 900}}
  - id: revenue
    kind: project
    replicas: 2
    inputs: [{from: all-orders, partitioning: {hash: [country]}}]
    config: {columns: [id, amount]}
  - id: fraud-check
    kind: exec
    inputs: [{from: large, policy: spill}]
    config: {command: [PROGRAM]}
sinks:
  - {id: alerts, kind: file, inputs: [fraud-check], config: {path: out/alerts, format: parquet}}
  - {id: warehouse, kind: file, inputs: [revenue], config: {path: out/warehouse, format: parquet}}
";

/// Gives on what it gets, but not as fast as it comes: the rest waits on disk.
const SLOW: &str = "perl, -e, 'while (sysread(STDIN, $b, 32768)) \
                    { syswrite(STDOUT, $b); select(undef, undef, undef, 0.25) }'";

/// See the module. Everything ends with it.
pub(super) struct Shop {
    pub(super) node_address: String,
    /// `http://HOST:PORT`.
    pub(super) console: String,
    control: String,
    run: std::cell::RefCell<Process>,
    _node: Process,
    folder: TempDir,
}

fn beside(name: &str, package: &str) -> Option<PathBuf> {
    program_beside(Path::new(env!("CARGO_BIN_EXE_sheafctl")), name, package)
}

impl Shop {
    /// `None`, after a `SKIP` line, where the programs were not built.
    pub(super) fn open() -> Option<Shop> {
        Shop::with("cat")
    }

    /// One with an edge whose reader is too slow.
    pub(super) fn busy() -> Option<Shop> {
        Shop::with(SLOW)
    }

    fn with(program: &str) -> Option<Shop> {
        let component = beside("sheaf-component", "sheaf-component")?;
        let sheaf = beside("sheaf", "sheaf-cli")?;
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("shop.yaml"), FILE.replace("PROGRAM", program)).unwrap();
        let mut node = Process::command(&sheaf)
            .args(["--mode=all", "--flight-addr", "127.0.0.1:0", "--data-dir", "node"])
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let ready = node.wait_ready(TIME).unwrap();
        let node_address = ready.url("coordinator").unwrap().to_owned();
        // Three batches of one row, for a stage whose workers are those of the test.
        std::fs::write(folder.path().join("orders.csv"), "id,amount\n1,950\n2,960\n3,970\n")
            .unwrap();
        let put = std::process::Command::new(&sheaf)
            .args(["put", "orders.csv", "--rows-per-batch", "1", "--id", "shop", "--register"])
            .args(["--queue", QUEUE, "--server", &node_address])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(put.status.success(), "{}", notes(&put));
        let mut run = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args(["run", "shop.yaml", "--control-addr", "127.0.0.1:0"])
            .args(["--coordinator", &node_address, "--component-program"])
            .arg(component)
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let ready = run.wait_ready(TIME).unwrap();
        let console = ready.url("console").unwrap().to_owned();
        let control = ready.addr("control").unwrap().to_string();
        let run = std::cell::RefCell::new(run);
        Some(Shop { node_address, console, control, run, _node: node, folder })
    }

    /// What `sheafctl console` prints.
    pub(super) fn link(&self, further: &[&str]) -> String {
        let arguments = [&["console", "--server", &self.control], further].concat();
        let output = sheafctl_in(self.folder.path(), &arguments);
        assert_eq!(code(&output), 0, "{}", notes(&output));
        data(&output).trim().to_owned()
    }

    /// Where an instance serves, once it is healthy.
    pub(super) fn address(&self, instance: &str) -> String {
        let status = ["status", "--json", "--server", &self.control];
        let output = sheafctl_in(self.folder.path(), &status);
        let told: serde_json::Value = serde_json::from_str(&data(&output)).unwrap();
        let all = told["pipelines"][0]["components"].as_array().unwrap();
        let is_it =
            |one: &&serde_json::Value| one["instance"] == instance && one["status"] == "healthy";
        let address = all.iter().find(is_it).and_then(|one| one["address"].as_str());
        address.unwrap_or_default().to_owned()
    }

    pub(super) fn token(&self) -> String {
        let path = self.folder.path().join(".sheaf/control-token");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// Until the run has ended well.
    pub(super) fn wait_for_end(&self) {
        let ended = || self.run.borrow_mut().try_exit().unwrap().is_some();
        wait_until(TIME, "the end of the run", ended).unwrap();
        let status = self.run.borrow_mut().try_exit().unwrap().unwrap();
        assert!(status.success(), "{}", self.run.borrow().stderr());
    }
}
