//! Where components reach the control plane.

use sheaf_retry::Code;
use sheaf_terminal::Failure;

use crate::args::{DriverName, PlaneArgs};

/// Where components find the control plane that serves there.
pub(super) fn control(args: &PlaneArgs, bound: std::net::SocketAddr) -> Result<String, Failure> {
    let port = bound.port();
    if let Some(host) = &args.platform.advertise_host {
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        return Ok(format!("{host}:{port}"));
    }
    let ip = bound.ip();
    if args.driver == DriverName::Kubernetes && (ip.is_loopback() || ip.is_unspecified()) {
        let text = format!("pods cannot reach a control plane at {bound}");
        return Err(Failure::new(Code::InvalidArgument, text).help(
            "give --control-addr an address that they reach, and --advertise-host its host where \
             that is another one",
        ));
    }
    match ip.is_unspecified() {
        // Every address is this machine too; on Docker the driver finds the one of the network.
        true => Ok(format!("127.0.0.1:{port}")),
        false => Ok(bound.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::testing::plane_args as args;

    fn told(words: &[&str], bound: &str) -> Result<String, String> {
        control(&args(words), bound.parse().unwrap()).map_err(|failure| failure.to_text())
    }

    #[test]
    fn components_are_told_an_address_that_they_reach() {
        assert_eq!(told(&[], "127.0.0.1:5").unwrap(), "127.0.0.1:5");
        assert_eq!(told(&["--driver", "docker"], "0.0.0.0:5").unwrap(), "127.0.0.1:5");
        let named = ["--driver", "kubernetes", "--advertise-host", "control.shop.svc"];
        assert_eq!(told(&named, "0.0.0.0:5").unwrap(), "control.shop.svc:5");
        assert_eq!(told(&["--advertise-host", "fd00::1"], "0.0.0.0:5").unwrap(), "[fd00::1]:5");
        let why = told(&["--driver", "kubernetes"], "0.0.0.0:5").unwrap_err();
        assert!(why.contains("--advertise-host"), "{why}");
        assert_eq!(told(&["--driver", "kubernetes"], "10.0.0.7:5").unwrap(), "10.0.0.7:5");
    }
}
