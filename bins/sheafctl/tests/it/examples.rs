//! Every file in `examples/pipelines`, as somebody new would try it: all commands, one by one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sheaf_testkit::{KafkaBroker, Process, TempDir, wait_until};

use super::flows::{LONG, component_program};
use super::pipelines::program;
use super::{code, data, notes, sheafctl, sheafctl_in};

/// Those that need nothing but the programs of a build.
const ALONE: [&str; 5] = ["linear", "fan-in", "fan-out", "diamond", "durable"];

fn folder_of_examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelines")
}

/// A copy of all examples, in which one of them is run.
struct Trial {
    folder: TempDir,
    file: String,
    variables: Vec<(String, String)>,
}

impl Trial {
    fn new(name: &str) -> Self {
        component_program();
        let folder = TempDir::new().unwrap();
        for entry in std::fs::read_dir(folder_of_examples()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        Trial { folder, file: format!("{name}.yaml"), variables: Vec::new() }
    }

    /// The example of Kafka, with a broker and the database's library.
    fn kafka(broker: &KafkaBroker) -> Option<Self> {
        let library = sheaf_testkit::libduckdb()?;
        let mut trial = Trial::new("kafka-to-duckdb");
        trial.variables = vec![("SHEAF_LIBDUCKDB".to_owned(), library.display().to_string())];
        trial.change(|pipeline| {
            pipeline["sources"][0]["config"]["brokers"] = json!([broker.bootstrap()]);
        });
        Some(trial)
    }

    /// The example of components in Rust, with so many readings.
    fn rust(rows: u64) -> Self {
        let (trial, own) = (Trial::new("rust"), program("sheafctl-own-components"));
        trial.change(|pipeline| {
            for part in ["sources", "processors"] {
                pipeline[part][0]["command"][0] = json!(own);
            }
            pipeline["sources"][0]["config"]["rows"] = json!(rows);
        });
        trial
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes what the file says. JSON is YAML.
    fn change(&self, change: impl FnOnce(&mut Value)) {
        let text = std::fs::read_to_string(self.path(&self.file)).unwrap();
        let mut pipeline = serde_saphyr::from_str(&text).unwrap();
        change(&mut pipeline);
        std::fs::write(self.path(&self.file), pipeline.to_string()).unwrap();
    }

    /// Sources that go on for as long as a test looks at what they give.
    fn slow_down(&self) {
        self.change(|pipeline| {
            for source in pipeline["sources"].as_array_mut().unwrap() {
                if source["kind"] == "generate" {
                    source["config"]["rows"] = json!(10_000_000);
                    source["config"]["rowsPerSecond"] = json!(1_000);
                    source["config"]["batchRows"] = json!(50);
                }
            }
        });
    }

    fn start(&self, file: &str) -> Process {
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        let mut command = Process::command(env!("CARGO_BIN_EXE_sheafctl"));
        for (name, value) in variables {
            command = command.env(name, value);
        }
        command
            .args(["run", file, "--control-addr", "127.0.0.1:0"])
            .current_dir(self.folder.path())
            .spawn()
            .unwrap()
    }

    fn run_to_the_end(&self, file: &str) -> String {
        let mut process = self.start(file);
        let status = process.wait_exit(LONG).unwrap();
        assert!(status.success(), "{file}: {}\n{}", process.stdout(), process.stderr());
        process.stdout()
    }

    /// The files of a sink whose names end so.
    fn files(&self, sink: &str, end: &str) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.path("out").join(sink)).into_iter().flatten().flatten();
        let paths = files.map(|file| file.path());
        paths.filter(|path| path.extension().is_some_and(|found| found == end)).collect()
    }

    fn lines(&self, sink: &str, end: &str) -> Vec<String> {
        let texts = self.files(sink, end).into_iter().map(std::fs::read_to_string);
        texts
            .flat_map(|text| text.unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    fn parquet_rows(&self, sink: &str) -> usize {
        let rows = self.files(sink, "parquet").into_iter().map(|path| {
            let file = std::fs::File::open(path).unwrap();
            let metadata = parquet::file::metadata::ParquetMetaDataReader::new();
            let metadata = metadata.parse_and_finish(&file).unwrap();
            usize::try_from(metadata.file_metadata().num_rows()).unwrap()
        });
        rows.sum()
    }

    fn ipc_rows(&self, sink: &str) -> usize {
        let rows = self.files(sink, "arrow").into_iter().map(|path| {
            let file = std::fs::File::open(path).unwrap();
            let reader = arrow_ipc::reader::FileReader::try_new(file, None).unwrap();
            reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>()
        });
        rows.sum()
    }
}

/// A run that is looked at while it goes on.
struct Running<'a> {
    trial: &'a Trial,
    process: Process,
    address: String,
}

impl<'a> Running<'a> {
    fn start(trial: &'a Trial) -> Self {
        let mut process = trial.start(&trial.file);
        let ready = process.wait_ready(LONG).unwrap();
        let address = ready.addr("control").unwrap().to_string();
        Running { trial, process, address }
    }

    fn ask(&self, arguments: &[&str]) -> std::process::Output {
        let mut all = arguments.to_vec();
        all.extend(["-s", &self.address]);
        sheafctl_in(self.trial.folder.path(), &all)
    }

    fn top(&self) -> Value {
        let output = self.ask(&["top", "--once", "--json", "--interval-ms", "200"]);
        assert_eq!(code(&output), 0, "{}", notes(&output));
        serde_json::from_str(&data(&output)).unwrap()
    }

    fn stop(mut self) {
        let output = self.ask(&["stop"]);
        assert_eq!(code(&output), 0, "{}", notes(&output));
        let status = self.process.wait_exit(LONG).unwrap();
        assert!(status.success(), "{}\n{}", self.process.stdout(), self.process.stderr());
    }
}

/// `top`, `tap`, `status` and `ps` of what runs, then `stop`.
fn look_at(trial: &Trial) {
    let text = std::fs::read_to_string(trial.path(&trial.file)).unwrap();
    let pipeline: Value = serde_saphyr::from_str(&text).unwrap();
    let running = Running::start(trial);
    let all = ["sources", "processors", "sinks"];
    let all = all.iter().flat_map(|kind| pipeline[kind].as_array().into_iter().flatten());
    let ids: Vec<&str> = all.map(|one| one["id"].as_str().unwrap()).collect();
    let source = pipeline["sources"][0]["id"].as_str().unwrap();
    let name = pipeline["metadata"]["name"].as_str().unwrap();
    let flows = || {
        let seen = running.top();
        let components = seen["components"].as_array().unwrap();
        let has = |id: &&str| components.iter().any(|one| one["place"] == format!("{name}:{id}"));
        let edges = seen["edges"].as_array().unwrap();
        let reads = |edge: &Value| edge["edge"].as_str().unwrap().starts_with(source);
        ids.iter().all(has) && edges.iter().any(|edge| reads(edge) && edge["rows"] != 0)
    };
    wait_until(LONG, "rows on an edge of the source", flows).unwrap();
    for edge in running.top()["edges"].as_array().unwrap() {
        let edge = edge["edge"].as_str().unwrap();
        if !edge.starts_with(source) {
            continue;
        }
        // From anywhere: its folder is named.
        let folder = trial.path(".sheaf").display().to_string();
        let tap = ["tap", edge, "--rows", "3", "--format", "json", "--data-dir", &folder];
        let output = sheafctl(&[&tap[..], &["-s", &running.address]].concat());
        assert_eq!(code(&output), 0, "{edge}: {}", notes(&output));
        let rows = data(&output);
        assert_eq!(rows.lines().count(), 3, "{edge}: {rows}");
        assert!(rows.lines().all(|row| serde_json::from_str::<Value>(row).unwrap().is_object()));
    }
    for command in ["ps", "status", "runs"] {
        let output = running.ask(&[command]);
        assert!(data(&output).contains(name), "{command}: {}{}", data(&output), notes(&output));
    }
    running.stop();
}

#[test]
fn every_example_is_checked_drawn_rendered_and_tested() {
    let entries = std::fs::read_dir(folder_of_examples()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut count = 0;
    for path in paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let (file, text) = (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        let pipeline: Value = serde_saphyr::from_str(&text).unwrap();
        let output = sheafctl(&["validate", &file]);
        assert_eq!((code(&output), notes(&output)), (0, String::new()), "{file}");
        let drawn = data(&sheafctl(&["graph", &file]));
        let mut words = vec!["render", &file];
        if pipeline["durable"] == true {
            let refused = sheafctl(&words);
            assert_eq!((code(&refused), data(&refused)), (2, String::new()), "{file}");
            assert!(notes(&refused).contains("--durable-store"), "{}", notes(&refused));
            words.extend(["--durable-store", "grpc://store.shop.svc:50051"]);
        }
        let rendered = sheafctl(&words);
        assert_eq!(code(&rendered), 0, "{file}: {}", notes(&rendered));
        for kind in ["sources", "processors", "sinks"] {
            for component in pipeline[kind].as_array().into_iter().flatten() {
                let id = component["id"].as_str().unwrap();
                assert!(drawn.contains(id), "{id}: {drawn}");
                let pods =
                    format!("name: {}--{id}\n", pipeline["metadata"]["name"].as_str().unwrap());
                assert!(data(&rendered).contains(&pods), "{id} of {file}");
            }
        }
        let tested = sheafctl(&["test", &file]);
        assert_eq!(code(&tested), 0, "{file}: {}{}", data(&tested), notes(&tested));
        assert!(data(&tested).contains(", 0 failed\n"), "{file}: {}", data(&tested));
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn linear_and_fan_in_run_with_one_command() {
    let trial = Trial::new("linear");
    trial.run_to_the_end("linear.yaml");
    let first = trial.parquet_rows("linear");
    // A fifth of 100,000, by chance of a fixed seed.
    assert!((19_000..21_500).contains(&first), "{first}");
    trial.run_to_the_end("linear.yaml");
    let shown = trial.run_to_the_end("fan-in.yaml");
    let of = |shop: &str, orders: &str| {
        shown.lines().any(|line| line.contains(shop) && line.contains(orders))
    };
    assert!(of("north", "30000") && of("south", "20000"), "{shown}");
}

#[test]
fn fan_out_and_diamond_run_with_one_command() {
    let trial = Trial::new("fan-out");
    trial.run_to_the_end("fan-out.yaml");
    assert_eq!(trial.parquet_rows("fan-out/parquet"), 50_000);
    assert_eq!(trial.lines("fan-out/json", "jsonl").len(), 50_000);
    let csv = trial.lines("fan-out/csv", "csv");
    let headers = csv.iter().filter(|line| line.starts_with("sensor,")).count();
    assert_eq!(csv.len() - headers, 50_000);
    trial.run_to_the_end("diamond.yaml");
    let rows = trial.ipc_rows("diamond");
    // All of them by one way, and about a twentieth by the other one too.
    assert!((83_000..85_000).contains(&rows), "{rows}");
}

#[test]
fn durable_runs_with_one_command() {
    let trial = Trial::new("durable");
    trial.run_to_the_end("durable.yaml");
    let rows = trial.parquet_rows("durable");
    assert!((98_000..102_000).contains(&rows), "{rows}");
}

#[test]
fn what_runs_alone_is_looked_at_by_top_and_tap() {
    for name in ALONE {
        let trial = Trial::new(name);
        trial.slow_down();
        look_at(&trial);
    }
}

#[test]
fn orders_of_a_broker_are_in_the_table_and_in_files() {
    const FILL: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: fill}
sources:
  - id: paid
    kind: generate
    config:
      rows: 2_000
      batchRows: 100
      columns:
        - {name: id, values: sequence}
        - {name: amount, values: {constant: 1.5}}
        - {name: country, values: {choice: [DE, FR]}}
  - id: free
    kind: generate
    config:
      rows: 500
      columns:
        - {name: id, values: sequence}
        - {name: amount, values: {constant: 0.0}}
        - {name: country, values: {constant: PL}}
sinks:
  - id: topic
    kind: kafka
    inputs: [paid, free]
    config: {brokers: [BROKER], topic: orders, format: json}
";
    const READ: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: read}
sources:
  - id: table
    kind: adbc
    config:
      database: {driver: duckdb, uri: out/orders.duckdb}
      query: SELECT count(*) AS n, count(DISTINCT id) AS ids, min(amount) AS least FROM orders
sinks:
  - {id: rows, kind: file, inputs: [table], config: {path: out/read, format: json}}
";
    let Some(broker) = KafkaBroker::start_own().unwrap() else { return };
    let Some(trial) = Trial::kafka(&broker) else { return };
    std::fs::write(trial.path("fill.yaml"), FILL.replace("BROKER", broker.bootstrap())).unwrap();
    trial.run_to_the_end("fill.yaml");
    let running = Running::start(&trial);
    let all = || trial.parquet_rows("orders") >= 2_000;
    wait_until(LONG, "orders in files", all).unwrap();
    running.stop();
    assert_eq!(trial.parquet_rows("orders"), 2_000);
    std::fs::write(trial.path("read.yaml"), READ).unwrap();
    trial.run_to_the_end("read.yaml");
    let read: Value = serde_json::from_str(&trial.lines("read", "jsonl")[0]).unwrap();
    assert_eq!(read, json!({"n": 2_000, "ids": 2_000, "least": 1.5}));

    // Looked at while more comes.
    let mut more = FILL.replace("BROKER", broker.bootstrap()).replace("name: fill", "name: more");
    more = more.replace("rows: 2_000", "rows: 1_000_000\n      rowsPerSecond: 1_000");
    std::fs::write(trial.path("more.yaml"), more).unwrap();
    let filling = trial.start("more.yaml");
    look_at(&trial);
    drop(filling);
}

#[test]
fn the_example_in_python_is_looked_at_by_top_and_tap() {
    let mut trial = Trial::new("python");
    let Some(path) = super::python::path_with_python(&trial.path("bin")) else { return };
    trial.variables = vec![("PATH".to_owned(), path)];
    trial.change(|pipeline| pipeline["sources"][0]["config"]["rows"] = json!(3_000_000));
    look_at(&trial);
}

#[test]
fn the_example_in_rust_finds_what_is_unusual_over_edges_of_any_kind() {
    let spikes = |trial: &Trial| {
        let rows = trial.lines("outliers", "csv").into_iter().filter(|row| row != "n,value");
        let rows = rows.map(|row| row.split(',').next().unwrap().parse::<u64>().unwrap());
        let mut numbers: Vec<u64> = rows.collect();
        numbers.sort_unstable();
        numbers
    };
    let expected: Vec<u64> = (1..=40).map(|spike| spike * 1_000 - 1).collect();
    let trial = Trial::rust(40_000);
    trial.run_to_the_end("rust.yaml");
    assert_eq!(spikes(&trial), expected);

    let trial = Trial::rust(40_000);
    trial.change(|pipeline| pipeline["durable"] = json!(true));
    trial.run_to_the_end("rust.yaml");
    assert_eq!(spikes(&trial), expected);
}

#[test]
fn what_an_own_component_does_not_know_in_its_config_ends_it() {
    let trial = Trial::rust(1_000);
    trial.change(|pipeline| pipeline["processors"][0]["config"]["deviatoins"] = json!(3));
    let mut process = trial.start("rust.yaml");
    let status = process.wait_exit(LONG).unwrap();
    let told = process.stderr();
    assert!(!status.success(), "{told}");
    let what = "`config` of outliers is not what it has to be: unknown field `deviatoins`";
    assert!(told.contains(what), "{told}");
}

#[test]
fn the_example_in_rust_is_looked_at_by_top_and_tap() {
    look_at(&Trial::rust(1_000_000_000_000));
}
