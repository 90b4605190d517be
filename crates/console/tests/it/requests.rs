//! Who is answered what.

use serde_json::json;

use crate::world::{FILE, HOSTILE, World};

#[tokio::test]
async fn the_page_and_its_files_say_what_browsers_may_do_with_them() {
    let world = World::start().await;
    for path in ["/", "/page/main.js", "/page/theme.css", "/page/icon.svg", "/api/pipelines"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        for wanted in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(answer.head.contains(wanted), "{path}: {wanted} is not in {}", answer.head);
        }
        assert!(!answer.head.contains("access-control-allow"), "{path}");
    }
    assert_eq!(world.get("/metrics").await.status, 200);
    assert_eq!(world.get("/healthz").await.body, "ok\n");
    assert_eq!(world.get("/page/../Cargo.toml").await.status, 404);
}

#[tokio::test]
async fn what_shows_more_or_changes_something_needs_the_token() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    world.fail(&["b:1"], "orders", "no").await;
    let json = "content-type: application/json\r\n";
    let requeue = json!({"pipeline": "shop", "ids": ["b:1"]}).to_string();
    let stop = json!({"pipeline": "shop"}).to_string();
    let restart = json!({"pipeline": "shop", "component": "out"}).to_string();
    let calls = [
        ("GET /api/logs?pipeline=shop", ""),
        ("GET /api/batches?pipeline=shop", ""),
        ("POST /api/requeue", &requeue),
        ("POST /api/restart", &restart),
        ("POST /api/stop", &stop),
    ];
    let near = format!("authorization: Bearer {}x\r\n", world.token);
    let part = format!("authorization: Bearer {}\r\n", &world.token[1..]);
    let basic = format!("authorization: Basic {}\r\n", world.token);
    let cookie = format!("cookie: token={}\r\n", world.token);
    for (call, body) in calls {
        for wrong in ["", "authorization: Bearer \r\n", &near, &part, &basic, &cookie] {
            let answer = world.ask(call, &format!("{json}{wrong}"), body).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{call}");
            assert!(!answer.body.contains(&world.token), "{call}");
        }
    }
    let counts = world.get_with("/api/batches?pipeline=shop").await.json();
    assert_eq!(counts["counts"]["failed"], 1, "nothing was changed");
    let headers = format!("{json}{}", world.bearer());
    assert_eq!(world.ask("POST /api/requeue", &headers, &requeue).await.status, 200);
}

#[tokio::test]
async fn a_page_of_elsewhere_is_refused_even_with_the_token() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    world.fail(&["b:1"], "orders", "no").await;
    let address = world.admin.local_addr();
    let body = json!({"pipeline": "shop", "ids": ["b:1"]}).to_string();
    let own = format!("{}content-type: application/json\r\n", world.bearer());
    for headers in [
        "origin: https://evil.example\r\n".to_owned(),
        "origin: null\r\n".to_owned(),
        format!("origin: http://localhost:{}\r\n", address.port()),
        format!("origin: http://127.0.0.1:{}\r\n", address.port() ^ 1),
        "sec-fetch-site: cross-site\r\n".to_owned(),
        "sec-fetch-site: same-site\r\n".to_owned(),
        "host: evil.example\r\n".to_owned(),
        format!("host: evil.example:{}\r\n", address.port()),
    ] {
        let answer = world.ask("POST /api/requeue", &format!("{own}{headers}"), &body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "permission_denied"),
            "{headers}"
        );
        let answer = world.ask("GET /api/pipelines", &headers, "").await;
        assert_eq!(answer.status, 403, "{headers}");
    }
    // A browser asks before it sends a header of ours from elsewhere: it is not allowed.
    let preflight = "origin: https://evil.example\r\naccess-control-request-method: POST\r\n";
    let answer = world.ask("OPTIONS /api/requeue", preflight, "").await;
    assert_eq!(answer.status, 403);
    assert!(!answer.head.contains("access-control-allow"));
    let counts = world.get_with("/api/batches?pipeline=shop").await.json();
    assert_eq!(counts["counts"]["failed"], 1, "nothing was changed");
    let same = format!("{own}origin: http://{address}\r\nsec-fetch-site: same-origin\r\n");
    assert_eq!(world.ask("POST /api/requeue", &same, &body).await.status, 200);
}

#[tokio::test]
async fn pipelines_come_with_their_runs_and_a_picture_and_without_secrets() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    world.plan("broken", "not a pipeline any more").await;
    let all = world.get("/api/pipelines").await.json();
    let shop =
        all["pipelines"].as_array().unwrap().iter().find(|one| one["summary"]["id"] == "shop");
    let shop = shop.unwrap();
    assert_eq!(shop["summary"]["state"], "starting");
    assert_eq!((&shop["runs"][0]["run"], &shop["has_coordinator"]), (&1.into(), &true.into()));
    let picture = world.get("/api/picture?pipeline=shop").await.json();
    let boxes = picture["picture"]["boxes"].as_array().unwrap();
    assert_eq!(boxes.len(), 3);
    let large = boxes.iter().find(|one| one["id"] == "large").unwrap();
    assert_eq!((&large["instances"], &large["role"]), (&2.into(), &"processor".into()));
    assert_eq!(picture["picture"]["lines"][1]["durable"], true);
    // What cannot be drawn any more is still told of.
    assert_eq!(world.get("/api/picture?pipeline=broken").await.json()["picture"], json!(null));
    let answer = world.get("/api/picture?pipeline=other").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    for path in ["/api/pipelines", "/api/picture?pipeline=shop", "/api/history?pipeline=shop"] {
        let body = world.get(path).await.body;
        assert!(!body.contains(&world.token) && !body.contains("digest"), "{path}: {body}");
    }
}

#[tokio::test]
async fn requests_that_are_wrong_are_told_what_is() {
    let world = World::start().await;
    world.plan("shop", FILE).await;
    let code = |answer: crate::world::Answer| (answer.status, answer.code());
    let long = "x".repeat(1_000);
    for (path, status, expected) in [
        ("/api/logs?pipeline=shop&tail=999999", 400, "limit_exceeded"),
        ("/api/logs?pipeline=other", 404, "not_found"),
        ("/api/logs?pipeline=shop&component=nobody", 404, "not_found"),
        ("/api/batches?pipeline=other", 404, "not_found"),
        ("/api/batches?pipeline=shop&state=odd", 400, "invalid_argument"),
        ("/api/batches", 400, "invalid_argument"),
        (&*format!("/api/proof?nonce={long}"), 400, "limit_exceeded"),
    ] {
        let (found, told) = code(world.get_with(path).await);
        assert_eq!((found, told.as_str()), (status, expected), "{path}");
    }
    for (path, body) in [
        ("/api/stop", json!({"pipeline": "shop", "more": 1})),
        ("/api/stop", json!([])),
        ("/api/restart", json!({"pipeline": "shop", "component": ""})),
        ("/api/requeue", json!({"pipeline": "shop"})),
        ("/api/requeue", json!({"pipeline": "shop", "ids": ["a"], "queue": "q"})),
        ("/api/requeue", json!({"pipeline": "shop", "ids": [HOSTILE.repeat(99)]})),
    ] {
        let (found, told) = code(world.post(path, &body).await);
        assert_eq!((found, told.as_str()), (400, "invalid_argument"), "{path} {body}");
    }
    let many: Vec<String> = (0..1_001).map(|n| format!("b:{n}")).collect();
    let answer = world.post("/api/requeue", &json!({"pipeline": "shop", "ids": many})).await;
    assert_eq!(answer.code(), "limit_exceeded");
    let answer = world.post("/api/requeue", &json!({"pipeline": "x".repeat(300 << 10)})).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    for path in ["/api/stop", "/api/restart"] {
        let body = json!({"pipeline": "shop", "component": "out"});
        let body = if path == "/api/stop" { json!({"pipeline": "shop"}) } else { body };
        assert_eq!(world.post(path, &body).await.code(), "not_found", "nothing runs");
    }
    // A form of a page, which needs no permission to be sent, is none of ours.
    let form = format!("{}content-type: text/plain\r\n", world.bearer());
    let answer = world.ask("POST /api/stop", &form, r#"{"pipeline": "shop"}"#).await;
    assert_eq!(answer.code(), "invalid_argument");
}

#[tokio::test]
async fn only_who_has_the_token_proves_it() {
    let world = World::start().await;
    let proof = |answer: crate::world::Answer| answer.json()["proof"].as_str().unwrap().to_owned();
    let (one, two) = (world.get("/api/proof?nonce=1").await, world.get("/api/proof?nonce=2").await);
    let (one, two) = (proof(one), proof(two));
    assert!(one != two && one.len() == 64 && !one.contains(&world.token));
}
