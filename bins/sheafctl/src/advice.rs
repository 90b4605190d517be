//! What to do about a failure: that of a code speaks of batches, and here it is pipelines.

use sheaf_retry::Code;
use sheaf_terminal::Failure;

/// The failure with advice of this program, where it has that of its code only.
pub(crate) fn of_pipelines(failure: Failure) -> Failure {
    let code = failure.code();
    match own(code) {
        Some(own) if failure.advice() == code.advice() => failure.help(own),
        _ => failure,
    }
}

fn own(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::NotFound => "check the name or the path; sheafctl ps --all shows what there is",
        Code::AlreadyExists => {
            "see what runs with sheafctl ps: stop it first, or bring it to its file with sheafctl \
             reload"
        }
        Code::FailedPrecondition => "mend what the message says; sheafctl status shows how it is",
        Code::StaleFence => "another process has that place by now: see sheafctl status",
        Code::LeaseLost | Code::PayloadLost | Code::ProcessorFailed => {
            "look at the batch that the message names: `sheaf batches` shows it, and why"
        }
        Code::Corrupt => "check the disk; name another --data-dir, or bring back what it had",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_that_was_given_stays_and_that_of_a_code_is_of_pipelines() {
        let given = Failure::new(Code::NotFound, "no p").help("write q");
        assert_eq!(of_pipelines(given).advice(), "write q");
        let of_code = of_pipelines(Failure::new(Code::NotFound, "no p.yaml"));
        assert!(!of_code.advice().contains("time to live"), "{}", of_code.advice());
        let other = of_pipelines(Failure::new(Code::DiskFull, "no room"));
        assert_eq!(other.advice(), Code::DiskFull.advice());
    }
}
