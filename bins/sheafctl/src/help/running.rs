//! Examples of the commands that run pipelines.

pub(crate) const RUN: &str = "Examples:
  sheafctl run examples/pipelines/linear.yaml
  sheafctl run orders.yaml --log-level debug --control-addr 127.0.0.1:0
  sheafctl run orders.yaml --fresh        from the beginning, not where it was broken off
  sheafctl run orders.yaml --watch        a file that is saved anew is taken up at once

Components are processes of their own, which end with this one. The first ctrl-c stops the
sources and waits for what is on its way; the second one ends everything. It ends with 0
where the pipeline came to its end or was drained, with 1 where it failed. When it is up,
one line on standard output says where other commands and a browser find it, but with --quiet:
  ready control=grpc://127.0.0.1:PORT console=http://127.0.0.1:PORT pipeline=NAME run=N";

pub(crate) const SERVER: &str = "Examples:
  sheafctl server
  sheafctl server --state /var/lib/sheaf/control.redb --data-dir /var/lib/sheaf
  sheafctl server --pipeline orders.yaml --data-dir /var/lib/sheaf
  sheafctl start orders.yaml && sheafctl status

With --pipeline it runs that one too; with --tokens beside it, others start its components, and
it has their places, their health and the state of the run. Components go on when the server
ends, however it ends: started again with the same --state, --data-dir and --control-addr, it
takes them up. With --state memory they end with it.
When it is up, one line on standard output says where:
  ready control=grpc://127.0.0.1:PORT console=http://127.0.0.1:PORT [pipeline=NAME]";

pub(crate) const CONSOLE: &str = "Examples:
  sheafctl console
  xdg-open \"$(sheafctl console)\"
  sheafctl console --server 127.0.0.1:9090 --no-token

The link has the token of the server behind its `#`, which a browser keeps to itself: with it
the page shows logs and batches, requeues, restarts and stops. Without it the page shows
topology, figures and runs. Give the link to nobody who may not stop the pipeline.";

pub(crate) const START: &str = "Examples:
  sheafctl start orders.yaml
  sheafctl start orders.yaml --server 127.0.0.1:9090 --json

Paths, variables and programs that the file names are those of the server.";

pub(crate) const PS: &str = "Examples:
  sheafctl ps
  sheafctl ps --all --json | jq '.pipelines[].state'";

pub(crate) const STATUS: &str = "Examples:
  sheafctl status
  sheafctl status orders --json | jq '.pipelines[0].components[].status'";

pub(crate) const LOGS: &str = "Examples:
  sheafctl logs
  sheafctl logs -f large                  of one component, and what comes
  sheafctl logs -n 1000 -t --pipeline orders orders.1";

pub(crate) const STOP: &str = "Examples:
  sheafctl stop
  sheafctl stop orders --now";

pub(crate) const RESTART: &str = "Examples:
  sheafctl restart large
  sheafctl restart large.1 --pipeline orders";

pub(crate) const RUNS: &str = "Examples:
  sheafctl runs
  sheafctl runs orders --json | jq '.runs[0].outcome'
  sheafctl runs --state old.redb

It shows what the control plane knows that runs, and what runs have left in --data-dir.";
