//! Examples at the end of help texts.

pub(crate) const EXAMPLES: &str = "Examples:
  sheaf serve --sink parquet:out          a server with two workers, results as Parquet
  sheaf put flights.csv --register        store a file as a batch and have it processed
  sheaf batches list --state failed       what went wrong
  sheaf get ID --output rows.parquet      fetch a batch";

pub(crate) const SERVE_EXAMPLES: &str = "Examples:
  sheaf serve --data-dir /var/lib/sheaf --workers 4 --sink parquet:/srv/out
  sheaf serve --mode worker --coordinator grpc://localhost:8080 --flight-addr localhost:8080
  sheaf serve --valkey-addr valkey.example.org:6379 --valkey-password-file password --advertise-addr one.example.org:8080
  SHEAF_LEASE=10s sheaf serve --config sheaf.yaml

Each setting is read from its flag, else from SHEAF_NAME in the environment, else from
the file, else it is the default. When it is up, one line on standard output says where:
  ready flight=grpc://127.0.0.1:PORT coordinator=grpc://127.0.0.1:PORT admin=http://127.0.0.1:PORT";

pub(crate) const DOCTOR_EXAMPLES: &str = "Examples:
  sheaf doctor --config /etc/sheaf/sheaf.yaml      before it is started, and while it runs
  sheaf doctor --mode worker --coordinator grpc+tls://store:8080 --flight-addr grpc+tls://store:8080 --tls-ca ca.pem
  sheaf doctor --json | jq '.checks[] | select(.verdict != \"ok\")'
  sheaf doctor --probe --flight-addr 0.0.0.0:8080 --insecure

It takes the settings of `sheaf serve` and changes nothing. It ends with 0 where there is
no problem, warnings or not; else with the exit code of the first problem.";

pub(crate) const PUT_EXAMPLES: &str = "Examples:
  sheaf put flights.parquet --register
  sheaf put *.csv.gz --rows-per-batch 100000 --register --queue bulk
  sheaf put rows.bin --input ipc --id orders:2026-11-21 --json | jq -r .batch_id";

pub(crate) const GET_EXAMPLES: &str = "Examples:
  sheaf get ID --limit 10
  sheaf get ID --format csv > rows.csv
  sheaf get ID --output rows.parquet";

pub(crate) const BATCHES_EXAMPLES: &str = "Examples:
  sheaf batches list --state failed,expired --json | jq -r '.batches[].batch_id'
  sheaf batches requeue --failed default
  sheaf batches purge --state completed --older-than 1h
  sheaf batches watch --queue bulk";

pub(crate) const RAFT_EXAMPLES: &str = "Examples:
  sheaf serve --mode coordinator --coordinator raft --node-id 1 --peers 1=a:5001,2=b:5001,3=c:5001
  sheaf raft status --server grpc://a:5001
  sheaf raft add-learner 4 d:5001 --server grpc://a:5001   after node 4 was started with --join
  sheaf raft promote 4 --server grpc://a:5001
  sheaf raft transfer-leader 2 --server grpc://a:5001

Any node may be asked; what changes the cluster is passed on to its leader.";

pub(crate) const BACKUP_EXAMPLES: &str = "Examples:
  sheaf backup /backups/2026-11-27 --server grpc://localhost:8080
  sheaf restore /backups/2026-11-27 --check
  sheaf restore /backups/2026-11-27 --data-dir /var/lib/sheaf

A backup of several servers: the coordinator first, then each Flight server, within its --ttl.";
