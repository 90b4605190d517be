//! An API server of Kubernetes, as far as the driver asks one: it reads every body as the type
//! that the path names, refuses what is of another form, and keeps who applied what.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

/// The namespace that there is.
pub(crate) const NAMESPACE: &str = "shop";

/// The server. It ends with this value.
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
    pub(crate) uri: String,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    state: Mutex<Cluster>,
    events: broadcast::Sender<(String, Value)>,
    /// Counts up: watches of before end.
    cut: watch::Sender<u64>,
}

#[derive(Default)]
struct Cluster {
    version: u64,
    /// By plural and name: who applied it, and the object.
    objects: BTreeMap<(String, String), (String, Value)>,
    /// The answer to every request, such as 401.
    refuse: Option<u16>,
    /// Versions before this one are forgotten.
    oldest: u64,
    /// Whether a deleted pod stays until it is told to go.
    slow: bool,
    /// Seconds that deleted pods were given, by name.
    grace: BTreeMap<String, i64>,
    watches: usize,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let (events, _) = broadcast::channel(256);
        let shared = Shared { state: Mutex::default(), events, cut: watch::channel(0).0 };
        let shared = Arc::new(shared);
        let one = get(read).patch(apply).delete(delete);
        let router = Router::new()
            .route("/api/v1/namespaces/{namespace}/{plural}", get(list))
            .route("/api/v1/namespaces/{namespace}/{plural}/{name}", one.clone())
            .route("/apis/networking.k8s.io/v1/namespaces/{namespace}/{plural}", get(list))
            .route("/apis/networking.k8s.io/v1/namespaces/{namespace}/{plural}/{name}", one)
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let uri = format!("http://{}", listener.local_addr().expect("it listens"));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        ApiServer { shared, uri, task }
    }

    /// Every request is answered so from now on.
    pub(crate) fn refuse(&self, code: u16) {
        self.shared.state().refuse = Some(code);
    }

    /// Pods that are deleted stay until [`ApiServer::finish`].
    pub(crate) fn slow(&self) {
        self.shared.state().slow = true;
    }

    /// An object as it is kept.
    pub(crate) fn object(&self, plural: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), name.to_owned());
        self.shared.state().objects.get(&key).map(|(_, object)| object.clone())
    }

    /// The names of a kind.
    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        let state = self.shared.state();
        let names = state.objects.keys().filter(|(kind, _)| kind == plural);
        names.map(|(_, name)| name.clone()).collect()
    }

    /// The seconds that a deleted pod was given.
    pub(crate) fn grace(&self, name: &str) -> Option<i64> {
        self.shared.state().grace.get(name).copied()
    }

    /// Somebody else applies an object.
    pub(crate) fn applied_by_another(&self, plural: &str, name: &str, object: Value) {
        let mut state = self.shared.state();
        state.version += 1;
        let key = (plural.to_owned(), name.to_owned());
        state.objects.insert(key, ("helm".to_owned(), object));
    }

    /// What the node says of a pod.
    pub(crate) fn status(&self, pod: &str, status: Value) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version.to_string();
        let key = ("pods".to_owned(), pod.to_owned());
        let (_, object) = state.objects.get_mut(&key).expect("the pod is there");
        object["status"] = status;
        object["metadata"]["resourceVersion"] = version.into();
        let object = object.clone();
        drop(state);
        self.shared.tell("MODIFIED", object);
    }

    /// A pod goes, as its node has ended it.
    pub(crate) fn finish(&self, pod: &str) {
        self.shared.remove("pods", pod);
    }

    /// Ends all watches and forgets the versions so far; pods that go now are not told of.
    pub(crate) fn deafen(&self, then: impl FnOnce(&Self)) {
        then(self);
        let mut state = self.shared.state();
        state.version += 1;
        state.oldest = state.version;
        drop(state);
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Removes a pod without telling anybody.
    pub(crate) fn lose(&self, pod: &str) {
        let key = ("pods".to_owned(), pod.to_owned());
        assert!(self.shared.state().objects.remove(&key).is_some());
    }

    pub(crate) fn watches(&self) -> usize {
        self.shared.state().watches
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Cluster> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kind: &str, object: Value) {
        // Without a watch nobody is told.
        drop(self.events.send((kind.to_owned(), object)));
    }

    fn remove(&self, plural: &str, name: &str) -> Option<Value> {
        let mut state = self.state();
        state.version += 1;
        let version = state.version.to_string();
        let (_, mut object) = state.objects.remove(&(plural.to_owned(), name.to_owned()))?;
        drop(state);
        object["metadata"]["resourceVersion"] = version.into();
        if plural == "pods" {
            self.tell("DELETED", object.clone());
        }
        Some(object)
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message });
    let code = StatusCode::from_u16(code).expect("it is a status");
    (code, Json(status)).into_response()
}

/// What is said before anything else is looked at.
#[allow(clippy::result_large_err, reason = "it is the answer")]
fn admitted(shared: &Shared, namespace: &str) -> Result<(), Response> {
    match shared.state().refuse {
        Some(401) => return Err(failure(401, "Unauthorized", "Unauthorized")),
        Some(code) => {
            let message = "pods is forbidden: User \"x\" cannot create resource \"pods\"";
            return Err(failure(code, "Forbidden", message));
        }
        None => {}
    }
    match namespace == NAMESPACE {
        true => Ok(()),
        false => Err(failure(404, "NotFound", &format!("namespaces \"{namespace}\" not found"))),
    }
}

async fn read(
    State(shared): State<Arc<Shared>>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
) -> Response {
    if let Err(refused) = admitted(&shared, &namespace) {
        return refused;
    }
    match shared.state().objects.get(&(plural, name.clone())) {
        Some((_, object)) => Json(object.clone()).into_response(),
        None => failure(404, "NotFound", &format!("{name} not found")),
    }
}

/// The object of a body, as the type of its path writes it; nothing may be lost by that.
fn typed<T: DeserializeOwned + Serialize>(body: &Value) -> Result<Value, String> {
    let object: T = serde_json::from_value(body.clone()).map_err(|error| error.to_string())?;
    let object = serde_json::to_value(object).map_err(|error| error.to_string())?;
    match object == *body {
        true => Ok(object),
        false => Err(format!("unknown fields: {body} is read as {object}")),
    }
}

fn checked(plural: &str, body: &Value) -> Result<Value, String> {
    match plural {
        "pods" => typed::<Pod>(body),
        "secrets" => typed::<Secret>(body),
        "services" => typed::<Service>(body),
        "persistentvolumeclaims" => typed::<PersistentVolumeClaim>(body),
        "networkpolicies" => typed::<NetworkPolicy>(body),
        other => Err(format!("there is no {other}")),
    }
}

async fn apply(
    State(shared): State<Arc<Shared>>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = admitted(&shared, &namespace) {
        return refused;
    }
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok());
    let Some(manager) = query
        .get("fieldManager")
        .filter(|_| kind.is_some_and(|kind| kind.starts_with("application/apply-patch+yaml")))
    else {
        return failure(415, "UnsupportedMediaType", "this is no server-side apply");
    };
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return failure(400, "BadRequest", &error.to_string()),
    };
    let mut object = match checked(&plural, &body) {
        Ok(object) => object,
        Err(why) => return failure(422, "Invalid", &why),
    };
    if object["metadata"]["name"] != name.as_str() || object["metadata"]["namespace"] != NAMESPACE {
        return failure(422, "Invalid", "the name is not that of the path");
    }
    let mut state = shared.state();
    let key = (plural.clone(), name.clone());
    let there = state.objects.get(&key);
    let forced = query.get("force").is_some_and(|force| force == "true");
    if let Some((other, _)) = there.filter(|(other, _)| other != manager && !forced) {
        let message = format!("Apply failed with 1 conflict: conflict with \"{other}\": .spec");
        return failure(409, "Conflict", &message);
    }
    let is_new = there.is_none();
    state.version += 1;
    object["metadata"]["resourceVersion"] = state.version.to_string().into();
    object["metadata"]["uid"] = format!("uid-{}", state.version).into();
    if plural == "pods" && is_new {
        object["status"] = json!({ "phase": "Pending" });
    }
    state.objects.insert(key, (manager.clone(), object.clone()));
    drop(state);
    if plural == "pods" {
        shared.tell(if is_new { "ADDED" } else { "MODIFIED" }, object.clone());
    }
    Json(object).into_response()
}

async fn delete(
    State(shared): State<Arc<Shared>>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
    body: Bytes,
) -> Response {
    if let Err(refused) = admitted(&shared, &namespace) {
        return refused;
    }
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    {
        let mut state = shared.state();
        let key = (plural.clone(), name.clone());
        let Some((_, object)) = state.objects.get(&key) else {
            return failure(404, "NotFound", &format!("{plural} \"{name}\" not found"));
        };
        let object = object.clone();
        if let Some(grace) = options["gracePeriodSeconds"].as_i64() {
            state.grace.insert(name.clone(), grace);
        }
        if state.slow && plural == "pods" {
            return Json(object).into_response();
        }
    }
    match shared.remove(&plural, &name) {
        Some(object) => Json(object).into_response(),
        None => failure(404, "NotFound", &format!("{plural} \"{name}\" not found")),
    }
}

/// Whether an object has the labels that a selector asks for: `name=value` or `name`.
fn selected(object: &Value, selector: &str) -> bool {
    let labels = &object["metadata"]["labels"];
    selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
        Some((name, value)) => labels[name] == value,
        None => labels[part].is_string(),
    })
}

async fn list(
    State(shared): State<Arc<Shared>>,
    Path((namespace, plural)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Err(refused) = admitted(&shared, &namespace) {
        return refused;
    }
    let selector = query.get("labelSelector").cloned().unwrap_or_default();
    if query.get("watch").is_some_and(|watch| watch == "true") {
        let from = query.get("resourceVersion").and_then(|version| version.parse().ok());
        return follow(&shared, from.unwrap_or_default(), selector);
    }
    let state = shared.state();
    let items = state.objects.iter().filter(|((kind, _), _)| *kind == plural);
    let items = items.map(|(_, (_, object))| object).filter(|object| selected(object, &selector));
    let items: Vec<&Value> = items.collect();
    Json(json!({ "apiVersion": "v1", "kind": "List", "items": items,
        "metadata": {"resourceVersion": state.version.to_string()} }))
    .into_response()
}

/// Pods as they change from a version on, one line each, until the watches are cut.
fn follow(shared: &Arc<Shared>, from: u64, selector: String) -> Response {
    let mut state = shared.state();
    if from < state.oldest {
        return failure(410, "Expired", "too old resource version");
    }
    state.watches += 1;
    let events = shared.events.subscribe();
    // What has changed since the list was made.
    let changed = state.objects.iter().filter(|((kind, _), _)| kind == "pods");
    let changed: Vec<(String, Value)> = changed
        .map(|(_, (_, object))| object.clone())
        .filter(|object| {
            let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            version.parse::<u64>().is_ok_and(|version| version > from)
        })
        .map(|object| ("MODIFIED".to_owned(), object))
        .collect();
    drop(state);
    let mut cut = shared.cut.subscribe();
    cut.mark_unchanged();
    let later = futures::stream::unfold(events, |mut events| async move {
        events.recv().await.ok().map(|event| (event, events))
    });
    let lines = futures::stream::iter(changed)
        .chain(later)
        .filter(move |(_, object)| std::future::ready(selected(object, &selector)))
        .map(|(kind, object)| {
            Ok::<_, std::io::Error>(Bytes::from(
                json!({ "type": kind, "object": object }).to_string() + "\n",
            ))
        });
    let lines = lines.take_until(async move {
        drop(cut.changed().await);
    });
    Body::from_stream(lines).into_response()
}
