//! The network of a pipeline, and who has which address in it.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};

use super::error::{has_status, is_missing, refused};
use super::names;
use crate::DriverError;

/// How often another free range is looked for, where others take the same one at once.
const TRIES: u32 = 8;
/// The first addresses are the gateway's and the engine's.
const FIRST_HOST: u32 = 10;

/// The network of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// The address of this machine in it.
    pub(super) gateway: Ipv4Addr,
    base: u32,
    hosts: u32,
}

impl Network {
    /// The network that is there, or a new one.
    ///
    /// Containers are told their addresses before they run, and the engine gives out wanted
    /// addresses only where the range of a network was wanted too. So the engine is asked for
    /// any free range first, and then for that very one.
    pub(super) async fn ensure(engine: &Docker, pipeline: &str) -> Result<Self, DriverError> {
        let name = names::network(pipeline);
        let what = || format!("cannot make the network {name}");
        for _ in 0..TRIES {
            match engine.inspect_network(&name, None).await {
                Ok(found) => return Network::of(&found).ok_or_else(|| not_ours(&name)),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(refused(what(), &error)),
            }
            let free =
                free_range(engine, pipeline).await.map_err(|error| refused(what(), &error))?;
            let request = wanted(pipeline, free);
            match engine.create_network(request).await {
                Ok(_) => {}
                // Somebody was faster: with this name, or with this range.
                Err(error) if has_status(&error, 409) || has_status(&error, 403) => {}
                Err(error) => return Err(refused(what(), &error)),
            }
        }
        let why = "the engine has no free range of addresses: remove networks that nobody uses";
        Err(DriverError { what: what(), why: why.to_owned() })
    }

    pub(super) fn of(found: &NetworkInspect) -> Option<Self> {
        found.ipam.as_ref()?.config.as_ref()?.iter().find_map(|config| {
            let (base, length) = config.subnet.as_ref()?.split_once('/')?;
            let base: Ipv4Addr = base.parse().ok()?;
            let length: u32 = length.parse().ok().filter(|length| (8..=28).contains(length))?;
            let gateway = match &config.gateway {
                Some(gateway) => gateway.split('/').next()?.parse().ok()?,
                None => Ipv4Addr::from(u32::from(base) + 1),
            };
            Some(Network { gateway, base: u32::from(base), hosts: (1 << (32 - length)) - 2 })
        })
    }

    /// The lowest address that nobody has.
    pub(super) fn free(&self, taken: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        (FIRST_HOST..=self.hosts)
            .map(|host| Ipv4Addr::from(self.base + host))
            .find(|address| *address != self.gateway && !taken.contains(address))
    }
}

fn not_ours(name: &str) -> DriverError {
    DriverError {
        what: format!("cannot use the network {name}"),
        why: "it has no range of IPv4 addresses that was asked for: remove it, so that it can \
              be made anew"
            .to_owned(),
    }
}

/// A range that the engine says is free.
async fn free_range(engine: &Docker, pipeline: &str) -> Result<Option<Ipam>, Error> {
    let probe = format!("{}.probe", names::network(pipeline));
    let request = NetworkCreateRequest { name: probe.clone(), ..wanted(pipeline, None) };
    match engine.create_network(request).await {
        Ok(_) => {}
        Err(error) if has_status(&error, 409) => {}
        Err(error) => return Err(error),
    }
    let found = engine.inspect_network(&probe, None).await;
    engine.remove_network(&probe).await?;
    Ok(found?.ipam.map(|ipam| {
        let configs = ipam.config.unwrap_or_default().into_iter();
        let configs =
            configs.map(|config| IpamConfig { subnet: config.subnet, ..IpamConfig::default() });
        Ipam { config: Some(configs.collect()), ..Ipam::default() }
    }))
}

fn wanted(pipeline: &str, ipam: Option<Ipam>) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: names::network(pipeline),
        driver: Some("bridge".to_owned()),
        ipam,
        labels: Some([(names::PIPELINE.to_owned(), pipeline.to_owned())].into()),
        ..NetworkCreateRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_out_once_and_only_inside_the_range() {
        let json =
            r#"{"IPAM": {"Config": [{"Subnet": "172.30.0.0/28", "Gateway": "172.30.0.11"}]}}"#;
        let network = Network::of(&serde_json::from_str(json).unwrap()).unwrap();
        let mut taken = HashSet::new();
        while let Some(address) = network.free(&taken) {
            assert!(taken.insert(address));
        }
        let expected: HashSet<Ipv4Addr> =
            [10, 12, 13, 14].map(|host| Ipv4Addr::new(172, 30, 0, host)).into();
        assert_eq!(taken, expected);
    }
}
