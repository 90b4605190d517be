//! The Docker driver against a real engine.

use std::collections::HashMap;
use std::io::Read as _;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
};
use futures::TryStreamExt as _;
use sheaf_drivers::docker::{DockerDriver, Settings};
use sheaf_drivers::{Driver as _, Ended, LaunchId};
use sheaf_retry::SystemClock;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use crate::engine::Engine;
use crate::launch::{With as _, launch};
use crate::shell::{IMAGE, engine};

/// A control plane that nobody asks.
const CONTROL: &str = "grpc://192.0.2.1:8080";
const LONG: Duration = Duration::from_secs(60);

fn settings(address: &str) -> Settings {
    let engine = address.to_owned();
    let variables = [("PASSWORD".to_owned(), "hunter2".to_owned())].into();
    Settings { engine, variables, ..Settings::new(SystemClock::shared()) }
}

async fn driver(engine: &Engine) -> DockerDriver {
    DockerDriver::connect(settings(&engine.address)).await.unwrap()
}

async fn ended(driver: &DockerDriver) -> Ended {
    timeout(LONG, driver.ended()).await.expect("it ends")
}

async fn until_up(driver: &DockerDriver, id: &LaunchId) {
    let up = async {
        while !driver.output(id, 10).await.unwrap().contains("up") {
            // sleep: between two looks at the condition, which has a deadline.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, up).await.expect("it comes up");
}

/// A file of the container that is there, with its mode.
async fn file(client: &Docker, id: &LaunchId, path: &str) -> (String, u32) {
    let name = format!("sheaf.{}.{}", id.place.replace(':', "."), id.attempt);
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let parts: Vec<_> =
        client.download_from_container(&name, Some(options)).try_collect().await.unwrap();
    let bytes = parts.concat();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    (text, entry.header().mode().unwrap() & 0o777)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_told_its_place_drains_and_finds_its_state_again() {
    let Some(engine) = engine() else { return };
    let (driver, client) = (driver(&engine).await, engine.client());
    let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = control.local_addr().unwrap().port();
    let first = launch("told", 1, IMAGE, &format!("grpc://127.0.0.1:{port}"));
    driver.start(first.clone()).await.unwrap();
    until_up(&driver, &first.id).await;
    assert_eq!(driver.running("told").await.unwrap(), std::slice::from_ref(&first.id));

    let (text, mode) = file(&client, &first.id, "/run/sheaf/assignment.json").await;
    assert_eq!(mode, 0o600);
    let told: sheaf_dataflow::Assignment = serde_json::from_str(&text).unwrap();
    let address = told.advertise_host.clone().unwrap();
    assert_eq!(told.listen, format!("{address}:50051"));
    assert_eq!(told.token, "token-of-the-place");
    assert_eq!(told.definition.config["password"]["file"], "/run/sheaf/references/0");
    assert_eq!(file(&client, &first.id, "/var/lib/sheaf/secret").await.0, "hunter2");

    // The address is the container's, and a control plane of this machine is let through to.
    let name = "sheaf.told.one.1";
    let found = client.inspect_container(name, None).await.unwrap();
    let networks = found.network_settings.unwrap().networks.unwrap();
    assert_eq!(networks["sheaf.told"].ip_address.as_deref(), Some(address.as_str()));
    let gate = told.control.strip_prefix("grpc://").unwrap();
    assert_ne!(gate, format!("127.0.0.1:{port}"));
    let (from_inside, taken) = tokio::join!(TcpStream::connect(gate), control.accept());
    from_inside.unwrap();
    taken.unwrap();
    let shown = format!("{:?}", client.inspect_container(name, None).await.unwrap());
    assert!(!shown.contains("token-of") && !shown.contains("hunter2"), "{shown}");

    driver.stop(&first.id, LONG).await.unwrap();
    let end = ended(&driver).await;
    assert_eq!((end.id, end.success), (first.id.clone(), true), "{}", end.why);
    assert_eq!(driver.running("told").await.unwrap(), []);
    let second = launch("told", 2, IMAGE, CONTROL);
    driver.start(second.clone()).await.unwrap();
    until_up(&driver, &second.id).await;
    assert_eq!(file(&client, &second.id, "/var/lib/sheaf/drained").await.0, "drained\n");
    assert_eq!(file(&client, &second.id, "/var/lib/sheaf/starts").await.0, "started\nstarted\n");

    driver.remove("told", true).await.unwrap();
    assert_eq!(ended(&driver).await.id, second.id);
    let filters = HashMap::from([("label", vec!["dev.sheaf.pipeline=told"])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    assert_eq!(client.list_containers(Some(options)).await.unwrap(), []);
    assert!(client.inspect_network("sheaf.told", None).await.is_err());
    assert!(client.inspect_volume("sheaf.told.one").await.is_err());
    // Nothing of it runs, and that is as good.
    driver.stop(&second.id, LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_an_instance_ended_is_told_in_words() {
    let Some(engine) = engine() else { return };
    let driver = driver(&engine).await;
    for (attempt, behaviour, success, why) in
        [(1, "end", true, "exit status 0"), (2, "fail", false, "exit status 1: no such topic")]
    {
        let one = launch("words", attempt, IMAGE, CONTROL).with("BEHAVIOUR", behaviour);
        driver.start(one.clone()).await.unwrap();
        let expected = Ended { id: one.id, success, why: why.to_owned() };
        assert_eq!(ended(&driver).await, expected);
    }
    let stubborn = launch("words", 3, IMAGE, CONTROL).with("BEHAVIOUR", "stubborn");
    driver.start(stubborn.clone()).await.unwrap();
    until_up(&driver, &stubborn.id).await;
    driver.stop(&stubborn.id, Duration::from_millis(900)).await.unwrap();
    let end = ended(&driver).await;
    assert_eq!((end.id, end.success), (stubborn.id, false));
    assert_eq!(end.why, "killed by signal 9 (KILL)");
    driver.remove("words", true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_has_one_container_at_a_time() {
    let Some(engine) = engine() else { return };
    let driver = driver(&engine).await;
    let (first, second) = (launch("twice", 1, IMAGE, CONTROL), launch("twice", 2, IMAGE, CONTROL));
    driver.start(first.clone()).await.unwrap();
    driver.start(second.clone()).await.unwrap();
    let end = ended(&driver).await;
    assert_eq!((end.id, end.success), (first.id, false), "{}", end.why);
    assert_eq!(driver.running("twice").await.unwrap(), [second.id]);
    driver.remove("twice", true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_driver_takes_over_what_runs() {
    let Some(engine) = engine() else { return };
    let one = launch("adopted", 7, IMAGE, CONTROL);
    let before = driver(&engine).await;
    before.start(one.clone()).await.unwrap();
    until_up(&before, &one.id).await;
    drop(before);
    let after = driver(&engine).await;
    assert_eq!(after.running("adopted").await.unwrap(), std::slice::from_ref(&one.id));
    assert_eq!(after.running("no-such").await.unwrap(), []);
    let options = KillContainerOptionsBuilder::new().signal("KILL").build();
    engine.client().kill_container("sheaf.adopted.one.7", Some(options)).await.unwrap();
    let end = ended(&after).await;
    assert_eq!((end.id, end.why.as_str()), (one.id, "killed by signal 9 (KILL)"));
    after.remove("adopted", true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_the_engine_could_not_be_heard_is_told_later() {
    let Some(engine) = engine() else { return };
    let (address, mut line) = Line::open(&engine, "127.0.0.1:0").await;
    let driver = DockerDriver::connect(settings(&format!("http://{address}"))).await.unwrap();
    let one = launch("deaf", 1, IMAGE, CONTROL);
    driver.start(one.clone()).await.unwrap();
    until_up(&driver, &one.id).await;
    line.cut().await;
    let options = KillContainerOptionsBuilder::new().signal("TERM").build();
    engine.client().kill_container("sheaf.deaf.one.1", Some(options)).await.unwrap();
    assert!(timeout(Duration::from_millis(300), driver.ended()).await.is_err());
    let (_, _line) = Line::open(&engine, &address).await;
    let end = ended(&driver).await;
    assert_eq!((end.id, end.success), (one.id, true), "{}", end.why);
    driver.remove("deaf", true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_told_with_what_to_do() {
    let Some(engine) = engine() else { return };
    let driver = driver(&engine).await;
    let error = driver.start(launch("missing", 1, "no-such-image:1", CONTROL)).await.unwrap_err();
    assert!(error.to_string().contains("no image no-such-image:1: `docker pull"), "{error}");
    let mut unknown = launch("missing", 1, IMAGE, CONTROL);
    let reference = serde_json::json!({"env": "NO_SUCH"});
    unknown.assignment.definition.config["password"] = reference;
    let error = driver.start(unknown).await.unwrap_err();
    assert!(error.to_string().contains("the variable NO_SUCH is not set"), "{error}");
    assert_eq!(driver.running("missing").await.unwrap(), []);
    driver.remove("missing", true).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_by_its_address() {
    let error = DockerDriver::connect(settings("unix:///no/such.sock")).await.unwrap_err();
    assert!(error.to_string().contains("no Docker engine listens at /no/such.sock"), "{error}");
    let error = DockerDriver::connect(settings("tcp:odd")).await.unwrap_err();
    assert!(
        error.to_string().contains("unix:///PATH, tcp://HOST:PORT or http://HOST:PORT"),
        "{error}"
    );
}

/// A line to the engine that can be cut.
struct Line(tokio::task::JoinHandle<()>);

impl Line {
    async fn open(engine: &Engine, address: &str) -> (String, Line) {
        let socket = engine.address.trim_start_matches("unix://").to_owned();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                let mut there = UnixStream::connect(&socket).await.unwrap();
                open.spawn(async move {
                    drop(tokio::io::copy_bidirectional(&mut here, &mut there).await);
                });
            }
        });
        (address, Line(task))
    }

    async fn cut(&mut self) {
        self.0.abort();
        assert!((&mut self.0).await.is_err());
    }
}
