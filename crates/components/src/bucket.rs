//! Buckets, as sources and sinks open them.

use sheaf_connectors::{FilesSpec, Objects};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::Storage;

use crate::failure::failed;
use crate::host::Host;
use crate::secrets;

/// Variables of the environment that Amazon's own tools read too, where nothing else is said.
const VARIABLES: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
];

/// The objects below `s3://BUCKET/PREFIX`.
pub(crate) async fn open(
    place: &str,
    storage: &Storage,
    host: &Host,
) -> Result<Objects, ComponentError> {
    let wrong = || failed("config.path and config.storage name no bucket that can be used");
    let mut spec: FilesSpec = place.parse().map_err(wrong())?;
    let key = storage.access_key_id.as_ref();
    let key = secrets::maybe_text(host, "config.storage.accessKeyId", key).await?;
    let secret = storage.secret_access_key.as_ref();
    let secret = secrets::maybe_secret(host, "config.storage.secretAccessKey", secret).await?;
    let is_anonymous = key.is_none() && secret.is_none();
    for name in VARIABLES {
        let is_login = !name.contains("REGION") && !name.contains("ENDPOINT");
        if is_login && !is_anonymous {
            continue;
        }
        if let Some(value) = (host.environment)(name) {
            spec = spec.with_setting(name, value);
        }
    }
    let given = [
        ("AWS_ACCESS_KEY_ID", key.as_ref().map(|key| key.expose())),
        ("AWS_SECRET_ACCESS_KEY", secret.as_ref().map(|secret| secret.expose())),
        ("AWS_ENDPOINT_URL", storage.endpoint.as_deref()),
        ("AWS_REGION", storage.region.as_deref()),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            spec = spec.with_setting(name, value);
        }
    }
    Objects::open(&spec).map_err(wrong())
}
