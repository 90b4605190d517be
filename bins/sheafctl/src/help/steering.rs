//! Examples of the commands that change what runs.

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
