//! What went wrong with a handshake, in words for people.

use rustls::{AlertDescription, CertificateError, InvalidMessage};
use sheaf_retry::Code;

/// Code and text of a failure of this end's handshake as a client, where TLS
/// is what failed; `None` where it was the network.
pub(crate) fn explain(error: &std::io::Error) -> Option<(Code, String)> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match inner {
        rustls::Error::InvalidCertificate(why) => (
            Code::Unauthenticated,
            format!("the certificate of the server is not accepted: {}", certificate(why)),
        ),
        rustls::Error::AlertReceived(alert) => match refusal(*alert) {
            Some(why) => (
                Code::Unauthenticated,
                format!("the server does not accept the certificate of this client: {why}"),
            ),
            None => (Code::Unavailable, format!("the server ended the TLS handshake: {alert:?}")),
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            Code::FailedPrecondition,
            "what answers there speaks no TLS; use grpc:// if that is meant".to_owned(),
        ),
        other => (Code::FailedPrecondition, format!("the TLS handshake failed: {other}")),
    })
}

fn certificate(why: &CertificateError) -> String {
    match why {
        // A CA of the same name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is signed by no CA of the CA file".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check the clocks".to_owned()
        }
        other => other.to_string(),
    }
}

/// Alerts by which a server turns a client's certificate down.
fn refusal(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired => "it has none, and the server requires one",
        AlertDescription::UnknownCA => "it is signed by no CA that the server knows",
        AlertDescription::CertificateExpired => "it has expired",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => "it cannot be used here",
        _ => return None,
    })
}
