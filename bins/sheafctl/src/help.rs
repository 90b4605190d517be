//! Examples at the end of help texts.

pub(crate) const EXAMPLES: &str = "Examples:
  sheafctl init orders.yaml               a first pipeline, ready to be changed
  sheafctl validate orders.yaml           everything that is wrong with it, at once
  sheafctl graph orders.yaml              who reads whom";

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
  sheafctl render --namespace shop --image registry.example.org/sheaf-component:1 orders.yaml
  sheafctl render --secrets omit orders.yaml > orders.manifests.yaml

Each time the tokens of the components are made anew: they are in the secrets, which
`--secrets omit` leaves out and `--secrets only` prints alone.";

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
