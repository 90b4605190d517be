//! Examples of the commands that run pipelines.

pub(crate) const RUN: &str = "Examples:
  sheafctl run examples/pipelines/linear.yaml
  sheafctl run orders.yaml --log-level debug --control-addr 127.0.0.1:0
  sheafctl run orders.yaml --fresh        from the beginning, not where it was broken off
  sheafctl run orders.yaml --watch        a file that is saved anew is taken up at once

Components are processes of their own, which end with this one. The first ctrl-c stops the
sources and waits for what is on its way; the second one ends everything. It ends with 0
where the pipeline came to its end or was drained, with 1 where it failed. When it is up,
one line on standard output says where other commands and a browser find it:
  ready control=grpc://127.0.0.1:PORT console=http://127.0.0.1:PORT pipeline=NAME run=N";

pub(crate) const SERVER: &str = "Examples:
  sheafctl server
  sheafctl server --state /var/lib/sheaf/control.redb --data-dir /var/lib/sheaf
  sheafctl server --pipeline orders.yaml --data-dir /var/lib/sheaf
  sheafctl start orders.yaml && sheafctl status

With --pipeline it runs that one too; with --tokens beside it, others start its components, and
it has their places, their health and the state of the run. Components go on when the server ends, however it ends: started again with the same
--state, --data-dir and --control-addr, it takes them up. With --state memory they end with it.
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

pub(crate) const REPLAY: &str = "Examples:
  sheafctl replay events:even --from 10m               what was sent in the last ten minutes
  sheafctl replay events:even --from 2026-11-30T09:00:00Z --pipeline durable
  sheafctl replay even:files --from durable:even:files:0-0:84eca408f281c5af:17

The reader of the edge gets the batches once more, in their order, and what it makes of them
goes on from there: whatever comes after it gets that twice. A sink that writes exactly once
knows its batches again, and writes those that it lacks. Batches are kept for the time that
--durable-retention of sheafctl run and sheafctl server says, counted from their completion.
The pipeline has to run, and --data-dir has to be that of its control plane.";

pub(crate) const RELOAD: &str = "Examples:
  sheafctl reload orders.yaml
  sheafctl reload orders.yaml --json | jq .restarted

Only instances that are told something else are started anew: those whose own lines have
changed, and those that read or are read by others than before. They drain first, senders
before readers, and nothing is lost. A file that cannot be used changes nothing. Where a
component of the new file cannot be started at all, the old one comes back. The replicas of
a source stay as long as it runs. It waits until everything has registered again.";

pub(crate) const CHAOS: &str = "Examples:
  sheafctl chaos orders kill large
  sheafctl chaos orders kill large.1
  sheafctl chaos orders pause store --for 10s
  sheafctl chaos orders slow store --delay 50ms --for 30s
  sheafctl chaos orders random --for 1m --seed 7

A paused component stands still, by SIGSTOP; one that stands still for longer than the
`timeout` of its health is unhealthy, and started again. A slow one stands still for the
delay again and again, and runs for 10 ms in between. The same seed does the same to the same
pipeline. Each kill counts as a failure: more than `maxRestarts` within `window` fail the
pipeline. It ends with 1 where the pipeline is not healthy again in the time of --patience.";

pub(crate) const RUNS: &str = "Examples:
  sheafctl runs
  sheafctl runs orders --json | jq '.runs[0].outcome'
  sheafctl runs --state old.redb

It shows what the control plane knows that runs, and what runs have left in --data-dir.";
