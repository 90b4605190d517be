//! The command: gathers, judges, tells.

use std::collections::BTreeMap;

use sheaf_retry::{Code, SharedClock};
use sheaf_terminal::{Console, Failure};

use super::certificates::SecurityFacts;
use super::check::{Check, Report, Verdict};
use super::data_dir::{Holding, directory, space};
use super::gather::{Facts, Local};
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
    match &facts.local {
        Some(local) => checks.extend(here(config, local, &facts, clock)),
        None => checks.push(
            Check::problem(
                "data_dir",
                Code::DeadlineExceeded,
                format!("{} did not answer within 20 s", config.data_dir().display()),
            )
            .advise("check the disk: a network file system whose server is away never answers"),
        ),
    }
    if let Some(own) = &facts.own {
        checks.extend(own.checks());
    }
    for named in &facts.named {
        checks.extend(named.checks());
    }
    Report::new(Some(config.mode().as_str()), checks)
}

/// Everything on this machine, its ports last.
fn here(config: &Config, local: &Local, facts: &Facts, clock: &SharedClock) -> Vec<Check> {
    let mut checks = Vec::new();
    match &local.data {
        Some(data) => checks.extend(data.checks(config.durability(), config.max_live_bytes())),
        None => checks.push(Check::skipped("data_dir", "workers keep nothing")),
    }
    if let Some(dir) = &local.sink {
        checks.push(directory("sink", dir));
        checks.push(space("sink.space", dir.space.as_ref(), 0, u64::MAX));
    }
    checks.push(match config.mode() {
        Mode::All | Mode::Flight => machine::memory(&local.machine, config.memory_limit()),
        mode => Check::skipped("memory", format!("mode {mode} keeps no payloads")),
    });
    checks.push(machine::files(&local.machine));
    checks.extend(SecurityFacts::checks(&local.security, clock.now()));
    let holding = local.data.as_ref().map_or(Holding::Unknown, |data| data.holding());
    if let Some(bind) = &local.flight {
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
        &local.admin,
        facts.admin.as_ref(),
        facts.own.as_ref(),
        &holding,
    );
    let untold = local.admin == ports::Bind::Taken && config.security().has_tls();
    checks.push(match untold && admin.verdict == Verdict::Problem && holding != Holding::Free {
        true => Check::skipped("port.admin", "taken, under TLS: it cannot be told by whom"),
        false => admin,
    });
    checks
}
