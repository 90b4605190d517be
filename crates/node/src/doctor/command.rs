//! The command: gathers, judges, tells.

use std::collections::BTreeMap;

use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::{Console, Failure};

use super::check::{Check, Report, Verdict};
use super::data_dir::{Holding, directory, space};
use super::gather::Facts;
use super::local::{Local, PATIENCE};
use super::{configuration, machine, ports, probe, show};
use crate::args::ServeArgs;
use crate::config::{Config, Machine, Mode};

/// `sheaf doctor`, with the settings of `sheaf serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// The configuration that is looked at.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Answer with one JSON document, for programs; errors on standard error are JSON too
    #[arg(long)]
    pub json: bool,
    /// Only ask whether the server of this configuration takes work, for health checks
    #[arg(long)]
    pub probe: bool,
}

impl DoctorArgs {
    /// Looks at everything and shows what was found.
    ///
    /// `environment` is what the binary read, as for [`ServeArgs::resolve`].
    ///
    /// # Errors
    /// The code of the first problem, where there is one; warnings are none.
    pub async fn run(
        self,
        environment: &BTreeMap<String, String>,
        machine: &Machine,
        clock: SharedClock,
        mut console: Console,
    ) -> Result<(), Failure> {
        if self.probe {
            let config = self.serve.resolve(environment, machine)?.config;
            return probe::probe(&config, &clock).await;
        }
        let report = match configuration::read(&self.serve, environment, machine) {
            Ok((config, check)) => examine(&config, check, &clock).await,
            Err(mut checks) => {
                checks.extend(own_machine(&clock));
                let why = "the configuration cannot be used: see above";
                checks.push(Check::skipped("everything else", why));
                Report::new(None, checks)
            }
        };
        match self.json {
            true => console.json(&report)?,
            false => show::show(&report, &mut console)?,
        }
        match report.code() {
            Some(code) => Err(Failure::new(code, report.summary())
                .help("do what is said beside each problem, then run `sheaf doctor` again")),
            None if self.json => Ok(()),
            None => {
                console.note(&report.summary());
                Ok(())
            }
        }
    }
}

/// What can be told without a configuration.
fn own_machine(clock: &SharedClock) -> Vec<Check> {
    let facts = machine::MachineFacts::gather();
    vec![machine::files(&facts), machine::clock(clock.now())]
}

async fn examine(config: &Config, read: Check, clock: &SharedClock) -> Report {
    let facts = Facts::gather(config, clock).await;
    let mut checks = vec![read, machine::clock(clock.now())];
    checks.extend(files(config, &facts.local, clock));
    checks.extend(own_ports(config, &facts));
    if let Some(own) = &facts.own {
        checks.extend(own.checks());
    }
    for named in &facts.named {
        checks.extend(named.checks());
    }
    if let Some(valkey) = &facts.valkey {
        checks.extend(valkey.checks());
    }
    Report::new(Some(config.mode().as_str()), checks)
}

/// A group that did not come to its end in time.
fn late(name: &str, what: &str, action: &str) -> Check {
    let text = format!("{what} did not answer within {} s", PATIENCE.as_secs());
    Check::problem(name, Code::DeadlineExceeded, text).advise(action)
}

/// What is on this machine, its ports apart.
fn files(config: &Config, local: &Local, clock: &SharedClock) -> Vec<Check> {
    const DISK: &str = "check the disk: a network file system whose server is away never answers";
    let mut checks = Vec::new();
    match &local.data {
        Some(Some(data)) => {
            checks.extend(data.checks(config.durability(), config.max_live_bytes()));
        }
        Some(None) => checks.push(Check::skipped("data_dir", "workers keep nothing")),
        None => checks.push(late("data_dir", &config.data_dir().display().to_string(), DISK)),
    }
    match &local.sink {
        Some(Some(dir)) => {
            checks.push(directory("sink", dir));
            checks.push(space("sink.space", dir.space.as_ref(), 0, u64::MAX));
        }
        Some(None) => {}
        None => checks.push(late("sink", "the folder of --sink", DISK)),
    }
    match &local.machine {
        Some(found) => {
            checks.push(match config.mode() {
                Mode::All | Mode::Flight => machine::memory(found, config.memory_limit()),
                mode => Check::skipped("memory", format!("mode {mode} keeps no payloads")),
            });
            checks.push(machine::files(found));
        }
        None => checks.push(late("memory", "the kernel", "look at the load of this machine")),
    }
    match &local.security {
        Some(found) => checks.extend(found.checks(clock.now())),
        None => checks.push(late(
            "tls",
            "one of the files of certificates, keys and tokens",
            "check the disks that they are on: a network file system whose server is away never \
             answers",
        )),
    }
    checks
}

fn own_ports(config: &Config, facts: &Facts) -> Vec<Check> {
    let local = &facts.local;
    let Some(ports) = &local.ports else {
        let action = "check the name servers, or write addresses in place of names";
        return vec![late("port.*", "the look-up of --flight-addr and --admin-addr", action)];
    };
    let mut checks = Vec::new();
    let data = local.data.as_ref().and_then(Option::as_ref);
    let holding = data.map_or(Holding::Unknown, |data| data.holding());
    if let Some(bind) = &ports.flight {
        let check = ports::flight(config.flight_addr(), bind, facts.own.as_ref(), &holding);
        let untold = facts.own.is_none() && *bind == ports::Bind::Taken;
        // A server under TLS cannot be asked without its CA; the lock tells as well.
        checks.push(match untold && matches!(holding, Holding::Held(_)) {
            true => Check::skipped(
                "port.flight",
                format!(
                    "{} is taken, by the server that runs here: --tls-ca lets it be asked",
                    config.flight_addr()
                ),
            ),
            false => check,
        });
    }
    let admin = ports::admin(
        config.admin_addr(),
        &ports.admin,
        facts.admin.as_ref(),
        facts.own.as_ref(),
        &holding,
    );
    let untold = ports.admin == ports::Bind::Taken && config.security().has_tls();
    checks.push(match untold && admin.verdict == Verdict::Problem && holding != Holding::Free {
        true => Check::skipped("port.admin", "taken, under TLS: it cannot be told by whom"),
        false => admin,
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;
    use crate::doctor::certificates::SecurityFacts;
    use sheaf_retry::SystemClock;

    #[test]
    fn only_the_group_that_is_late_is_told_of() {
        let config = RawConfig::default().validate(&Machine::of(1 << 30)).unwrap();
        let clock = SystemClock::shared();
        let names = |local: &Local| -> Vec<String> {
            let checks = files(&config, local, &clock);
            let late = checks.iter().filter(|check| check.code == Some(Code::DeadlineExceeded));
            late.map(|check| check.name.clone()).collect()
        };
        assert_eq!(names(&Local::default()), ["data_dir", "sink", "memory", "tls"]);
        let there = || Local {
            data: Some(None),
            sink: Some(None),
            machine: Some(machine::MachineFacts::default()),
            security: Some(SecurityFacts::default()),
            ports: None,
        };
        assert_eq!(names(&there()), [""; 0]);
        assert_eq!(names(&Local { security: None, ..there() }), ["tls"]);
        assert_eq!(names(&Local { data: None, ..there() }), ["data_dir"]);
    }
}
