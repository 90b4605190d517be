//! The store and the coordinator of the durable edges of a run: one process, under the same
//! keeper as components, with a folder of its own that outlives runs.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sheaf_dataflow::{Assignment, DurableAssignment};
use sheaf_pipeline::health::{Decision, Ending, RestartMode, RestartPolicy, Restarts};
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::Token;
use sheaf_pipeline::spec::{self, Component, Health, Resources, Restart, Role};
use sheaf_retry::{HumanDuration, Timestamp};

use super::secrets::{Folder, RUN_FILE, RunSecrets};
use super::{DurableOptions, Error};
use crate::driver::{Driver, Launch, LaunchId};
use crate::planned;
use crate::process::{read, write_private};

pub(super) use crate::planned::STORE as INSTANCE;

/// How long it may take to end.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
/// Memory for payloads; what has no room is on disk only.
const MEMORY: &str = "256MB";

/// Where the batches of durable edges of a run wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoreRecord {
    /// `grpc://HOST:PORT` of store and coordinator.
    pub(super) address: String,
    pub(super) token: Option<String>,
    pub(super) insecure: bool,
    pub(super) retention_ms: u64,
    /// The program of the process that this run has for it; none where it is somebody else's.
    pub(super) program: Option<PathBuf>,
}

impl StoreRecord {
    /// What the run has of it: one that was named, or a process of its own. `None` where no edge
    /// is durable.
    pub(super) fn of(
        plan: &Plan,
        options: &DurableOptions,
        driver: &dyn Driver,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let Some(edge) = plan.edges.iter().find(|edge| edge.durable) else { return Ok(None) };
        let retention_ms = u64::try_from(options.retention.as_millis()).unwrap_or(u64::MAX);
        if let Some(address) = &options.address {
            return Ok(Some(StoreRecord {
                address: address.clone(),
                token: options.token.clone(),
                insecure: options.insecure,
                retention_ms,
                program: None,
            }));
        }
        let refused = |why: String| Error::Durable { edge: edge.id.clone(), why };
        if !driver.starts_stores() {
            return Err(refused(format!(
                "the {} driver starts no store: name one that runs with --durable-store",
                driver.name()
            )));
        }
        let program = options.programs.store().map_err(refused)?;
        let port = free_port().map_err(|error| refused(format!("no port is free: {error}")))?;
        let token = Token::generate(now.as_millis()).secret().expose().to_owned();
        Ok(Some(StoreRecord {
            address: format!("grpc://127.0.0.1:{port}"),
            token: Some(token),
            insecure: false,
            retention_ms,
            program: Some(program),
        }))
    }

    pub(super) fn assignment(&self) -> DurableAssignment {
        DurableAssignment {
            store: self.address.clone(),
            coordinator: self.address.clone(),
            token: self.token.clone(),
            insecure: self.insecure,
            retention_ms: self.retention_ms,
        }
    }
}

/// Where the batches of durable edges of the last run of a pipeline wait, as its `run.json` in
/// the folder of all pipelines has it; `None` where there was no run, or none of its edges is
/// durable.
///
/// # Errors
/// Where the file cannot be read.
pub fn store_of(folder: &Path, pipeline: &str) -> io::Result<Option<DurableAssignment>> {
    let found: Option<RunSecrets> = read(&folder.join(pipeline).join(RUN_FILE))?;
    Ok(found.and_then(|found| found.store).map(|store| store.assignment()))
}

fn free_port() -> io::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

/// The process of a run.
pub(super) struct Node {
    assignment: Assignment,
    attempt: u64,
    restarts: Restarts,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Down { due: Option<Duration> },
    Up { since: Duration },
}

/// What is to be done about its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing: it is not about this one.
    Nothing,
    /// It is started again by itself; for people.
    Pause(String),
    /// It cannot be had.
    GiveUp(String),
}

impl Node {
    /// The process that a run has, prepared; `None` where it has none.
    pub(super) fn prepare(
        pipeline: &str,
        store: Option<&StoreRecord>,
        folder: &Folder,
        attempt: u64,
        seed: u64,
    ) -> io::Result<Option<Self>> {
        let Some((store, program)) = store.and_then(|one| Some((one, one.program.as_ref()?)))
        else {
            return Ok(None);
        };
        let own = std::path::absolute(folder.store())?;
        DirBuilder::new().recursive(true).mode(0o700).create(own.join("data"))?;
        let token = own.join("token");
        write_private(&token, store.token.clone().unwrap_or_default().as_bytes())?;
        let command = command(program, store, &own, &token);
        let assignment = assignment(pipeline, command, own);
        let policy = RestartPolicy {
            mode: RestartMode::Always,
            base_ms: 100,
            cap_ms: 5_000,
            most: 20,
            window: Duration::from_secs(300),
            ..RestartPolicy::default()
        };
        let (restarts, standing) = (Restarts::new(policy, seed), Standing::Down { due: None });
        Ok(Some(Node { assignment, attempt, restarts, standing }))
    }

    pub(super) fn place(&self) -> &str {
        &self.assignment.place
    }

    /// It runs already.
    pub(super) fn is_up(&mut self, attempt: u64, now: Duration) {
        self.attempt = attempt;
        self.standing = Standing::Up { since: now };
    }

    /// The launch that runs, if one does.
    pub(super) fn running(&self) -> Option<LaunchId> {
        let is_up = matches!(self.standing, Standing::Up { .. });
        is_up.then(|| LaunchId { place: self.place().to_owned(), attempt: self.attempt })
    }

    /// When it is to be started again.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.standing {
            Standing::Down { due } => due,
            Standing::Up { .. } => None,
        }
    }

    /// The next start.
    pub(super) fn launch(&mut self, now: Duration) -> Launch {
        self.attempt += 1;
        self.standing = Standing::Up { since: now };
        let id = LaunchId { place: self.place().to_owned(), attempt: self.attempt };
        Launch { id, assignment: self.assignment.clone(), environment: Vec::new() }
    }

    /// An attempt has ended, or could not be started.
    pub(super) fn ended(&mut self, attempt: u64, why: &str, now: Duration) -> After {
        let Standing::Up { since } = self.standing else { return After::Nothing };
        if attempt != self.attempt {
            return After::Nothing;
        }
        let ran = now.saturating_sub(since);
        match self.restarts.decide(&Ending::Failed(why.to_owned()), ran, now) {
            Decision::Restart { after, number } => {
                self.standing = Standing::Down { due: Some(now + after) };
                let after = HumanDuration(after);
                After::Pause(format!(
                    "the store of durable edges: {why}; again in {after} (restart {number})"
                ))
            }
            Decision::Leave | Decision::GiveUp { .. } => {
                self.standing = Standing::Down { due: None };
                After::GiveUp(format!(
                    "the store of durable edges: {why}; its log is {INSTANCE}/log"
                ))
            }
        }
    }
}

fn command(program: &Path, store: &StoreRecord, own: &Path, token: &Path) -> Vec<String> {
    let address = store.address.trim_start_matches("grpc://").to_owned();
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let ttl = format!("{}ms", store.retention_ms.max(1));
    let words: [(&str, String); 11] = [
        ("--mode", "all".to_owned()),
        ("--workers", "0".to_owned()),
        ("--coordinator", "embedded".to_owned()),
        ("--flight-addr", address),
        ("--admin-addr", "127.0.0.1:0".to_owned()),
        ("--data-dir", shown(&own.join("data"))),
        ("--durability", "disk".to_owned()),
        ("--memory-limit", MEMORY.to_owned()),
        ("--ttl", ttl),
        ("--grace", "5s".to_owned()),
        ("--token-file", shown(token)),
    ];
    let words = words.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    [shown(program), "serve".to_owned()].into_iter().chain(words).collect()
}

/// What the driver starts: a program like any other.
fn assignment(pipeline: &str, command: Vec<String>, state_dir: PathBuf) -> Assignment {
    Assignment {
        pipeline: pipeline.to_owned(),
        run: 1,
        pass: 1,
        graph: 0,
        place: planned::place(pipeline, INSTANCE),
        role: Role::Processor,
        instance: INSTANCE.to_owned(),
        index: 0,
        replicas: 1,
        definition: program(command),
        listen: String::new(),
        advertise_host: None,
        health_listen: String::new(),
        control: String::new(),
        token: String::new(),
        data_token: String::new(),
        state_dir,
        inputs: Vec::new(),
        outputs: Vec::new(),
        durable: None,
        tls: None,
    }
}

fn program(command: Vec<String>) -> Component {
    Component {
        id: INSTANCE.to_owned(),
        kind: None,
        image: None,
        command,
        config: serde_json::Map::new(),
        inputs: Vec::new(),
        environment: BTreeMap::new(),
        replicas: 1,
        restart: Restart::default(),
        resources: Resources::default(),
        health: Health::default(),
        port: 0,
        drain: spec::Duration(DRAIN),
        transactional: false,
        durable_edges: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> (tempfile::TempDir, Node) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::take(root.path(), "p").unwrap().unwrap();
        let store = StoreRecord {
            address: "grpc://127.0.0.1:7".to_owned(),
            token: Some("secret".to_owned()),
            insecure: false,
            retention_ms: 60_000,
            program: Some("/bin/sheaf".into()),
        };
        let node = Node::prepare("p", Some(&store), &folder, 3, 1).unwrap().unwrap();
        (root, node)
    }

    #[test]
    fn its_token_is_in_a_file_and_not_in_its_words() {
        let (root, mut node) = node();
        let launch = node.launch(Duration::ZERO);
        assert_eq!((launch.id.place.as_str(), launch.id.attempt), ("p:_store", 4));
        let words = launch.assignment.definition.command.join(" ");
        assert!(
            words.contains("--flight-addr 127.0.0.1:7 ") && !words.contains("secret"),
            "{words}"
        );
        let token = root.path().join("p/store/token");
        assert_eq!(std::fs::read_to_string(token).unwrap(), "secret");
    }

    #[test]
    fn it_is_started_again_but_not_for_ever() {
        let (_root, mut node) = node();
        let second = Duration::from_secs(1);
        assert_eq!(node.ended(3, "x", second), After::Nothing, "it does not run");
        let mut starts = 0;
        loop {
            let attempt = node.launch(second).id.attempt;
            assert_eq!(node.ended(attempt - 1, "x", second), After::Nothing, "an older one");
            match node.ended(attempt, "killed", second) {
                After::Pause(text) => assert!(text.contains("killed"), "{text}"),
                After::GiveUp(text) => break assert!(text.contains("_store/log"), "{text}"),
                After::Nothing => panic!("it has ended"),
            }
            assert!(node.due().is_some() && node.running().is_none());
            starts += 1;
        }
        assert_eq!(starts, 20);
        assert_eq!(node.due(), None);
    }
}
