//! Log lines on standard error.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::Error;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people: one line per event, coloured on a terminal.
    #[default]
    Text,
    /// For programs: one JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("{other:?} is no log format: write text or json")),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The look of a line.
    pub format: LogFormat,
    /// Debug messages of Sheaf's own crates too.
    pub verbose: bool,
    /// A filter such as `sheaf_store=trace,info`; overrides `verbose`.
    pub filter: Option<String>,
}

impl LogOptions {
    fn filter(&self) -> Result<EnvFilter, Error> {
        let text = match (&self.filter, self.verbose) {
            (Some(filter), _) => filter.as_str(),
            // The network stack at debug level drowns everything else, and so does the
            // consensus engine one level above.
            (None, true) => {
                "debug,h2=info,hyper=info,hyper_util=info,tower=info,tonic=info,openraft=info"
            }
            (None, false) => "info,openraft=warn",
        };
        EnvFilter::builder()
            .parse(text)
            .map_err(|source| Error::Filter { filter: text.to_owned(), source })
    }
}

/// Sends the log events of this process to standard error, from now on.
///
/// Standard output is left to data. Call it once, early in `main`; libraries
/// never do.
///
/// # Errors
/// [`Error::Filter`] for a filter that does not parse, [`Error::LogsTwice`]
/// when the process has a subscriber already.
pub fn init_logs(options: &LogOptions) -> Result<(), Error> {
    let subscriber =
        subscriber(options, BoxMakeWriter::new(io::stderr), io::stderr().is_terminal())?;
    tracing::dispatcher::set_global_default(subscriber).map_err(|_| Error::LogsTwice)
}

fn subscriber(
    options: &LogOptions,
    writer: BoxMakeWriter,
    colour: bool,
) -> Result<tracing::Dispatch, Error> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(options.filter()?)
        .with_span_events(FmtSpan::NONE)
        .with_writer(writer);
    Ok(match options.format {
        LogFormat::Text => builder.with_ansi(colour).finish().into(),
        LogFormat::Json => builder.json().flatten_event(true).finish().into(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile.
    pub(crate) fn logged(options: &LogOptions, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let made = lines.clone();
        let writer = BoxMakeWriter::new(move || made.clone());
        let subscriber = subscriber(options, writer, false).unwrap();
        tracing::dispatcher::with_default(&subscriber, work);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn some(options: &LogOptions) -> String {
        logged(options, || {
            tracing::debug!("fine detail");
            tracing::info!(batch = "b1", "stored");
        })
    }

    #[test]
    fn levels_follow_verbose_and_filter() {
        let quiet = some(&LogOptions::default());
        assert!(quiet.contains("stored") && !quiet.contains("fine detail"), "{quiet}");
        let verbose = some(&LogOptions { verbose: true, ..Default::default() });
        assert!(verbose.contains("fine detail"), "{verbose}");
        let filter = Some("error".to_owned());
        assert_eq!(some(&LogOptions { verbose: true, filter, ..Default::default() }), "");
    }

    #[test]
    fn json_lines_are_objects() {
        let line = some(&LogOptions { format: LogFormat::Json, ..Default::default() });
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["message"], &event["batch"]), (&"stored".into(), &"b1".into()));
    }

    #[test]
    fn a_bad_filter_is_named() {
        let options = LogOptions { filter: Some("sheaf=loud".to_owned()), ..Default::default() };
        let error = options.filter().unwrap_err();
        assert!(error.to_string().contains("sheaf=loud"), "{error}");
    }
}
