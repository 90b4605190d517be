//! Flight: each server with its own client, both in processes of their own.
//!
//! Every case is measured on one side right after the other, in every round;
//! who is not measured waits for commands. A get decodes every batch and lets
//! it go; a put is kept in memory. What a case's name does not say is one
//! stream of batches of 4 MiB, of two integers and a string of 16 bytes a row.

mod scan;
mod variants;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{Comparison, Outcome, Samples, Setup};
use crate::error::{Error, Result};
use crate::load::socket;
use crate::process::{
    HALF_TICK, Server, cpu_seconds, load, number, pinned, python, python_version, temporary,
};
use crate::report::{Better, Case};

pub(super) const COMPARISON: Comparison =
    Comparison { name: "flight", peers: &["pyarrow"], services: &[], run };

/// Microseconds for one row, at the median.
const ONE_ROW: f64 = 200.0;

/// Shapes of rows with streams at once.
const CASES: [(&str, u64); 9] = [
    ("rows1k", 1),
    ("rows1k", 8),
    MAIN,
    ("mib4", 8),
    ("mib4", 64),
    ("mib64", 1),
    ("mib64", 8),
    ("mib4-ints", 1),
    ("mib4-text", 1),
];
/// What a case's name does not say.
const MAIN: (&str, u64) = ("mib4", 1);

/// The side of our server with pyarrow's client.
const BY_PYARROW: &str = "ours_by_pyarrow";

const OPERATIONS: [&str; 2] = ["get", "put"];

/// A server and a client that talks to it.
struct Side {
    name: &'static str,
    /// The server's own process, and that of the client.
    pids: [String; 2],
    commands: TcpStream,
    answers: BufReader<TcpStream>,
    /// Kept so that it ends with this.
    _client: Server,
}

impl Side {
    fn new(name: &'static str, server: &Server, client: Server) -> Result<Self> {
        let address = client.address().trim_start_matches("tcp://").to_owned();
        let commands = TcpStream::connect(&address).map_err(Error::io("reach a client"))?;
        let answers = commands.try_clone().map_err(Error::io("reach a client"))?;
        let pids = [server.pid(), client.pid()];
        let answers = BufReader::new(answers);
        Ok(Side { name, pids, commands, answers, _client: client })
    }

    /// What is not over plain TCP is measured in the main case only.
    fn takes(&self, case: (&str, u64)) -> bool {
        case == MAIN || !["_uds", "_tls"].iter().any(|end| self.name.ends_with(end))
    }

    fn command(&mut self, command: &Value) -> Result<Value> {
        let failed = |error: std::io::Error| {
            Error::Message(format!("the client of {} is gone: {error}", self.name))
        };
        writeln!(self.commands, "{command}").map_err(failed)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        serde_json::from_str(&line)
            .map_err(|_| Error::Message(format!("the client of {} answers {line:?}", self.name)))
    }

    /// GB/s of a command, and CPU seconds per GB of server and client together.
    fn measure(&mut self, key: &str, command: &Value, samples: &mut Samples) -> Result<()> {
        let before = cpu_seconds(&self.pids)?;
        let answer = self.command(command)?;
        let used = cpu_seconds(&self.pids)? - before;
        let gigabytes = number(&answer, "bytes")? / 1e9;
        let name = self.name;
        samples.add(format!("{key} {name}"), gigabytes / number(&answer, "seconds")?);
        samples.add(format!("{key} {name} cpu"), used.max(HALF_TICK) / gigabytes);
        Ok(())
    }
}

fn run(setup: &Setup) -> Result<Outcome> {
    let folder = temporary()?;
    let [uds, peer_uds] = ["ours", "pyarrow"].map(|name| folder.path().join(name));
    let (uds, peer_uds) = (uds.display().to_string(), peer_uds.display().to_string());
    let options = ["--memory-limit", "6GB", "--durability", "memory", "--flight-uds", &uds];
    let ours = Server::sheaf(&setup.sheaf, &options)?;
    let pyarrow = Server::start(python("pyarrow", "flight_server.py")?, None)?;
    let peer_uds = format!("grpc+unix://{peer_uds}");
    let pyarrow_uds = python("pyarrow", "flight_server.py")?.args([&peer_uds]);
    let pyarrow_uds = Server::start(pyarrow_uds, None)?;
    let stock = Server::start(load(&["stock"])?, None)?;
    let raw = Server::start(load(&["socket"])?, None)?;
    let rust = |kind, address: &str| Server::start(load(&["flight", kind, address])?, None);
    let python_client =
        |address: &str| Server::start(python("pyarrow", "flight_client.py")?.args([address]), None);
    let mut sides = vec![
        Side::new("ours", &ours, rust("ours", ours.address())?)?,
        Side::new("pyarrow", &pyarrow, python_client(pyarrow.address())?)?,
        Side::new("arrow_rs", &stock, rust("stock", stock.address())?)?,
        Side::new(BY_PYARROW, &ours, python_client(ours.address())?)?,
        Side::new("ours_uds", &ours, rust("ours", &format!("grpc+unix://{uds}"))?)?,
        Side::new("pyarrow_uds", &pyarrow_uds, python_client(&peer_uds)?)?,
    ];
    let secured = variants::Secured::start(setup)?;
    sides.extend(secured.sides()?);
    let mut samples = Samples::default();
    fill(setup, &mut sides)?;
    variants::fill(setup, &mut sides)?;
    scan::fill(setup, &mut sides)?;
    let bytes = socket::stock();
    for _ in 0..setup.rounds {
        round(setup, &mut sides, &mut samples)?;
        variants::round(setup, &mut sides, &mut samples)?;
        scan::round(&mut sides, &mut samples)?;
        sockets(setup, &raw, &bytes, &mut samples)?;
        // Who goes first changes, for the second finds warmer caches.
        sides.reverse();
    }
    let mut versions = Map::new();
    versions.insert("pyarrow".to_owned(), python_version("pyarrow", "pyarrow")?.into());
    let arrow = pinned("../../Cargo.toml", "\narrow-flight = { version = \"")?;
    versions.insert("arrow_rs".to_owned(), arrow.into());
    let sides = "server and client of each side in processes of their own; a get decodes every \
                 batch and lets it go, a put is kept in memory; all share the cores";
    let sockets = "sends from 256 MiB of memory; a get is read into one buffer of 4 MiB, a put \
                   is kept in memory of its own; ours beside it gives messages, and record \
                   batches where the case says decoded";
    let notes = vec![("sides", sides.to_owned()), ("socket", sockets.to_owned())];
    let cases = [cases(&samples)?, variants::cases(&samples)?, scan::cases(&samples)?].concat();
    Ok(Outcome { cases, versions, notes })
}

/// The payloads that are got, and connections for all streams.
fn fill(setup: &Setup, sides: &mut [Side]) -> Result<()> {
    for side in sides.iter_mut().filter(|side| ![BY_PYARROW, "ours_uds"].contains(&side.name)) {
        for (shape, streams) in CASES {
            if !side.takes((shape, streams)) {
                continue;
            }
            let bytes = size(setup, shape, streams);
            side.command(&json!({ "do": "make", "rows": shape, "bytes": bytes }))?;
            side.command(&json!({ "do": "put", "name": format!("{shape}.{streams}") }))?;
        }
        side.command(&json!({ "do": "make", "rows": "one", "bytes": 1 }))?;
        side.command(&json!({ "do": "put", "name": "one" }))?;
    }
    for side in sides {
        // None is measured while it connects.
        side.command(&json!({ "do": "get", "name": "one.0", "streams": 64 }))?;
    }
    Ok(())
}

/// 256 MiB in one stream, 64 MiB in each of eight, 16 MiB in each of 64; of
/// small batches a quarter, for comparable times.
fn size(setup: &Setup, shape: &str, streams: u64) -> u64 {
    let mib = match streams {
        1 => setup.size(256, 4),
        8 => setup.size(64, 4),
        _ => setup.size(16, 1),
    };
    let mib = if shape == "rows1k" { mib.div_ceil(4) } else { mib };
    mib << 20
}

fn round(setup: &Setup, sides: &mut [Side], samples: &mut Samples) -> Result<()> {
    for (shape, streams) in CASES {
        let bytes = size(setup, shape, streams);
        for side in sides.iter_mut().filter(|side| side.takes((shape, streams))) {
            side.command(&json!({ "do": "make", "rows": shape, "bytes": bytes }))?;
        }
        for operation in OPERATIONS {
            let key = format!("{operation} {shape} {streams}");
            for side in sides.iter_mut().filter(|side| side.takes((shape, streams))) {
                let command = match operation {
                    "get" => json!({
                        "do": "get", "name": format!("{shape}.{streams}.0"), "streams": streams,
                    }),
                    _ => json!({ "do": "put", "name": "new", "streams": streams }),
                };
                side.measure(&key, &command, samples)?;
                if operation == "put" {
                    let delete = json!({ "do": "delete", "name": "new", "streams": streams });
                    side.command(&delete)?;
                }
            }
        }
    }
    let calls = setup.size(1_000, 20);
    for side in sides.iter_mut().filter(|side| side.name == "ours") {
        let fetch = json!({ "do": "fetch", "name": format!("{}.{}.0", MAIN.0, MAIN.1) });
        side.measure("fetch", &fetch, samples)?;
    }
    for side in sides {
        let one = json!({ "do": "one", "name": "one.0", "calls": calls });
        let answer = side.command(&one)?;
        samples.add(format!("one {}", side.name), number(&answer, "seconds")? * 1e6);
    }
    Ok(())
}

/// The same bytes over a raw socket, and through memory alone.
fn sockets(setup: &Setup, raw: &Server, stock: &[u8], samples: &mut Samples) -> Result<()> {
    let count = size(setup, MAIN.0, MAIN.1);
    let gigabytes = count as f64 / 1e9;
    let pids = [raw.pid(), std::process::id().to_string()];
    for operation in OPERATIONS {
        let before = cpu_seconds(&pids)?;
        let took = match operation {
            "get" => socket::read(raw.address(), count)?,
            _ => socket::write(raw.address(), stock, count)?,
        };
        let used = cpu_seconds(&pids)? - before;
        samples.add(format!("{operation} socket"), gigabytes / took.as_secs_f64());
        samples.add(format!("{operation} socket cpu"), used.max(HALF_TICK) / gigabytes);
    }
    let mut batch = vec![0; 4 << 20];
    let start = Instant::now();
    let mut copied = 0;
    for piece in stock.chunks(batch.len()) {
        batch[..piece.len()].copy_from_slice(piece);
        copied += std::hint::black_box(&batch).len();
    }
    samples.add("memcpy", copied as f64 / 1e9 / start.elapsed().as_secs_f64());
    Ok(())
}

const RATE: (&str, Better) = ("GB/s", Better::Higher);
const CPU: (&str, Better) = ("CPU-s/GB", Better::Lower);
const TIME: (&str, Better) = ("us", Better::Lower);

fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut compare = |name: String, unit, key: &str, (ours, peer): (&str, &str), tail: &str| {
        let (mine, its) = (format!("{key} {ours}{tail}"), format!("{key} {peer}{tail}"));
        let case = Case::against(&name, unit, samples.of(&mine), (peer, samples.of(&its)))?;
        cases.push(case);
        Ok::<_, Error>(())
    };
    for operation in OPERATIONS {
        for (shape, streams) in CASES {
            let key = format!("{operation} {shape} {streams}");
            let tail = match (shape, streams) {
                MAIN => String::new(),
                _ => format!("_{}_{streams}", shape.replace('-', "_")),
            };
            for peer in ["pyarrow", "arrow_rs"] {
                let sides = ("ours", peer);
                compare(format!("do{operation}_tcp_vs_{peer}{tail}"), RATE, &key, sides, "")?;
                compare(format!("do{operation}_cpu_vs_{peer}{tail}"), CPU, &key, sides, " cpu")?;
            }
            let sides = (BY_PYARROW, "pyarrow");
            let name = format!("do{operation}_pyarrow_client_vs_pyarrow{tail}");
            compare(name, RATE, &key, sides, "")?;
            if (shape, streams) == MAIN {
                let sides = ("ours_uds", "pyarrow_uds");
                compare(format!("do{operation}_uds_vs_pyarrow"), RATE, &key, sides, "")?;
            }
        }
    }
    for peer in ["pyarrow", "arrow_rs"] {
        compare(format!("get_1row_p50_vs_{peer}"), TIME, "one", ("ours", peer), "")?;
    }
    let sides = (BY_PYARROW, "pyarrow");
    compare("get_1row_p50_pyarrow_client_vs_pyarrow".to_owned(), TIME, "one", sides, "")?;
    cases.push(Case::target("get_1row_p50", TIME, samples.of("one ours"), ONE_ROW)?);
    let main = |operation: &str| format!("{operation} {} {}", MAIN.0, MAIN.1);
    for (name, key, operation) in [
        ("doget", "fetch".to_owned(), "get"),
        ("doget_decoded", main("get"), "get"),
        ("doput", main("put"), "put"),
    ] {
        for (what, unit, tail) in [("tcp", RATE, ""), ("cpu", CPU, " cpu")] {
            let ours = samples.of(&format!("{key} ours{tail}"));
            let socket = samples.of(&format!("{operation} socket{tail}"));
            let name = format!("{name}_{what}_vs_socket");
            cases.push(Case::against(&name, unit, ours, ("raw TCP", socket))?);
        }
    }
    let ours = samples.of("get mib4 1 ours");
    cases.push(Case::against("doget_tcp_vs_memcpy", RATE, ours, ("memcpy", samples.of("memcpy")))?);
    Ok(cases)
}
