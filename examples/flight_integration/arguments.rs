//! `--scenario NAME --port N`.

/// What to serve, and where.
pub(crate) struct Arguments {
    pub(crate) scenario: String,
    /// 0 takes a free one.
    pub(crate) port: u16,
}

impl Arguments {
    /// Reads the arguments, of which both are needed; says all that is wrong.
    pub(crate) fn parse(
        mut given: impl Iterator<Item = String>,
        scenarios: &[&str],
    ) -> Result<Self, String> {
        let (mut scenario, mut port, mut wrong) = (None, None, Vec::new());
        while let Some(argument) = given.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let place = match flag {
                "--scenario" => &mut scenario,
                "--port" => &mut port,
                other => {
                    wrong.push(format!("there is no flag {other:?}"));
                    continue;
                }
            };
            *place = value.or_else(|| given.next());
        }
        let names = scenarios.join(", ");
        let scenario = match scenario {
            None => Err(format!("--scenario NAME is missing; there are: {names}")),
            Some(name) if scenarios.contains(&name.as_str()) => Ok(name),
            Some(name) => Err(format!("there is no scenario {name:?}; there are: {names}")),
        };
        let port = match port {
            None => Err("--port N is missing; 0 takes a free one".to_owned()),
            Some(text) => {
                text.parse().map_err(|_| format!("--port {text:?} is no number from 0 to 65535"))
            }
        };
        match (scenario, port) {
            (Ok(scenario), Ok(port)) if wrong.is_empty() => Ok(Arguments { scenario, port }),
            (scenario, port) => {
                wrong.extend(scenario.err().into_iter().chain(port.err()));
                Err(wrong.join("\n"))
            }
        }
    }
}
