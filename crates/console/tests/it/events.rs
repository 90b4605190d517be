//! Figures as they come.

use std::time::Duration;

use sheaf_console::MAX_STREAMS;
use sheaf_testkit::wait_until_async;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::world::{FILE, World};

const TIME: Duration = Duration::from_secs(30);

/// A connection that listens, and the status that it got.
async fn listen(world: &World, pipeline: &str) -> (u16, BufReader<TcpStream>) {
    let address = world.admin.local_addr();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /api/events?pipeline={pipeline} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    (status, stream)
}

/// The figures of the next event; `None` at the end.
async fn event(stream: &mut BufReader<TcpStream>) -> Option<serde_json::Value> {
    let mut line = String::new();
    loop {
        line.clear();
        // The end of the answer, or of the connection.
        if stream.read_line(&mut line).await.unwrap() == 0 || line == "0\r\n" {
            return None;
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some(serde_json::from_str(data).unwrap());
        }
    }
}

#[tokio::test]
async fn figures_of_one_pipeline_come_again_and_again() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    world.plan("other", &FILE.replace("shop", "other")).await;
    let (status, mut stream) = listen(&world, "shop").await;
    assert_eq!(status, 200);
    let first = event(&mut stream).await.unwrap();
    let second = event(&mut stream).await.unwrap();
    assert!(first["at_ms"].as_u64().unwrap() < second["at_ms"].as_u64().unwrap());
    let places: Vec<&str> = second["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["place"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["shop:large", "shop:large.1", "shop:orders", "shop:out"]);
    let one = &second["components"][1];
    assert_eq!((&one["component"], &one["status"]), (&"large".into(), &"expected".into()));
    assert_eq!(second["pipelines"].as_array().unwrap().len(), 2, "the states of all");
    let history = world.get("/api/history?pipeline=shop").await.json();
    assert_eq!(history["window_ms"], 900_000);
    assert_eq!(history["components"], serde_json::json!({}), "nobody is there who tells anything");
}

#[tokio::test]
async fn so_many_listen_and_no_more_and_a_place_is_free_when_one_has_gone() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    let mut all = Vec::new();
    for _ in 0..MAX_STREAMS {
        let (status, stream) = listen(&world, "shop").await;
        assert_eq!(status, 200);
        all.push(stream);
    }
    let answer = world.get("/api/events?pipeline=shop").await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "overloaded"));
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    // Everything else is answered as before.
    assert_eq!(world.get("/api/pipelines").await.status, 200);
    drop(all.pop());
    wait_until_async(TIME, "a place", async || listen(&world, "shop").await.0 == 200)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_listener_does_not_hold_up_the_end() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    let (_, mut stream) = listen(&world, "shop").await;
    event(&mut stream).await.unwrap();
    world.console.stop();
    while event(&mut stream).await.is_some() {}
    tokio::time::timeout(TIME, world.admin.shutdown()).await.unwrap();
}
