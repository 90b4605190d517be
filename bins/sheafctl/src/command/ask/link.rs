//! `sheafctl console`

use std::path::Path;
use std::time::Duration;

use sheaf_drivers::control::ServerToken;
use sheaf_pipeline::health::{Endpoint, Poller};
use sheaf_pipeline::registry::incarnation;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_terminal::{Console, Failure};

use crate::args::{ADDRESS, DataArgs};

const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const MOST: usize = 4 << 10;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LinkArgs {
    /// The control plane
    #[arg(long, short, env = "SHEAF_CONTROL", default_value = ADDRESS, value_name = "HOST:PORT")]
    server: String,
    #[command(flatten)]
    data: DataArgs,
    /// Leave the token out: the page shows, and changes nothing
    #[arg(long)]
    no_token: bool,
}

pub(super) async fn run(
    args: &LinkArgs,
    clock: &SharedClock,
    console: &mut Console,
) -> Result<(), Failure> {
    let address = find(args)?;
    if args.no_token {
        return console.data(&format!("{address}/\n"));
    }
    let token = ServerToken::read(&args.data.token()).map_err(|error| {
        let path = args.data.token();
        let message = format!("the token in {} cannot be read: {error}", path.display());
        Failure::new(error.code(), message).help("use the --data-dir of the server, or --no-token")
    })?;
    prove(&address, &token, clock).await?;
    console.data(&format!("{address}/#token={}\n", token.secret().expose()))
}

/// Where the console of that control plane has said that it is.
fn find(args: &LinkArgs) -> Result<String, Failure> {
    let server =
        args.server.rsplit("://").next().unwrap_or_default().replace("localhost", "127.0.0.1");
    let folder = args.data.consoles();
    let path = crate::plane::console_file(&folder, &server);
    std::fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|_| {
        let (data, known) = (args.data.data_dir.display(), known(&folder));
        let message = format!("no control plane at {server} has a console in {data}");
        let help = match known.is_empty() {
            true => "start one with sheafctl run or server, and use its --data-dir".to_owned(),
            false => format!("--server may be {}", known.join(" or ")),
        };
        Failure::new(Code::NotFound, message).help(help)
    })
}

/// The control planes that have said so.
fn known(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let mut all: Vec<String> = names.map(|name| name.replacen('_', ":", 1)).collect();
    all.sort();
    all
}

/// Whoever took the port of a server that was killed must not be handed its token: the
/// one who answers has to know it.
async fn prove(address: &str, token: &ServerToken, clock: &SharedClock) -> Result<(), Failure> {
    let gone = |why: &str| {
        let message = format!("no console of this server answers at {address}: {why}");
        Failure::new(Code::Unavailable, message)
            .help("it was ended without an end: start it again, and ask again")
    };
    let host = address.rsplit("://").next().unwrap_or_default();
    let endpoint = Endpoint::checked(host, &format!("grpc://{host}"));
    let endpoint = endpoint.map_err(|error| gone(&error.to_string()))?;
    let endpoint = endpoint.ok_or_else(|| gone("no address"))?;
    let nonce = incarnation(clock.now().as_millis());
    let path = format!("/api/proof?nonce={}", nonce.expose());
    let answer = Poller::new(PATIENCE, clock.clone()).fetch(&endpoint, &path, MOST).await;
    let answer = answer.map_err(|why| gone(&why))?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).map_err(|error| gone(&error.to_string()))?;
    match answer["proof"].as_str() == Some(&token.proof(nonce.expose())) {
        true => Ok(()),
        false => Err(gone("it is another one")),
    }
}
