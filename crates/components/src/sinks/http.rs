//! Calls an address with each batch.

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Url};
use sheaf_dataflow::{ComponentError, Received, Sink, Start};
use sheaf_pipeline::spec::{FileFormat, HttpMethod, HttpSink};

use crate::encode;
use crate::failure::lost;
use crate::host::Host;
use crate::http;
use crate::identity::Identity;

/// The same for a batch that is sent again: who takes it can leave it out.
const KEY: &str = "idempotency-key";

/// One request for each batch that has rows.
pub(super) struct Call {
    client: Client,
    method: Method,
    url: Url,
    shown: String,
    headers: HeaderMap,
    format: FileFormat,
    identity: Identity,
    done: u64,
}

impl Call {
    pub(super) async fn open(
        config: &HttpSink,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let (url, shown) = http::address(&config.url)?;
        let mut headers = http::headers(host, &config.headers).await?;
        let media_type = HeaderValue::from_static(match config.format {
            FileFormat::Json => "application/x-ndjson",
            FileFormat::Csv => "text/csv",
            FileFormat::Parquet => "application/vnd.apache.parquet",
            FileFormat::Ipc => "application/vnd.apache.arrow.file",
        });
        headers.entry(CONTENT_TYPE).or_insert(media_type);
        Ok(Call {
            client: http::client(config.timeout.0)?,
            method: match config.method {
                HttpMethod::Post => Method::POST,
                HttpMethod::Put => Method::PUT,
            },
            url,
            shown,
            headers,
            format: config.format,
            identity: Identity::of(start),
            done: 0,
        })
    }

    async fn call(&self, received: &Received) -> Result<(), ComponentError> {
        let id = self.identity.id(received)?;
        let (format, batch) = (self.format, received.batch.clone());
        let encode = tokio::task::spawn_blocking(move || encode::file(format, &batch));
        let body = encode.await.map_err(lost)??;
        let request = self.client.request(self.method.clone(), self.url.clone());
        let request = request.headers(self.headers.clone()).header(KEY, id.as_str()).body(body);
        let answer = request.send().await.map_err(http::no_answer(&self.shown))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(http::refusal(&self.shown, status, &http::beginning(answer).await))
    }
}

#[async_trait]
impl Sink for Call {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if received.batch.num_rows() > 0 {
            self.call(received).await?;
        }
        self.done += 1;
        Ok(self.done)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.done)
    }
}
