//! The command line of `serve`, made from the table of settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use sheaf_retry::Retryable as _;
use sheaf_terminal::Failure;

use crate::config::{Config, Machine, Origin, Problems, RawConfig, SETTINGS};

/// What the command line of `serve` says; see [`ServeArgs::resolve`].
#[derive(Clone, Debug, Default)]
pub struct ServeArgs {
    file: Option<PathBuf>,
    flags: RawConfig,
    die_with_parent: bool,
}

/// A configuration, and what to say about how it came to be.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// Environment variables that look like settings and are none.
    pub ignored: Vec<String>,
}

impl ServeArgs {
    /// Whether the process is to end with the one that started it.
    pub fn die_with_parent(&self) -> bool {
        self.die_with_parent
    }

    /// Lays file, environment and flags over the defaults, and checks the whole.
    ///
    /// `environment` is what the binary read. The file is the one of
    /// `--config`, else of `SHEAF_CONFIG`.
    ///
    /// # Errors
    /// A failure that names every problem at once, `invalid_argument`; the file's own
    /// where it cannot be read.
    pub fn resolve(
        &self,
        environment: &BTreeMap<String, String>,
        machine: &Machine,
    ) -> Result<Resolved, Failure> {
        let (raw, ignored) = self.layers(environment)?;
        match raw.validate(machine) {
            Ok(config) => Ok(Resolved { config, ignored }),
            Err(problems) => {
                let help = "see `sheaf serve --help` for every setting and its default";
                Err(Failure::from_error(&Problems(problems)).help(help))
            }
        }
    }
}

impl ServeArgs {
    /// File, environment and flags over each other, unchecked, and the
    /// variables that look like settings and are none.
    pub(crate) fn layers(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Result<(RawConfig, Vec<String>), Failure> {
        let (variables, mut ignored) = RawConfig::from_environment(environment);
        ignored.retain(|name| !OTHER_VARIABLES.contains(&name.as_str()));
        let named = environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let path = self.file.clone().or_else(|| named.map(PathBuf::from));
        let file = path.map(|path| read(&path)).transpose()?.unwrap_or_default();
        Ok((file.over(variables).over(self.flags.clone()), ignored))
    }
}

const CONFIG_VARIABLE: &str = "SHEAF_CONFIG";
/// Variables of other commands and of the tests.
const OTHER_VARIABLES: [&str; 3] = [CONFIG_VARIABLE, "SHEAF_SERVER", "SHEAF_REQUIRE_SERVERS"];

fn read(path: &std::path::Path) -> Result<RawConfig, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(error.code(), format!("--config {} cannot be read", path.display()))
            .because(error)
            .help("name a readable YAML file of settings, such as `lease: 30s`")
    })?;
    RawConfig::from_yaml(&path.display().to_string(), &text)
        .map_err(|error| Failure::from_error(&error))
}

impl clap::Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let mut command = command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("YAML file of settings, by the names of the flags [env: SHEAF_CONFIG]"),
        );
        for setting in SETTINGS {
            let mut help = setting.help.to_owned();
            if !setting.default.is_empty() && !setting.is_switch() {
                help.push_str(&format!(" [default: {}]", setting.default));
            }
            let mut arg = Arg::new(setting.name)
                .long(setting.name)
                .value_parser(value_parser!(String))
                .help(help)
                .allow_hyphen_values(true)
                // The last one counts, so that scripts can append.
                .overrides_with(setting.name);
            arg = match setting.is_switch() {
                true => arg
                    .value_name("BOOL")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .hide_possible_values(true),
                false => arg.value_name(setting.value),
            };
            command = command.arg(arg);
        }
        command.arg(
            Arg::new("die-with-parent")
                .long("die-with-parent")
                .action(ArgAction::SetTrue)
                .hide(true)
                .help("End when the process that started this one ends"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = ServeArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            self.file = Some(path.clone());
        }
        for setting in SETTINGS {
            if let Some(text) = matches.get_one::<String>(setting.name) {
                self.flags.set(setting.name, text.as_str(), Origin::Flag);
            }
        }
        self.die_with_parent |= matches.get_flag("die-with-parent");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sheaf_retry::Code;

    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn parse(words: &[&str]) -> ServeArgs {
        let command = ServeArgs::augment_args(Command::new("serve").no_binary_name(true));
        ServeArgs::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    fn resolve(words: &[&str], variables: &[(&str, &str)]) -> Result<Resolved, Failure> {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        parse(words).resolve(&variables.collect(), &Machine::of(1 << 30))
    }

    #[test]
    fn the_commands_of_the_documents_are_understood() {
        let words = ["--mode=all", "--max-retries=5", "--poll-interval=10s", "--verbose"];
        let config = resolve(&words, &[]).unwrap().config;
        assert_eq!((config.max_retries(), config.logs().verbose), (5, true));
        assert!(!resolve(&["--verbose=false"], &[]).unwrap().config.logs().verbose);
        let config =
            resolve(&["--mode=worker", "--valkey-addr=localhost:6379"], &[]).unwrap().config;
        assert_eq!(config.backend().to_string(), "valkey://localhost:6379");
    }

    #[test]
    fn the_order_is_file_environment_flag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheaf.yaml");
        std::fs::write(&path, "workers: 4\nmax-retries: 4\nlease: 4s\n").unwrap();
        let (path, workers) = (path.to_str().unwrap(), "--workers=6");
        let variables = [("SHEAF_WORKERS", "5"), ("SHEAF_MAX_RETRIES", "5"), ("SHEAF_X", "1")];
        let by_flag = resolve(&["--config", path, workers], &variables).unwrap();
        let with_file = [&variables[..], &[("SHEAF_CONFIG", path)]].concat();
        let by_variable = resolve(&[workers], &with_file).unwrap();
        for Resolved { config, ignored } in [by_flag, by_variable] {
            assert_eq!((config.workers(), config.max_retries()), (6, 5));
            assert_eq!(config.lease(), std::time::Duration::from_secs(4));
            assert_eq!(ignored, ["SHEAF_X"]);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = resolve(&["--config", "/nonexistent/sheaf.yaml"], &[]).unwrap_err();
        assert_eq!(failure.code(), Code::NotFound);
        assert!(failure.to_text().contains("/nonexistent/sheaf.yaml"), "{failure}");
    }

    #[test]
    fn the_last_flag_of_a_name_counts() {
        let config = resolve(&["--workers", "3", "--workers=4"], &[]).unwrap().config;
        assert_eq!(config.workers(), 4);
    }

    #[test]
    fn values_may_begin_with_a_hyphen_and_are_refused_with_the_rest() {
        let failure = resolve(&["--workers", "-1", "--lease=x"], &[]).unwrap_err();
        assert!(failure.to_text().contains("2 problems"), "{failure}");
    }
}
