//! A client of a schema registry.

mod address;
mod answer;
mod error;
mod http;
mod patience;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::http::HeaderValue;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sheaf_flight::Secret;
use sheaf_retry::{SharedClock, Throttle};

use self::address::Address;
use self::answer::{Answered, Reference};
use self::http::{Http, MAX_BYTES};
use self::patience::Patience;
use crate::decode::RegisteredSchema;

pub use error::Error;

/// Schemas between a schema and one that it refers to, at most.
const MAX_DEPTH: usize = 32;
/// Schemas that one refers to, directly or not, at most.
const MAX_REFERENCES: usize = 256;
/// Ids of a registry are positive numbers of 32 bits with a sign.
const MAX_ID: u32 = i32::MAX.unsigned_abs();
/// While a registry does not answer, that is said once in so many seconds.
const WARN_EVERY: u32 = 30;

/// Where a registry is, and what it asks for.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Its address: `http://` or `https://`, with the path that all requests
    /// begin with, if there is one.
    pub url: String,
    /// User and password, for HTTP's basic authentication.
    pub login: Option<(String, Secret)>,
    /// CA certificates in PEM, one of which signed the registry's; without it
    /// those of the system are trusted.
    pub ca: Option<PathBuf>,
}

/// A schema registry as Confluent's, which is asked for schemas by their ids.
///
/// ```
/// use sheaf_kafka::{RegisteredKind, Registry, RegistryOptions};
/// use sheaf_retry::SystemClock;
/// use sheaf_testkit::{RegisteredSchema, SchemaRegistry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = SchemaRegistry::start()?;
/// let id = server.register("people-value", RegisteredSchema::avro(r#""string""#));
///
/// let options = RegistryOptions { url: server.url(), login: None, ca: None };
/// let registry = Registry::open(options, SystemClock::shared()).await?;
/// let schema = registry.schema(id).await?;
/// assert_eq!((schema.kind, &*schema.text), (RegisteredKind::Avro, r#""string""#));
/// # Ok(())
/// # }
/// ```
///
/// A request takes at most 5 seconds and its answer 16 MiB. Nothing is kept
/// between two requests: what a registry says is asked for again as often as it
/// is needed.
///
/// # Source
/// Confluent, "Schema Registry API reference".
#[derive(Debug)]
pub struct Registry {
    http: Http,
    clock: SharedClock,
    warnings: Mutex<Throttle>,
}

impl Registry {
    /// Reads certificates where the address is one of TLS; connects to nobody.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an address that is none, or a login that cannot be
    /// sent; [`Error::Tls`] where certificates are no use.
    pub async fn open(options: RegistryOptions, clock: SharedClock) -> Result<Self, Error> {
        let address: Address = options.url.parse()?;
        let authorization = match options.login {
            None => None,
            Some((user, password)) => Some(basic(&user, &password)?),
        };
        let http = Http::open(address, authorization, options.ca, &clock).await?;
        Ok(Registry { http, clock, warnings: Mutex::new(Throttle::new(1)) })
    }

    /// The schema of an id, with all that it refers to. It is asked for once:
    /// [`sheaf_retry::Retryable`] on the error says whether to ask again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn schema(&self, id: u32) -> Result<RegisteredSchema, Error> {
        if id == 0 || id > MAX_ID {
            return Err(Error::Missing { what: format!("schema {id}"), message: "no id".into() });
        }
        let Answered { kind, text, references } = self.get(&format!("/schemas/ids/{id}")).await?;
        let references = self.references(text.len(), references).await?;
        Ok(RegisteredSchema { kind, text, references })
    }

    /// The schema of an id, or why it cannot be had, which is believed: while
    /// the registry does not answer, or lets nobody in, it is asked again without
    /// end, and an answer that makes no sense has to come more than once.
    ///
    /// Cancel-safe: to be dropped when nobody wants the answer any more.
    pub(crate) async fn insist(&self, id: u32) -> Result<RegisteredSchema, String> {
        let mut patience = Patience::new(id);
        loop {
            let error = match self.schema(id).await {
                Ok(schema) => {
                    if patience.was_tried() {
                        tracing::info!(id, registry = %self.http.address, "the schema is there");
                    }
                    return Ok(schema);
                }
                Err(error) => error,
            };
            let Some(wait) = patience.after(&error) else {
                let error = error.whole();
                tracing::warn!(id, error, registry = %self.http.address, "a schema is no use");
                return Err(error);
            };
            self.warn(id, &error, wait);
            self.clock.sleep(wait).await;
        }
    }

    fn warn(&self, id: u32, error: &Error, wait: Duration) {
        // Its window is a second, of time that passes slower here.
        let now = self.clock.elapsed() / WARN_EVERY;
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.admit(now).is_some() {
            let error = error.whole();
            tracing::warn!(id, error, ?wait, "messages wait for their schema");
        }
    }

    async fn get(&self, path: &str) -> Result<Answered, Error> {
        let response = self.http.get(path).await?;
        answer::read(path, &response)
    }

    /// Name and text of all that is referred to.
    async fn references(
        &self,
        mut bytes: usize,
        first: Vec<Reference>,
    ) -> Result<Vec<(String, String)>, Error> {
        let mut known: BTreeMap<String, Place> = BTreeMap::new();
        let mut all = Vec::new();
        // Each with the way that leads to it.
        let mut open: Vec<(Reference, Vec<Place>)> =
            first.into_iter().rev().map(|reference| (reference, Vec::new())).collect();
        while let Some((reference, mut way)) = open.pop() {
            let Reference { name, subject, version } = reference;
            let place = (subject, version);
            if way.contains(&place) {
                let (subject, version) = place;
                return Err(Error::Cycle { subject, version });
            }
            if way.len() == MAX_DEPTH || all.len() == MAX_REFERENCES {
                return Err(Error::TooMany { depth: MAX_DEPTH, count: MAX_REFERENCES });
            }
            match known.get(&name) {
                Some(same) if *same == place => continue,
                Some(_) => return Err(Error::Ambiguous { name }),
                None => {}
            }
            let subject = utf8_percent_encode(&place.0, NON_ALPHANUMERIC);
            let path = format!("/subjects/{subject}/versions/{}", place.1);
            let answered = self.get(&path).await?;
            bytes += answered.text.len();
            if bytes > MAX_BYTES {
                return Err(Error::TooLarge { path, limit: MAX_BYTES });
            }
            known.insert(name.clone(), place.clone());
            all.push((name, answered.text));
            way.push(place);
            let further = answered.references.into_iter().rev();
            open.extend(further.map(|reference| (reference, way.clone())));
        }
        Ok(all)
    }
}

/// Subject and version.
type Place = (String, i32);

fn basic(user: &str, password: &Secret) -> Result<HeaderValue, Error> {
    if user.is_empty() || user.contains(':') {
        return Err(Error::Invalid(
            "the user of a schema registry is empty, or has a colon".into(),
        ));
    }
    let text = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
    let value = HeaderValue::try_from(format!("Basic {text}"));
    let mut value = value.map_err(|_| Error::Invalid("the login cannot be sent".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
