//! Which traces are sampled.

use opentelemetry_sdk::trace::Sampler;

use super::TraceOptions;
use crate::Error;

const NAME: &str = "OTEL_TRACES_SAMPLER";
const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// A sampler, and whether it does as the parent does where there is one.
pub(super) fn sampler(options: &TraceOptions) -> Result<(Sampler, bool), Error> {
    let name = options.sampler.as_deref().unwrap_or("parentbased_always_on").trim();
    let (root, follows_parents) = match name.strip_prefix("parentbased_") {
        Some(root) => (root, true),
        None => (name, false),
    };
    let sampler = match root {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio(options.sampler_argument.as_deref())?),
        _ => {
            return Err(Error::TraceVariable {
                variable: NAME,
                value: name.to_owned(),
                help: "write always_on, always_off or traceidratio, or one of them after \
                       parentbased_",
            });
        }
    };
    let sampler = if follows_parents { Sampler::ParentBased(Box::new(sampler)) } else { sampler };
    Ok((sampler, follows_parents))
}

/// All, where nothing is said.
fn ratio(text: Option<&str>) -> Result<f64, Error> {
    let Some(text) = text else { return Ok(1.0) };
    let ratio = text.trim().parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| Error::TraceVariable {
        variable: ARGUMENT,
        value: text.to_owned(),
        help: "write a share from 0 to 1, such as 0.01",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, argument: &str) -> Result<(String, bool), Error> {
        let options = TraceOptions {
            sampler: Some(name.to_owned()),
            sampler_argument: Some(argument.to_owned()),
            ..TraceOptions::default()
        };
        sampler(&options).map(|(sampler, follows)| (format!("{sampler:?}"), follows))
    }

    #[test]
    fn the_standard_names_are_known() {
        let (sampler, follows) = of("parentbased_traceidratio", "0.25").unwrap();
        assert_eq!((sampler.as_str(), follows), ("ParentBased(TraceIdRatioBased(0.25))", true));
        let (sampler, follows) = of("always_off", "unused").unwrap();
        assert_eq!((sampler.as_str(), follows), ("AlwaysOff", false));
    }

    #[test]
    fn what_is_no_sampler_is_named() {
        for (name, argument, part) in [
            ("sometimes", "1", "OTEL_TRACES_SAMPLER=sometimes"),
            ("parentbased_xray", "1", "parentbased_xray"),
            ("traceidratio", "2", "OTEL_TRACES_SAMPLER_ARG=2"),
            ("traceidratio", "NaN", "0 to 1"),
        ] {
            let error = of(name, argument).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
