//! Examples at the end of help texts.

mod running;
mod steering;

pub(crate) use running::*;
pub(crate) use steering::*;

pub(crate) const EXAMPLES: &str = "Examples:
  sheafctl init orders.yaml               a first pipeline, ready to be changed
  sheafctl validate orders.yaml           everything that is wrong with it, at once
  sheafctl graph orders.yaml              who reads whom
  sheafctl run orders.yaml                run it to its end; ctrl-c drains it
  sheafctl status                         how its components are, from another terminal";

pub(crate) const VALIDATE: &str = "Examples:
  sheafctl validate examples/pipelines/*.yaml
  sheafctl validate --deny-warnings orders.yaml
  sheafctl validate --json orders.yaml | jq '.files[].diagnostics[]'

Nothing is started or asked: files, variables and secrets that a pipeline refers to are
not looked at. It ends with 2 where a file cannot be used.";

pub(crate) const GRAPH: &str = "Examples:
  sheafctl graph orders.yaml
  sheafctl graph --format svg orders.yaml > orders.svg
  sheafctl graph --format dot orders.yaml | dot -Tpng > orders.png
  sheafctl graph --json orders.yaml | jq '.plan.edges[].id'";

pub(crate) const RENDER: &str = "Examples:
  sheafctl render orders.yaml | kubectl apply -f -
  sheafctl render --namespace shop --image registry.example.org/sheaf:1 orders.yaml
  sheafctl render --secrets omit orders.yaml > orders.manifests.yaml
  sheafctl render --durable-store grpc://sheaf.shop.svc:50051 durable.yaml

Each time the tokens of the components are made anew: they are in the secrets, which
`--secrets omit` leaves out and `--secrets only` prints alone. A file with durable edges needs a
store that pods reach, with --durable-store; its token goes into the secrets too. Sources that
have come to their end stay there when manifests are applied again; with --pass 2 they begin anew.";

pub(crate) const SCHEMA: &str = "Examples:
  sheafctl schema > pipeline.schema.json

With the YAML language server, in the first line of a pipeline's file:
  # yaml-language-server: $schema=pipeline.schema.json";

pub(crate) const INIT: &str = "Examples:
  sheafctl init
  sheafctl init orders.yaml --name orders && sheafctl validate orders.yaml";

pub(crate) const COMPLETIONS: &str = "Examples:
  source <(sheafctl completions bash)
  sheafctl completions zsh > ~/.zfunc/_sheafctl
  sheafctl completions fish > ~/.config/fish/completions/sheafctl.fish";

pub(crate) const TAP: &str = "Examples:
  sheafctl tap orders:large
  sheafctl tap orders:large --rows 100 --format csv > orders.csv
  sheafctl tap orders:large --format json | jq .amount

It begins with the next batch, and never slows the edge: rows that it cannot take in time
are left out and counted. It shows them as they were sent, before they are parted among the
readers. Who may read the run's own file, run.json, may look.";

pub(crate) const TOP: &str = "Examples:
  sheafctl top
  sheafctl top --pipeline orders --sort lag
  sheafctl top --once --json | jq '.edges[] | select(.state == \"waits\")'

Keys: q ends, s sorts by the next column, Tab goes to the other table, arrows scroll.

lag      batches that the readers have not acknowledged
waiting  batches that wait for credits of the readers
credits  batches that the readers would take now
state    flows; waits: the readers are the slower ones; broken: a reader is away; ended";

pub(crate) const TEST: &str = "Examples:
  sheafctl test orders.yaml
  sheafctl test orders.yaml --filter refunds
  sheafctl test --json orders.yaml | jq '.tests[] | select(.passed | not)'

No component is started, and nothing outside is read or written but by processors that do so:
one process, sheaf-component, has them all.
The rows under `inputs` go through the processors, over edges as they are parted among
replicas, and are compared with those under `outputs`: numbers by what they stand for.
It ends with 1 where a test fails, and with 2 where the file cannot be used.";
