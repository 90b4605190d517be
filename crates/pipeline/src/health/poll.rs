//! One look at a health endpoint, bounded in time and bytes.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sheaf_flight::TlsFiles;
use sheaf_retry::{HumanDuration, SharedClock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Endpoint;
use crate::registry::{CERTIFICATE_HOST, Polled};

/// What is asked for.
pub const PATH: &str = "/health";
/// Bytes of an answer that are read: it has a status, the rest is for people.
const MAX_BYTES: usize = 16 << 10;
/// Bytes of the headers of an answer.
const MAX_HEADERS: usize = 16 << 10;

/// Looks at health endpoints, each time on a connection of its own: one that
/// stays open tells nothing of a server that takes no new ones.
#[derive(Clone, Debug)]
pub struct Poller {
    clock: SharedClock,
    timeout: Duration,
    tls: Option<TlsFiles>,
}

impl Poller {
    /// Looks that take at most `timeout`.
    pub fn new(timeout: Duration, clock: SharedClock) -> Self {
        Poller { clock, timeout, tls: None }
    }

    /// Looks also under TLS, at those whose certificate the CA of these files has signed.
    #[must_use]
    pub fn with_tls(self, tls: Option<TlsFiles>) -> Self {
        Poller { tls, ..self }
    }

    /// Whether the component says that it is well: any status of success.
    /// Redirections are not followed.
    pub async fn look(&self, endpoint: &Endpoint) -> Polled {
        self.look_at(endpoint, PATH).await
    }

    /// As [`Poller::look`], by another path.
    pub async fn look_at(&self, endpoint: &Endpoint, path: &str) -> Polled {
        // The text of an answer that is well is of no use.
        match self.ask(endpoint, path, 0).await {
            Ok((status, _)) if status.is_success() => Polled::Well,
            Ok((status, body)) => {
                let text = String::from_utf8_lossy(&body);
                Polled::Not(format!("{status} {text}").trim_end().to_owned())
            }
            Err(why) => Polled::Not(why),
        }
    }

    /// What the component answers there, at most `most` bytes of it.
    ///
    /// # Errors
    /// For people: nobody is there, it takes too long, it is longer, or it is no success.
    pub async fn fetch(
        &self,
        endpoint: &Endpoint,
        path: &str,
        most: usize,
    ) -> Result<Bytes, String> {
        match self.ask(endpoint, path, most).await? {
            (status, body) if status.is_success() => Ok(body),
            (status, _) => Err(format!("GET {}: {status}", endpoint.url(path))),
        }
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        path: &str,
        most: usize,
    ) -> Result<(StatusCode, Bytes), String> {
        tokio::select! {
            biased;
            answer = self.exchange(endpoint, path, most) => answer,
            () = self.clock.sleep(self.timeout) => {
                Err(format!("no answer within {}", HumanDuration(self.timeout)))
            }
        }
    }
}

impl Poller {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        path: &str,
        most: usize,
    ) -> Result<(StatusCode, Bytes), String> {
        let stream = TcpStream::connect(endpoint.dialled()).await;
        let stream = stream.map_err(|error| error.to_string())?;
        if !endpoint.is_tls() {
            return exchange(stream, endpoint, path, most).await;
        }
        let Some(tls) = self.tls.clone() else {
            return Err("it is asked under TLS, and there is no CA to know it by".to_owned());
        };
        let stream = tls.connect(stream, CERTIFICATE_HOST, &self.clock).await;
        exchange(stream.map_err(|error| error.to_string())?, endpoint, path, most).await
    }
}

/// `most` bytes are read of a success; more are an error, where any are wanted.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    endpoint: &Endpoint,
    path: &str,
    most: usize,
) -> Result<(StatusCode, Bytes), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEADERS);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| said(&error))?;
    let request = Request::get(path)
        .header(header::HOST, endpoint.authority())
        .header(header::USER_AGENT, "sheaf")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| said(&error))?;
    let mut answer = std::pin::pin!(async {
        let response = sender.send_request(request).await.map_err(|error| said(&error))?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            if most == 0 {
                return Ok((head.status, Bytes::new()));
            }
            let body = Limited::new(body, most).collect().await.map_err(|error| said(&*error))?;
            return Ok((head.status, body.to_bytes()));
        }
        // A long or broken text does not change what the status says.
        let body = Limited::new(body, MAX_BYTES).collect().await;
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok((head.status, text))
    });
    tokio::select! {
        answer = &mut answer => answer,
        // What ended the connection is the answer's error, if it was not whole.
        _ = connection => answer.await,
    }
}
