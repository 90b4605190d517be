//! The client of a bucket: ring, and certificates of the system.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, RetryConfig};
use rustls::{ClientConfig, RootCertStore};

use super::Bucket;
use crate::error::Error;
use crate::topic_files::spec::{FilesSpec, Target};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a whole request may take: a file of 64 MB at four megabits a second.
const REQUEST: Duration = Duration::from_secs(130);
/// How long, and how often, the client itself tries; after that the caller does.
const RETRY_FOR: Duration = Duration::from_secs(10);
const RETRIES: usize = 3;

impl Bucket {
    pub(in crate::topic_files) fn connect(spec: &FilesSpec) -> Result<Self, Error> {
        let Target::Bucket { bucket, prefix, endpoint, region } = &spec.target else {
            return Err(Error::Invalid(format!("{spec} is no bucket")));
        };
        let place = spec.to_string();
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(format!("{place}: {error}"));
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &spec.settings {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        builder =
            builder.with_bucket_name(bucket).with_conditional_put(S3ConditionalPut::ETagMatch);
        if let Some(region) = region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let asked = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let is_plain = asked.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
            ..RetryConfig::default()
        };
        let connector = Connector { tls: tls().map_err(|error| invalid(&error))? };
        let store = builder
            .with_allow_http(is_plain)
            .with_retry(retry)
            .with_http_connector(connector)
            .build()
            .map_err(|error| invalid(&error))?;
        let prefix = Path::parse(prefix).map_err(|error| invalid(&error))?;
        Ok(Bucket { store: Arc::new(store), prefix, place })
    }
}

/// Trusts what the system trusts.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(config?.with_root_certificates(roots).with_no_client_auth())
}

/// Makes HTTP clients, which would else look for a TLS provider that we do not build.
#[derive(Debug)]
struct Connector {
    tls: ClientConfig,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // The machine's own service for credentials is asked without TLS as well.
        let is_plain = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(is_plain.as_deref() != Some("true"))
            // Libraries do not read the environment.
            .no_proxy()
            .user_agent(concat!("sheaf/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .build();
        let client = client.map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(client))
    }
}
