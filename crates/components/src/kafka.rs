//! What the source and the sink of Kafka have in common.

use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::{KafkaSecurity, SaslMechanism};

use crate::failure::refused;
use crate::host::Host;
use crate::secrets;

/// How to get in, as properties of librdkafka.
pub(crate) async fn security(
    security: &KafkaSecurity,
    host: &Host,
) -> Result<Vec<(String, String)>, ComponentError> {
    let KafkaSecurity { tls, ca_file, mechanism, username, password } = security;
    if ca_file.is_some() && !tls {
        return Err(refused("config.security.caFile is for TLS: set `tls: true`"));
    }
    let username = secrets::maybe_text(host, "config.security.username", username.as_ref()).await?;
    let password =
        secrets::maybe_secret(host, "config.security.password", password.as_ref()).await?;
    let mut properties = Vec::new();
    let mut set = |name: &str, value: &str| properties.push((name.to_owned(), value.to_owned()));
    set(
        "security.protocol",
        match (tls, mechanism.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        },
    );
    if let Some(file) = ca_file {
        set("ssl.ca.location", file);
    }
    match (mechanism, &username, &password) {
        (Some(mechanism), Some(username), Some(password)) => {
            set(
                "sasl.mechanism",
                match mechanism {
                    SaslMechanism::Plain => "PLAIN",
                    SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                    SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
                },
            );
            set("sasl.username", username.expose());
            set("sasl.password", password.expose());
        }
        (None, None, None) => {}
        (Some(_), ..) => {
            return Err(refused("config.security: a mechanism needs username and password"));
        }
        (None, ..) => {
            return Err(refused(
                "config.security: a username and a password need the mechanism by which they are \
                 told, such as scram-sha-256",
            ));
        }
    }
    Ok(properties)
}
