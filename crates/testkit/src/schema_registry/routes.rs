//! The registry's REST interface.

use std::net::TcpListener;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Router, serve};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheaf_retry::SystemClock;

use super::catalog::{Refusal, RegisteredSchema, Version};
use super::{RegistryFault, Shared, lock};
use crate::Error;
use crate::background::Background;

type Registry = State<Arc<Shared>>;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Serves on a thread of its own.
pub(super) fn start(listener: TcpListener, shared: Arc<Shared>) -> Result<Background, Error> {
    Background::start_on("schema-registry", listener, move |listener| async move {
        // It ends with its listener, when it is dropped.
        drop(serve(listener, router(shared)).await);
    })
}

/// What the header `Authorization` is for this login.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(|| async { answer(&json!({})) }))
        .route("/schemas/types", get(|| async { answer(&["JSON", "PROTOBUF", "AVRO"]) }))
        .route("/schemas/ids/{id}", get(schema))
        .route("/schemas/ids/{id}/schema", get(schema_text))
        .route("/schemas/ids/{id}/versions", get(schema_versions))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_text))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, 404, "HTTP 404 Not Found") })
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

/// Remembers the request, asks for the login and applies the fault.
async fn guard(State(shared): Registry, request: Request, next: Next) -> Response {
    shared.record(format!("{} {}", request.method(), request.uri()));
    let login = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if shared.authorization.as_ref().is_some_and(|wanted| login != Some(wanted.as_bytes())) {
        let mut refused = refuse(StatusCode::UNAUTHORIZED, 401, "Unauthorized");
        let challenge = HeaderValue::from_static("Basic realm=\"SchemaRegistry\"");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return refused;
    }
    let fault = lock(&shared.fault).clone();
    match fault {
        None => next.run(request).await,
        Some(RegistryFault::Delay(delay)) => {
            SystemClock::shared().sleep(delay).await;
            next.run(request).await
        }
        Some(RegistryFault::Hang) => std::future::pending().await,
        Some(RegistryFault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            refuse(status, u32::from(status.as_u16()), "the test wants it so")
        }
        Some(RegistryFault::Body(body)) => raw(body),
        Some(RegistryFault::Schema(schema)) => {
            let asked_for_schema = request.uri().path().starts_with("/schemas/ids/");
            let answered = next.run(request).await;
            if asked_for_schema { answer(&json!({ "schema": schema })) } else { answered }
        }
        Some(RegistryFault::Truncated) => truncate(next.run(request).await).await,
    }
}

/// The head of the whole, and a body that breaks off in the middle.
async fn truncate(whole: Response) -> Response {
    let (mut head, body) = whole.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = bytes.slice(..bytes.len() / 2);
    let cut = [Ok(half), Err(std::io::Error::other("cut off"))];
    Response::from_parts(head, Body::from_stream(futures::stream::iter(cut)))
}

#[derive(Deserialize)]
struct Format {
    format: Option<String>,
}

async fn schema(
    State(shared): Registry,
    Path(id): Path<String>,
    Query(query): Query<Format>,
) -> Response {
    let catalog = lock(&shared.catalog);
    let schema = match catalog.schema(number(&id)) {
        Ok(schema) => schema,
        Err(refusal) => return refusal.into_response(),
    };
    match (query.format.as_deref(), &schema.serialized) {
        (Some("serialized"), Some(bytes)) => {
            let text = BASE64_STANDARD.encode(bytes);
            answer(&RegisteredSchema { schema: text, ..schema.clone() })
        }
        (Some("serialized"), None) => Refusal::invalid("no compiled form of it").into_response(),
        // As the real one does with formats that it does not know.
        _ => answer(schema),
    }
}

async fn schema_text(State(shared): Registry, Path(id): Path<String>) -> Response {
    let catalog = lock(&shared.catalog);
    let found = catalog.schema(number(&id));
    found.map_or_else(Refusal::into_response, |schema| raw(schema.schema.clone()))
}

async fn schema_versions(State(shared): Registry, Path(id): Path<String>) -> Response {
    let catalog = lock(&shared.catalog);
    let found = catalog.versions_of(number(&id));
    let place = |found: Version<'_>| json!({"subject": found.subject, "version": found.version});
    respond(found.map(|all| all.into_iter().map(place).collect::<Vec<_>>()))
}

async fn subjects(State(shared): Registry) -> Response {
    answer(&lock(&shared.catalog).subjects())
}

async fn versions(State(shared): Registry, Path(subject): Path<String>) -> Response {
    let catalog = lock(&shared.catalog);
    let found = catalog.versions(&subject);
    respond(found.map(|all| all.iter().map(|found| found.version).collect::<Vec<_>>()))
}

async fn register(State(shared): Registry, Path(subject): Path<String>, body: Bytes) -> Response {
    let registered =
        read(&body).and_then(|schema| lock(&shared.catalog).register(&subject, schema));
    respond(registered.map(|id| json!({ "id": id })))
}

async fn lookup(State(shared): Registry, Path(subject): Path<String>, body: Bytes) -> Response {
    let catalog = lock(&shared.catalog);
    let found = read(&body).and_then(|schema| catalog.lookup(&subject, &schema));
    respond(found.map(|found| describe(&found)))
}

async fn version(
    State(shared): Registry,
    Path((subject, version)): Path<(String, String)>,
) -> Response {
    let catalog = lock(&shared.catalog);
    respond(catalog.version(&subject, &version).map(|found| describe(&found)))
}

async fn version_text(
    State(shared): Registry,
    Path((subject, version)): Path<(String, String)>,
) -> Response {
    let catalog = lock(&shared.catalog);
    let found = catalog.version(&subject, &version);
    found.map_or_else(Refusal::into_response, |found| raw(found.schema.schema.clone()))
}

/// What is no number is no id of a schema.
fn number(id: &str) -> u32 {
    id.parse().unwrap_or(0)
}

fn read(body: &[u8]) -> Result<RegisteredSchema, Refusal> {
    serde_json::from_slice(body).map_err(Refusal::invalid)
}

/// A version with its schema, in the form of all answers that name both.
fn describe(found: &Version<'_>) -> Value {
    let mut answer = json!(found.schema);
    answer["subject"] = json!(found.subject);
    answer["version"] = json!(found.version);
    answer["id"] = json!(found.id);
    answer
}

fn respond(result: Result<impl Serialize, Refusal>) -> Response {
    result.map_or_else(Refusal::into_response, |value| answer(&value))
}

fn answer(value: &impl Serialize) -> Response {
    serde_json::to_vec(value)
        .map_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response(), raw)
}

fn raw(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], body.into()).into_response()
}

fn refuse(status: StatusCode, code: u32, message: &str) -> Response {
    (status, answer(&json!({"error_code": code, "message": message}))).into_response()
}

impl Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        refuse(status, self.code, &self.message)
    }
}
