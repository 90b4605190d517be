//! The Kubernetes driver against an API server of our own.

use std::time::Duration;

use serde_json::{Value, json};
use sheaf_drivers::kubernetes::{KubernetesDriver, Settings};
use sheaf_drivers::{Driver as _, Ended, LaunchId};
use sheaf_retry::SystemClock;
use tokio::time::timeout;

use crate::api::{ApiServer, NAMESPACE};
use crate::launch::{With as _, launch};

const IMAGE: &str = "example/one:1";
const CONTROL: &str = "grpc://sheaf-control.shop.svc:8080";
const LONG: Duration = Duration::from_secs(30);

fn driver_in(server: &ApiServer, namespace: &str) -> KubernetesDriver {
    let config = kube::Config::new(server.uri.parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let settings = Settings { namespace: namespace.to_owned(), ..Settings::default() };
    let variables = [("PASSWORD".to_owned(), "hunter3".to_owned())].into();
    KubernetesDriver::new(client, settings, variables, SystemClock::shared()).unwrap()
}

/// A driver that listens.
async fn driver(server: &ApiServer) -> KubernetesDriver {
    let before = server.watches();
    let driver = driver_in(server, NAMESPACE);
    listens(server, before).await;
    driver
}

async fn listens(server: &ApiServer, before: usize) {
    let listens = async {
        while server.watches() == before {
            // sleep: between two looks at the condition, which has a deadline.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, listens).await.expect("it listens");
}

async fn ended(driver: &KubernetesDriver) -> Ended {
    timeout(LONG, driver.ended()).await.expect("it ends")
}

fn terminated(exit_code: i32, reason: &str, message: &str) -> Value {
    let state = json!({ "terminated": {
        "exitCode": exit_code, "reason": reason, "message": message } });
    let phase = if exit_code == 0 { "Succeeded" } else { "Failed" };
    json!({ "phase": phase, "containerStatuses": [container(state)] })
}

fn container(state: Value) -> Value {
    json!({ "name": "component", "image": IMAGE, "imageID": "", "ready": false,
        "restartCount": 0, "state": state })
}

#[tokio::test]
async fn a_launch_is_a_pod_that_the_cluster_does_not_start_again() {
    let server = ApiServer::start().await;
    let driver = driver(&server).await;
    let one = launch("orders", 3, IMAGE, CONTROL).with("LOGIN", "hunter2");
    driver.start(one.clone()).await.unwrap();
    let pod = server.object("pods", "orders--one--a3").unwrap();
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["spec"]["containers"][0]["image"], IMAGE);
    assert_eq!(pod["metadata"]["labels"]["sheaf.dev/attempt"], "3");
    assert!(!pod.to_string().contains("hunter2") && !pod.to_string().contains("token-of"));
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let login = variables.iter().find(|variable| variable["name"] == "LOGIN").unwrap();
    let entry = json!({ "name": "orders--one--a3", "key": "environment.LOGIN" });
    assert_eq!(login["valueFrom"]["secretKeyRef"], entry);

    let secret = server.object("secrets", "orders--one--a3").unwrap();
    assert_eq!(secret["stringData"]["environment.LOGIN"], "hunter2");
    let told = secret["stringData"]["0.json"].as_str().unwrap();
    let told: sheaf_dataflow::Assignment = serde_json::from_str(told).unwrap();
    assert_eq!(told.advertise_host.as_deref(), Some("orders--one.shop.svc"));
    assert_eq!((told.listen.as_str(), told.control.as_str()), ("0.0.0.0:50051", CONTROL));
    assert_eq!(
        told.definition.config["password"]["file"],
        "/run/sheaf/references/orders--one--a3/PASSWORD"
    );
    // What a reference of the file means here goes with the launch.
    assert_eq!(secret["stringData"]["PASSWORD"], "hunter3");
    assert!(!pod.to_string().contains("hunter3"));
    for kind in ["services", "networkpolicies", "persistentvolumeclaims"] {
        assert_eq!(server.names(kind), ["orders--one"], "{kind}");
    }
    let service = server.object("services", "orders--one").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(driver.running("orders").await.unwrap(), [one.id]);
    assert_eq!(driver.running("order").await.unwrap(), []);
}

#[tokio::test]
async fn how_a_pod_ended_is_told_once() {
    let server = ApiServer::start().await;
    let driver = driver(&server).await;
    let waiting = json!({ "waiting": { "reason": "InvalidImageName", "message": "bad" } });
    let cases = [
        (terminated(0, "Completed", ""), true, "exit status 0"),
        (terminated(2, "Error", "no such topic"), false, "exit status 2: no such topic"),
        (terminated(137, "OOMKilled", ""), false, "out of memory"),
        (json!({ "phase": "Failed", "reason": "Evicted" }), false, "Evicted"),
        (
            json!({ "phase": "Pending", "containerStatuses": [container(waiting)] }),
            false,
            "InvalidImageName: bad",
        ),
    ];
    for (attempt, (status, success, why)) in (1..).zip(cases) {
        let one = launch("ends", attempt, IMAGE, CONTROL);
        driver.start(one.clone()).await.unwrap();
        let name = format!("ends--one--a{attempt}");
        server.status(&name, json!({ "phase": "Running" }));
        server.status(&name, status.clone());
        server.status(&name, status);
        let expected = Ended { id: one.id, success, why: why.to_owned() };
        assert_eq!(ended(&driver).await, expected);
    }
    assert!(timeout(Duration::from_millis(100), driver.ended()).await.is_err());
    // Each launch has made way for the next one.
    assert_eq!(server.names("pods"), ["ends--one--a5"]);
    assert_eq!(server.names("secrets"), ["ends--one--a5"]);
}

#[tokio::test]
async fn a_stop_gives_time_to_drain_and_waits_until_the_pod_is_gone() {
    let server = ApiServer::start().await;
    let driver = driver(&server).await;
    let one = launch("stops", 1, IMAGE, CONTROL);
    driver.start(one.clone()).await.unwrap();
    server.status("stops--one--a1", json!({ "phase": "Running" }));
    server.slow();
    let stop = driver.stop(&one.id, Duration::from_millis(7_500));
    tokio::pin!(stop);
    assert!(timeout(Duration::from_millis(300), &mut stop).await.is_err(), "it is still there");
    assert_eq!(server.grace("stops--one--a1"), Some(8));
    server.status("stops--one--a1", terminated(0, "Completed", ""));
    server.finish("stops--one--a1");
    timeout(LONG, stop).await.unwrap().unwrap();
    assert_eq!(
        ended(&driver).await,
        Ended { id: one.id.clone(), success: true, why: "exit status 0".to_owned() }
    );
    assert_eq!(server.names("secrets"), Vec::<String>::new());
    assert_eq!(driver.running("stops").await.unwrap(), []);
    // Nothing of it runs, and that is as good.
    driver.stop(&one.id, LONG).await.unwrap();
    assert_eq!(server.names("persistentvolumeclaims"), ["stops--one"], "state stays");
    driver.remove("stops", true).await.unwrap();
    for kind in ["services", "networkpolicies", "persistentvolumeclaims"] {
        assert_eq!(server.names(kind), Vec::<String>::new(), "{kind}");
    }
}

#[tokio::test]
async fn what_happened_while_nobody_listened_is_told_after_the_next_list() {
    let server = ApiServer::start().await;
    let driver = driver(&server).await;
    let (ends, lost) = (launch("breaks", 1, IMAGE, CONTROL), launch("lost", 1, IMAGE, CONTROL));
    driver.start(ends.clone()).await.unwrap();
    driver.start(lost.clone()).await.unwrap();
    let before = server.watches();
    // The server has forgotten how far it was heard, and answers 410 to whoever goes on there.
    server.deafen(|server| server.lose("lost--one--a1"));
    let end = ended(&driver).await;
    assert_eq!((end.id, end.why.as_str()), (lost.id, "its pod was deleted"));
    listens(&server, before).await;
    server.status("breaks--one--a1", terminated(1, "Error", ""));
    let end = ended(&driver).await;
    assert_eq!((end.id, end.why.as_str()), (ends.id, "exit status 1"));
}

#[tokio::test]
async fn another_driver_takes_over_what_runs() {
    let server = ApiServer::start().await;
    let before = driver(&server).await;
    let one = launch("adopted", 9, IMAGE, CONTROL);
    before.start(one.clone()).await.unwrap();
    drop(before);
    let after = driver(&server).await;
    assert_eq!(after.running("adopted").await.unwrap(), std::slice::from_ref(&one.id));
    server.finish("adopted--one--a9");
    let end = ended(&after).await;
    assert_eq!((end.id, end.success), (one.id, false));
}

#[tokio::test]
async fn what_the_server_refuses_is_told_with_what_to_do() {
    let server = ApiServer::start().await;
    let driver = driver(&server).await;
    let one = launch("refused", 1, IMAGE, CONTROL);
    server.applied_by_another("services", "refused--one", json!({}));
    let error = driver.start(one.clone()).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot start refused:one: somebody else manages"), "{error}");
    assert!(error.contains("conflict with \"helm\""), "{error}");

    let elsewhere = driver_in(&server, "no-such");
    let error = elsewhere.start(one.clone()).await.unwrap_err().to_string();
    assert!(error.contains("is there a namespace no-such?"), "{error}");
    let mut program = one.clone();
    program.assignment.definition.image = None;
    let error = driver.start(program).await.unwrap_err().to_string();
    assert!(error.contains("component `one` has no image"), "{error}");

    server.refuse(403);
    let error = driver.start(one.clone()).await.unwrap_err().to_string();
    assert!(error.contains("give the account a role in namespace shop with the verbs"), "{error}");
    server.refuse(401);
    let error = driver.running("refused").await.unwrap_err().to_string();
    assert!(error.contains("does not know who asks (Unauthorized)"), "{error}");
    let id = LaunchId { place: "refused:one".to_owned(), attempt: 1 };
    assert!(driver.stop(&id, LONG).await.is_err());
    drop(server);
    let error = driver.running("refused").await.unwrap_err().to_string();
    assert!(error.contains("the API server cannot be asked: "), "{error}");
}
