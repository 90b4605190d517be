//! Help texts.

pub(crate) const EXAMPLES: &str = "Examples:
  sheaf-component run                                      the place that SHEAF_ASSIGNMENT says
  sheaf-component list                                     what is built in
  sheaf-component source generate --config numbers.yaml    rows on standard output
  sheaf-component sink file --config out.yaml < rows.jsonl rows from standard input";

pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed; to start it again may help
  2  bad configuration; to start it again is of no use";

pub(crate) const RUN: &str =
    "The file is JSON, and is written by whoever starts the component: its place in the
pipeline, what it is to do, whom it reads and who reads it. On SIGTERM it hands on what it
has, says goodbye and ends with 0.

It answers GET /health, /metrics and /stats where the file says.";

pub(crate) const ALONE: &str =
    "The file has what stands under `config` in a pipeline, as YAML or JSON:
  columns:
    - {name: id, values: sequence}
  rows: 10

A source prints what it makes; a processor and a sink take JSON lines from standard input,
and a processor prints what comes of them. Nothing else is needed: no control plane, no
other component.";
