//! The Valkey that remembers the work.

use std::fmt;
use std::path::PathBuf;

use sheaf_flight::Secret;
use sheaf_valkey::{Address, Durability};

use super::address::HostPort;
use super::reader::Reader;
use super::security;

/// Where Valkey is by default.
const DEFAULT_ADDR: &str = "localhost:6379";
/// What all keys begin with by default.
const DEFAULT_NAMESPACE: &str = "sheaf";
/// Longest name of a namespace, bytes.
const MAX_NAMESPACE: usize = 64;

/// The settings that mean nothing without Valkey.
const OF_VALKEY: [&str; 8] = [
    "valkey-user",
    "valkey-password",
    "valkey-password-file",
    "valkey-namespace",
    "valkey-durability",
    "valkey-tls-ca",
    "valkey-tls-cert",
    "valkey-tls-key",
];

/// Where Valkey is, who asks it, and what is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ValkeyConfig {
    address: Address,
    user: Option<String>,
    password: Password,
    namespace: String,
    durability: Durability,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

/// Where the password stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Password {
    /// In the address, or nowhere.
    Absent,
    /// In a setting.
    Given(Secret),
    /// In a file, which is read again at every start.
    File(PathBuf),
}

impl ValkeyConfig {
    /// Where it is: shown without user and password.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The user of its ACL, where it is not part of the address.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What all its keys begin with.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// When its answer counts.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// CA certificates in PEM by which it is checked; without them those of the machine.
    pub fn ca(&self) -> Option<&PathBuf> {
        self.ca.as_ref()
    }

    /// Certificate and key in PEM that are shown to it.
    pub fn identity(&self) -> Option<&(PathBuf, PathBuf)> {
        self.identity.as_ref()
    }

    pub(crate) fn password(&self) -> &Password {
        &self.password
    }

    /// Whether it is reached from this machine only.
    pub(crate) fn is_loopback(&self) -> bool {
        hosts(&self.address).iter().all(HostPort::is_loopback)
    }
}

impl fmt::Display for ValkeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The hosts of an address, as it shows them; a name that is none is not on this machine.
fn hosts(address: &Address) -> Vec<HostPort> {
    let shown = address.to_string();
    let shown = shown.split_once("://").map_or(shown.as_str(), |(_, rest)| rest);
    let shown = shown.split(" for ").next().unwrap_or_default();
    let elsewhere = || HostPort { host: String::new(), port: 0, tls: false };
    shown.split(',').map(|host| host.parse().unwrap_or_else(|_| elsewhere())).collect()
}

/// Reads the settings, once Valkey is chosen. `None` where a problem was reported.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<ValkeyConfig> {
    let address = address(reader);
    let password = password(reader);
    let namespace = namespace(reader);
    let durability = durability(reader);
    let path = |reader: &Reader<'_>, name| {
        let text = reader.text(name);
        (!text.is_empty()).then(|| PathBuf::from(text))
    };
    let ca = path(reader, "valkey-tls-ca");
    let cert = path(reader, "valkey-tls-cert");
    let key = path(reader, "valkey-tls-key");
    for (name, there, missing) in [
        ("valkey-tls-cert", &cert, ("valkey-tls-key", key.is_none())),
        ("valkey-tls-key", &key, ("valkey-tls-cert", cert.is_none())),
        ("valkey-tls-cert", &cert, ("valkey-tls-ca", ca.is_none())),
    ] {
        if there.is_some() && missing.1 {
            reader.wrong(name, format!("is no use without --{}", missing.0));
        }
    }
    let address = address?;
    if !address.uses_tls() {
        for (name, there) in [("valkey-tls-ca", &ca), ("valkey-tls-cert", &cert)] {
            if there.is_some() {
                let message = "has no effect: the address is not encrypted; write valkeys://…";
                reader.wrong(name, message.to_owned());
            }
        }
    }
    let user = Some(reader.text("valkey-user").to_owned()).filter(|user| !user.is_empty());
    let (identity, password) = (cert.zip(key), password?);
    let (namespace, durability) = (namespace?, durability?);
    Some(ValkeyConfig { address, user, password, namespace, durability, ca, identity })
}

fn address(reader: &mut Reader<'_>) -> Option<Address> {
    let text = match reader.text("valkey-addr") {
        "" => DEFAULT_ADDR,
        text => text,
    };
    match Address::parse(text) {
        Ok(address) => Some(address),
        Err(sheaf_coordinator::Error::Invalid { problem, .. }) => {
            reader.wrong("valkey-addr", problem);
            None
        }
        Err(error) => {
            reader.wrong("valkey-addr", error.to_string());
            None
        }
    }
}

fn password(reader: &mut Reader<'_>) -> Option<Password> {
    security::password_file(reader)?;
    let (given, file) = (reader.text("valkey-password"), reader.text("valkey-password-file"));
    Some(match (given, file) {
        ("", "") => Password::Absent,
        ("", file) => Password::File(file.into()),
        (given, _) => Password::Given(Secret::new(given)),
    })
}

fn namespace(reader: &mut Reader<'_>) -> Option<String> {
    let name = match reader.text("valkey-namespace") {
        "" => DEFAULT_NAMESPACE,
        name => name,
    };
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
    if name.len() > MAX_NAMESPACE || !letters {
        let message = format!(
            "{name:?} is no namespace: write 1 to {MAX_NAMESPACE} letters, digits and . _ : -"
        );
        reader.wrong("valkey-namespace", message);
        return None;
    }
    Some(name.to_owned())
}

fn durability(reader: &mut Reader<'_>) -> Option<Durability> {
    match reader.text("valkey-durability") {
        "" | "async" => Some(Durability::Async),
        "replicated" => Some(Durability::Replicated),
        "fsynced" => Some(Durability::Fsynced),
        other => {
            let message = format!("{other:?} is no durability: write async, replicated or fsynced");
            reader.wrong("valkey-durability", message);
            None
        }
    }
}

/// Says of each of the settings that there is no Valkey for it.
pub(super) fn without(reader: &mut Reader<'_>) {
    for name in OF_VALKEY {
        if !reader.text(name).is_empty() {
            let message = "has no effect without Valkey: add --valkey-addr, or remove it";
            reader.wrong(name, message.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Config, Machine, Origin, Problem, RawConfig};

    fn check(settings: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let mut raw = RawConfig::default();
        for (name, text) in settings {
            raw.set(name, *text, Origin::Flag);
        }
        raw.validate(&Machine::of(1 << 30))
    }

    fn valkey(settings: &[(&str, &str)]) -> ValkeyConfig {
        match check(settings).unwrap().backend() {
            Backend::Valkey(valkey) => (**valkey).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_or_its_name_selects_it() {
        let plain = valkey(&[("coordinator", "valkey")]);
        assert_eq!(plain.to_string(), "valkey://localhost:6379");
        assert_eq!((plain.namespace(), plain.durability()), ("sheaf", Durability::Async));
        assert_eq!(plain, valkey(&[("valkey-addr", "localhost:6379")]));
        let full = valkey(&[
            ("valkey-addr", "valkeys://localhost:7000"),
            ("coordinator", "valkey"),
            ("valkey-user", "sheaf"),
            ("valkey-password", "hunter2"),
            ("valkey-namespace", "night"),
            ("valkey-durability", "fsynced"),
            ("valkey-tls-ca", "ca.pem"),
            ("valkey-tls-cert", "c.pem"),
            ("valkey-tls-key", "k.pem"),
        ]);
        assert_eq!((full.user(), full.namespace()), (Some("sheaf"), "night"));
        assert_eq!(full.durability(), Durability::Fsynced);
        assert_eq!(full.identity(), Some(&("c.pem".into(), "k.pem".into())));
        assert!(!format!("{full:?}").contains("hunter2"));
    }

    #[test]
    fn every_mode_may_use_it() {
        let addr = ("valkey-addr", "localhost:6379");
        for mode in ["all", "coordinator", "flight", "worker"] {
            valkey(&[("mode", mode), addr]);
            // Every process on it is the coordinator.
            valkey(&[("mode", mode), addr, ("max-retries", "1")]);
        }
    }

    #[test]
    fn a_password_in_the_address_is_not_shown() {
        let text = "valkey://user:hunter2@localhost:6379/0";
        let mut raw = RawConfig::default();
        raw.set("valkey-addr", text, Origin::Flag);
        let config = raw.validate(&Machine::of(1 << 30)).unwrap();
        for shown in [format!("{raw:?}"), format!("{config:?}"), valkey_of(&config)] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for wrong in ["valkey://u:hunter2@:1", "http://u:hunter2@h", "valkey://u:hunter2@h:x"] {
            let problems = check(&[("valkey-addr", wrong)]).unwrap_err();
            assert_eq!(problems[0].place, "--valkey-addr");
            assert!(!problems[0].message.contains("hunter2"), "{problems:?}");
        }
    }

    #[test]
    fn an_empty_address_chooses_nothing() {
        let problems = check(&[("valkey-addr", "")]).unwrap_err();
        assert_eq!(problems[0].place, "--valkey-addr");
        assert!(problems[0].message.contains("is empty"), "{problems:?}");
    }

    fn valkey_of(config: &Config) -> String {
        format!("{} {:?}", config.backend(), config.backend())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let addr = ("valkey-addr", "localhost:6379");
        for (name, text, says) in [
            ("valkey-namespace", "a b", "is no namespace"),
            ("valkey-durability", "never", "write async, replicated"),
            ("valkey-tls-ca", "ca.pem", "write valkeys://"),
            ("valkey-tls-key", "k.pem", "without --valkey-tls-cert"),
            ("valkey-password-file", "/nonexistent", "/nonexistent"),
        ] {
            let problems = check(&[addr, (name, text)]).unwrap_err();
            assert_eq!(problems[0].place, format!("--{name}"), "{problems:?}");
            assert!(problems[0].message.contains(says), "{problems:?}");
        }
        for name in OF_VALKEY {
            let problems = check(&[(name, "async")]).unwrap_err();
            assert!(problems[0].message.contains("no effect without Valkey"), "{problems:?}");
        }
    }

    #[test]
    fn payloads_must_be_found_from_where_valkey_is_reached() {
        let far = ("valkey-addr", "valkey://10.0.0.1:6379");
        for mode in ["all", "flight"] {
            let problems = check(&[far, ("mode", mode)]).unwrap_err();
            assert_eq!(problems[0].place, "--flight-addr");
            assert!(problems[0].message.contains("--advertise-addr"), "{problems:?}");
            assert!(check(&[far, ("mode", mode), ("advertise-addr", "h:1")]).is_ok());
        }
        for cluster in ["valkey-cluster://localhost:1?node=10.0.0.1:2", "valkey.example.org:6379"] {
            assert!(check(&[("valkey-addr", cluster)]).is_err(), "{cluster}");
        }
        let sentinels = "valkey-sentinel://localhost:1?node=127.0.0.1:2&sentinelServiceName=a";
        assert!(check(&[("valkey-addr", sentinels)]).is_ok());
        let coordinator = [far, ("mode", "coordinator")];
        assert!(check(&coordinator).is_ok(), "it has no payloads");
    }
}
