//! `sheaf coordinator migrate`

use std::path::{Path, PathBuf};

use serde::Serialize;
use sheaf_coordinator::embedded::FileEndpoint;
use sheaf_coordinator::migration::{self, Endpoint, Migration, Options, Summary};
use sheaf_flight::{ChannelPool, Secret, Target, TlsFiles};
use sheaf_proto::BatchId;
use sheaf_raft::coordinator::RemoteEndpoint;
use sheaf_retry::{Code, HumanDuration, SharedClock};
use sheaf_terminal::{Console, Failure, Progress, SecurityArgs, count, counted};
use sheaf_valkey::{Address, ValkeyCoordinator};

use crate::backup::COORDINATOR_FILE;

/// Commands on coordinators themselves.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum CoordinatorCommand {
    /// Move all that a coordinator knows to another one
    #[command(after_help = EXAMPLES)]
    Migrate(MigrateArgs),
}

impl CoordinatorCommand {
    /// Whether a program reads what the command writes.
    pub fn json(&self) -> bool {
        let CoordinatorCommand::Migrate(args) = self;
        args.json
    }

    /// Runs it.
    ///
    /// # Errors
    /// As [`MigrateArgs::run`].
    pub async fn run(self, clock: SharedClock, console: Console) -> Result<(), Failure> {
        let CoordinatorCommand::Migrate(args) = self;
        args.run(clock, console).await
    }
}

const EXAMPLES: &str = "Examples:
  sheaf coordinator migrate --from /var/lib/sheaf --to valkey://valkey.example.org:6379
  sheaf coordinator migrate --from valkey://localhost:6379 --to ./data
  sheaf coordinator migrate --from valkey://a:6379 --to valkey://b:6379 --to-namespace night
  sheaf coordinator migrate --from ./data --to grpc://a:5001,grpc://b:5001,grpc://c:5001

Batches keep their attempts, errors, leases and tokens; queues their limits and switches.
A server on a data directory must be stopped first. Servers on Valkey may go on, and the
nodes of a Raft cluster have to: workers settle what they have, and nothing new is taken
or given out. Cut off at any point, the same command goes on; with --abandon the source is
as it was. Payloads stay where they are.";

/// What to move, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArgs {
    /// Data directory of a stopped server, address of Valkey (valkey://HOST:PORT, and the other forms of `sheaf serve --valkey-addr`), or nodes of a Raft cluster (grpc://HOST:PORT,…)
    #[arg(long, value_name = "DIR|URL")]
    pub from: String,
    /// The same, of the coordinator that is to have it: it must be empty
    #[arg(long, value_name = "DIR|URL")]
    pub to: String,
    /// What the keys of the source begin with
    #[arg(long, value_name = "NAME", default_value = "sheaf")]
    pub from_namespace: String,
    /// What the keys of the target begin with
    #[arg(long, value_name = "NAME", default_value = "sheaf")]
    pub to_namespace: String,
    /// User of the ACL of Valkey, where the address names none
    #[arg(long, value_name = "NAME", env = "SHEAF_VALKEY_USER")]
    pub valkey_user: Option<String>,
    /// Password of Valkey, where the address has none; other users of this machine see flags
    #[arg(long, value_name = "PASSWORD", env = "SHEAF_VALKEY_PASSWORD", hide_env_values = true, conflicts_with = "valkey_password_file", value_parser = secret)]
    pub valkey_password: Option<Secret>,
    /// File with the password of Valkey, where the address has none
    #[arg(long, value_name = "FILE", env = "SHEAF_VALKEY_PASSWORD_FILE")]
    pub valkey_password_file: Option<PathBuf>,
    /// CA certificates, in PEM, by which Valkey is checked
    #[arg(long, value_name = "FILE", env = "SHEAF_VALKEY_TLS_CA")]
    pub valkey_tls_ca: Option<PathBuf>,
    /// Certificate, in PEM, that is shown to Valkey
    #[arg(long, value_name = "FILE", env = "SHEAF_VALKEY_TLS_CERT", requires_all = ["valkey_tls_key", "valkey_tls_ca"])]
    pub valkey_tls_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", env = "SHEAF_VALKEY_TLS_KEY", requires = "valkey_tls_cert")]
    pub valkey_tls_key: Option<PathBuf>,
    /// How long workers on a source in Valkey or Raft may take to settle what they have; what is left then keeps its leases
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub drain_timeout: HumanDuration,
    /// Forget the state in the target that was itself moved elsewhere earlier
    #[arg(long)]
    pub replace: bool,
    /// Give up a migration of these two that was cut off: the source goes on
    #[arg(long, conflicts_with_all = ["replace", "drain_timeout"])]
    pub abandon: bool,
    /// Answer with JSON, for programs; errors on standard error are JSON too
    #[arg(long)]
    pub json: bool,
    /// Certificates and token for nodes of a Raft cluster; the token needs `allow=raft:x`.
    #[command(flatten)]
    pub security: SecurityArgs,
}

/// What was done, for programs.
#[derive(Serialize)]
struct Answer<'a> {
    from: &'a str,
    to: &'a str,
    abandoned: bool,
    resumed: bool,
    /// An earlier run had come to the end: what was live is not counted again.
    done_before: bool,
    batches: u64,
    live: u64,
    leases: u64,
    queues: usize,
}

impl<'a> Answer<'a> {
    fn of(migration: &'a Migration, summary: Option<&Summary>) -> Self {
        Answer {
            from: &migration.from,
            to: &migration.to,
            abandoned: summary.is_none(),
            resumed: summary.is_none_or(|summary| summary.is_resumed),
            done_before: summary.is_some_and(|summary| summary.was_done),
            batches: summary.map_or(0, |summary| summary.head.batches),
            live: summary.map_or(0, |summary| summary.live),
            leases: summary.map_or(0, |summary| summary.leases),
            queues: summary.map_or(0, |summary| summary.head.queues.len()),
        }
    }
}

/// One side, as it is named.
enum Place<'a> {
    Directory(&'a Path),
    Valkey(Address),
    Cluster(Vec<Target>),
}

impl MigrateArgs {
    /// Moves a state, goes on with a migration that was cut off, or gives it up.
    ///
    /// # Errors
    /// `failed_precondition` where a side is not what it has to be,
    /// `directory_locked` where a server has a directory, `corrupt` where the
    /// target is not what the source is, and as Valkey and the disk.
    pub async fn run(self, clock: SharedClock, mut console: Console) -> Result<(), Failure> {
        let is_same = self.from == self.to
            && (self.from_namespace == self.to_namespace || !self.from.contains("://"));
        if is_same {
            let problem = "--from and --to are the same; name the coordinator that is to have it";
            return Err(Failure::new(Code::InvalidArgument, problem));
        }
        let mut from = self.open("--from", &self.from, &self.from_namespace, &clock).await?;
        let mut to = self.open("--to", &self.to, &self.to_namespace, &clock).await?;
        if self.abandon {
            let migration = migration::abandon(&mut *from, &mut *to).await;
            let migration = migration.map_err(|error| Failure::from_error(&error))?;
            if self.json {
                return console.json(&Answer::of(&migration, None));
            }
            console.data(&format!(
                "gave up moving {} to {}: it goes on where it was\n",
                migration.from, migration.to
            ))?;
            return Ok(());
        }
        let options = Options {
            id: BatchId::generate(clock.now().as_millis()).to_string(),
            drain_for: self.drain_timeout.0,
            replace: self.replace,
        };
        let mut shown =
            Shown::new(if self.json { None } else { Some(console.notes_on_terminal()) });
        let mut tell = |progress| shown.tell(progress);
        let moved = migration::migrate(&mut *from, &mut *to, &options, &clock, &mut tell).await;
        shown.finish();
        let summary = moved.map_err(|error| explained(&error))?;
        self.tell(&summary, &mut console)
    }

    fn tell(&self, summary: &Summary, console: &mut Console) -> Result<(), Failure> {
        let migration = &summary.migration;
        if self.json {
            return console.json(&Answer::of(migration, Some(summary)));
        }
        let (live, leases) = (count(summary.live), counted(summary.leases, "lease"));
        if summary.was_done {
            let (from, to) = (&migration.from, &migration.to);
            console.data(&format!("{from} was moved to {to} before: nothing was left to do\n"))?;
            return Ok(());
        }
        console.data(&format!(
            "moved {} to {}: {}, {live} of them not over, {leases}, {}; compared one by one\n",
            migration.from,
            migration.to,
            batches(summary.head.batches),
            counted(summary.head.queues.len() as u64, "queue"),
        ))?;
        let serve = match self.place("--to", &self.to)? {
            Place::Directory(path) => format!("sheaf serve --data-dir {}", path.display()),
            Place::Valkey(address) => {
                let namespace = match self.to_namespace.as_str() {
                    "sheaf" => String::new(),
                    name => format!(" --valkey-namespace {name}"),
                };
                format!("sheaf serve --valkey-addr {address}{namespace}")
            }
            Place::Cluster(_) => format!("sheaf serve --mode flight --coordinator {}", self.to),
        };
        console.note(&format!("next: start servers and workers with `{serve}` and what they had"));
        Ok(())
    }

    fn place<'a>(&self, flag: &str, text: &'a str) -> Result<Place<'a>, Failure> {
        if text.starts_with("grpc") && text.contains("://") {
            let nodes = text.split(',').map(|node| node.trim().parse());
            let nodes = nodes.collect::<Result<_, _>>().map_err(|error| {
                Failure::from_error::<sheaf_flight::Error>(&error).of(flag.to_owned())
            })?;
            return Ok(Place::Cluster(nodes));
        }
        if text.contains("://") {
            let address = Address::parse(text)
                .map_err(|error| Failure::from_error(&error).of(flag.to_owned()))?;
            return Ok(Place::Valkey(address));
        }
        let path = Path::new(text);
        let is_address = text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.contains('/') && port.parse::<u16>().is_ok());
        if is_address && !path.exists() {
            let problem = format!("{flag}: {text:?} is no directory");
            return Err(Failure::new(Code::InvalidArgument, problem).help(format!(
                "write valkey://{text} for a Valkey that is there, grpc://{text} for a Raft node"
            )));
        }
        Ok(Place::Directory(path))
    }

    async fn open(
        &self,
        flag: &str,
        text: &str,
        namespace: &str,
        clock: &SharedClock,
    ) -> Result<Box<dyn Endpoint>, Failure> {
        match self.place(flag, text)? {
            Place::Directory(path) => directory(flag, path, clock),
            Place::Valkey(address) => self.valkey(address, namespace, clock).await,
            Place::Cluster(nodes) => self.cluster(&nodes, clock).await,
        }
    }

    async fn cluster(
        &self,
        nodes: &[Target],
        clock: &SharedClock,
    ) -> Result<Box<dyn Endpoint>, Failure> {
        let pool = ChannelPool::new(self.security.config()?, clock.clone());
        let nodes: Vec<String> = nodes.iter().map(Target::to_string).collect();
        let opened = RemoteEndpoint::connect(&pool, &nodes, clock.clone()).await;
        Ok(Box::new(opened.map_err(|error| Failure::from_error(&error))?))
    }

    async fn valkey(
        &self,
        address: Address,
        namespace: &str,
        clock: &SharedClock,
    ) -> Result<Box<dyn Endpoint>, Failure> {
        let failed = |error: sheaf_flight::Error| Failure::from_error(&error);
        let mut builder = ValkeyCoordinator::at(address).namespace(namespace);
        if let Some(user) = &self.valkey_user {
            builder = builder.username(user);
        }
        if let Some(password) = &self.valkey_password {
            builder = builder.password(password.expose());
        }
        if let Some(path) = &self.valkey_password_file {
            let password = sheaf_flight::read_secret_file(path, "password file").map_err(failed)?;
            builder = builder.password(password.expose());
        }
        if let Some(ca) = &self.valkey_tls_ca {
            let identity = self.valkey_tls_cert.clone().zip(self.valkey_tls_key.clone());
            let files = TlsFiles { ca: ca.clone(), identity };
            builder = builder.tls(files.read(clock).await.map_err(failed)?);
        }
        let opened = builder.endpoint().await.map_err(|error| Failure::from_error(&error))?;
        Ok(Box::new(opened))
    }
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn directory(flag: &str, path: &Path, clock: &SharedClock) -> Result<Box<dyn Endpoint>, Failure> {
    let file = path.join(COORDINATOR_FILE);
    if flag == "--from" && !file.exists() {
        let problem = format!("{flag}: there is no {COORDINATOR_FILE} in {}", path.display());
        return Err(Failure::new(Code::NotFound, problem)
            .help("name the data directory of a server with its coordinator inside"));
    }
    std::fs::create_dir_all(path).map_err(|error| {
        let problem = format!("{flag}: {} cannot be made", path.display());
        Failure::new(Code::Io, problem).because(error)
    })?;
    // The other side remembers it, for somebody who may be elsewhere.
    let file = std::path::absolute(&file).unwrap_or(file);
    let opened = FileEndpoint::open(file, clock.clone());
    Ok(Box::new(opened.map_err(|error| Failure::from_error(&error))?))
}

fn batches(number: u64) -> String {
    if number == 1 { "1 batch".to_owned() } else { format!("{} batches", count(number)) }
}

fn explained(error: &sheaf_coordinator::Error) -> Failure {
    let failure = Failure::from_error(error);
    match failure.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::DiskFull | Code::Io => {
            failure.help("the same command goes on; with --abandon the source is as it was")
        }
        Code::Corrupt => failure
            .help("the source is whole and frozen: with --abandon it goes on; please report this"),
        _ => failure,
    }
}

/// A bar for each part of the way.
struct Shown {
    on_terminal: Option<bool>,
    bar: Option<(&'static str, Progress)>,
}

impl Shown {
    /// `None` shows nothing.
    fn new(on_terminal: Option<bool>) -> Self {
        Shown { on_terminal, bar: None }
    }

    fn tell(&mut self, progress: migration::Progress) {
        let (what, at, all) = match progress {
            migration::Progress::Draining(leases) => ("leases to settle", leases, None),
            migration::Progress::Copied(done, all) => ("copied", done, Some(all)),
            migration::Progress::Compared(done, all) => ("compared", done, Some(all)),
        };
        let Some(on_terminal) = self.on_terminal else { return };
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != what) {
            self.finish();
            self.bar = Some((what, Progress::start(what, all, on_terminal)));
        }
        if let Some((_, bar)) = &mut self.bar {
            bar.reach(at);
        }
    }

    fn finish(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish();
        }
    }
}
