//! What workers do.

use std::str::FromStr;

/// What a worker does with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessorChoice {
    /// Checks it completely, changes nothing.
    Verify,
    /// Pipes it through a shell command.
    Exec(String),
}

impl FromStr for ProcessorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "verify" => Ok(ProcessorChoice::Verify),
            Some(("exec", command)) if !command.trim().is_empty() => {
                Ok(ProcessorChoice::Exec(command.to_owned()))
            }
            _ => Err(format!("{text:?} is no processor: write verify or exec:COMMAND")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_and_the_rest_is_refused() {
        assert_eq!("verify".parse(), Ok(ProcessorChoice::Verify));
        let exec = ProcessorChoice::Exec("a: b".to_owned());
        assert_eq!("exec:a: b".parse(), Ok(exec));
        for text in ["", "exec", "exec:", "exec: ", "verify:", "Verify"] {
            assert!(text.parse::<ProcessorChoice>().is_err(), "{text}");
        }
    }
}
