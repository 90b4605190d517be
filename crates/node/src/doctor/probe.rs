//! `sheaf doctor --probe`: whether the server of a configuration takes work,
//! for health checks of containers and orchestrators.

use sheaf_flight::{ClientSecurity, TokenSource};
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_terminal::Failure;

use super::gather::get;
use super::peer::serving;
use super::ports::own;
use crate::config::{Config, Mode};

/// Asks the port of the server, or the admin port of workers; needs no token.
pub(super) async fn probe(config: &Config, clock: &SharedClock) -> Result<(), Failure> {
    let tls = config.security().has_tls();
    let (address, flag) = match config.mode() {
        Mode::Worker => (config.admin_addr(), "--admin-addr"),
        Mode::All | Mode::Flight | Mode::Coordinator => (config.flight_addr(), "--flight-addr"),
    };
    if address.port == 0 {
        let text = format!("{flag} is on any free port: nobody knows which");
        let failure = Failure::new(Code::InvalidArgument, text);
        return Err(failure.help(format!("name a port with {flag}")));
    }
    let address = own(address, tls);
    if config.mode() == Mode::Worker {
        if tls {
            let text = "the admin port speaks TLS, which a probe of workers does not";
            let failure = Failure::new(Code::Unimplemented, text);
            return Err(failure.help("have the orchestrator ask /readyz itself"));
        }
        return match get(&address, "/readyz", clock).await {
            Ok((200, _)) => Ok(()),
            Ok((_, why)) => Err(Failure::new(Code::Unavailable, why.trim_end().to_owned())),
            Err((code, why)) => Err(Failure::new(code, why)),
        };
    }
    let client = config.security().client();
    let security = ClientSecurity { token: TokenSource::None, ..client.clone() };
    match serving(&address, security, clock).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Code::Unavailable, format!("{address} takes no work"))),
        Err(error) => Err(Failure::new(error.code(), error.message())),
    }
}
