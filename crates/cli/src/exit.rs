//! The exit codes, for help texts and documentation.

use sheaf_retry::Code;

use crate::Table;

/// Codes of one exit code, in the order of the documentation.
fn groups() -> Vec<(u8, Vec<Code>)> {
    let mut groups: Vec<(u8, Vec<Code>)> = Vec::new();
    for &code in Code::ALL {
        match groups.iter_mut().find(|(exit, _)| *exit == code.exit_code()) {
            Some((_, codes)) => codes.push(code),
            None => groups.push((code.exit_code(), vec![code])),
        }
    }
    groups.sort_by_key(|(exit, _)| *exit);
    groups
}

/// One line per exit code, for the end of `--help`.
pub fn exit_code_help() -> String {
    let mut text = "Exit codes:\n    0  success\n".to_owned();
    for (exit, codes) in groups() {
        let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
        text.push_str(&format!("  {exit:>3}  {}\n", names.join(", ")));
    }
    text
}

/// Every error code with its exit code, whether a retry may help, and what to do.
pub fn exit_code_table() -> Table {
    let mut table = Table::new(["code"]).right("exit").left("retry").left("what to do");
    for &code in Code::ALL {
        let retry = match code.class() {
            sheaf_retry::Class::Transient => "yes",
            sheaf_retry::Class::Permanent => "no",
        };
        let exit = code.exit_code().to_string();
        table.row([code.as_str(), exit.as_str(), retry, code.advice()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_once() {
        let help = exit_code_help();
        for &code in Code::ALL {
            let lines = help
                .lines()
                .filter(|line| line.split([' ', ',']).any(|word| word == code.as_str()));
            assert_eq!(lines.count(), 1, "{code}");
        }
        assert!(help.contains("    3  not_found\n"), "{help}");
        assert_eq!(exit_code_table().len(), Code::ALL.len());
    }
}
