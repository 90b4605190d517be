//! Compressed bodies, and TLS: ours and pyarrow's, each with its own client.
//!
//! What is compressed are integers that walk at random and short words. `lz4`
//! and `zstd` in a case's name mean that whoever sends compresses, each time:
//! the server in a get, the client in a put; `kept`, that our server was told
//! to compress once, at the put. Rates are of the rows, not of what crosses
//! the wire.

use serde_json::json;
use sheaf_testkit::TlsFiles;

use super::{CPU, MAIN, OPERATIONS, RATE, Side, size};
use crate::compare::{Samples, Setup};
use crate::error::Result;
use crate::process::{Server, load, python};
use crate::report::{Better, Case};

const CODECS: [&str; 2] = ["lz4", "zstd"];

/// The rows that are compressed.
const ROWS: &str = "mib4-walk";

/// The sides that compress.
const SIDES: [&str; 2] = ["ours", "pyarrow"];

/// Servers with TLS and their clients.
pub(super) struct Secured {
    servers: [Server; 2],
    files: TlsFiles,
}

impl Secured {
    pub(super) fn start(setup: &Setup) -> Result<Self> {
        let files = TlsFiles::new()?;
        let (certificate, key) = (files.server_certificate(), files.server_key());
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let options = ["--memory-limit", "2GB", "--durability", "memory"];
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        let ours = Server::sheaf(&setup.sheaf, &[&options[..], &tls[..]].concat())?;
        let arguments = ["grpc+tls://127.0.0.1:0", &certificate, &key];
        let pyarrow = python("pyarrow", "flight_server.py")?.args(arguments);
        Ok(Secured { servers: [ours, Server::start(pyarrow, None)?], files })
    }

    pub(super) fn sides(&self) -> Result<[Side; 2]> {
        let ca = self.files.ca().display().to_string();
        let [ours, pyarrow] = &self.servers;
        let client = load(&["flight", "ours", ours.address(), "--ca", &ca])?;
        let theirs = python("pyarrow", "flight_client.py")?.args([pyarrow.address(), &ca]);
        Ok([
            Side::new("ours_tls", ours, Server::start(client, None)?)?,
            Side::new("pyarrow_tls", pyarrow, Server::start(theirs, None)?)?,
        ])
    }
}

fn bytes(setup: &Setup) -> u64 {
    size(setup, ROWS, 1)
}

fn compressing(sides: &mut [Side]) -> impl Iterator<Item = &mut Side> {
    sides.iter_mut().filter(|side| SIDES.contains(&side.name))
}

/// The payloads that are got compressed.
pub(super) fn fill(setup: &Setup, sides: &mut [Side]) -> Result<()> {
    for side in compressing(sides) {
        side.command(&json!({ "do": "make", "rows": ROWS, "bytes": bytes(setup) }))?;
        side.command(&json!({ "do": "put", "name": ROWS }))?;
        if side.name == "ours" {
            for codec in CODECS {
                let name = format!("{ROWS}.{codec}");
                side.command(&json!({ "do": "put", "name": name, "kept": codec }))?;
            }
        }
    }
    Ok(())
}

pub(super) fn round(setup: &Setup, sides: &mut [Side], samples: &mut Samples) -> Result<()> {
    for side in compressing(sides) {
        side.command(&json!({ "do": "make", "rows": ROWS, "bytes": bytes(setup) }))?;
    }
    for codec in CODECS {
        for side in compressing(sides) {
            let get = match side.name {
                "ours" => json!({ "do": "get", "name": format!("{ROWS}.0"), "compression": codec }),
                _ => json!({ "do": "get", "name": format!("{ROWS}.0?compression={codec}") }),
            };
            side.measure(&format!("get {codec}"), &get, samples)?;
            if side.name == "ours" {
                let kept = json!({ "do": "get", "name": format!("{ROWS}.{codec}.0") });
                side.measure(&format!("get {codec} kept"), &kept, samples)?;
            }
        }
        for side in compressing(sides) {
            let put = json!({ "do": "put", "name": "new", "compression": codec });
            side.measure(&format!("put {codec}"), &put, samples)?;
            side.command(&json!({ "do": "delete", "name": "new" }))?;
        }
    }
    Ok(())
}

/// One of our measurements against one of another side.
fn case(
    name: String,
    unit: (&'static str, Better),
    samples: &Samples,
    ours: &str,
    (peer_name, peer): (&str, &str),
) -> Result<Case> {
    Case::against(name, unit, samples.of(ours), (peer_name, samples.of(peer)))
}

pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (what, unit, tail) in [("", RATE, ""), ("_cpu", CPU, " cpu")] {
        for operation in OPERATIONS {
            for codec in CODECS {
                let key = format!("{operation} {codec}");
                let (ours, peer) = (format!("{key} ours{tail}"), format!("{key} pyarrow{tail}"));
                let peer = ("pyarrow", peer.as_str());
                let name = format!("do{operation}_{codec}{what}_vs_pyarrow");
                cases.push(case(name, unit, samples, &ours, peer)?);
                if operation == "get" {
                    let name = format!("do{operation}_{codec}_kept{what}_vs_pyarrow");
                    let kept = format!("{key} kept ours{tail}");
                    cases.push(case(name, unit, samples, &kept, peer)?);
                }
            }
            let of = |side: &str| format!("{operation} {} {} {side}{tail}", MAIN.0, MAIN.1);
            let tls = of("ours_tls");
            let peer = of("pyarrow_tls");
            let name = format!("do{operation}_tls{what}_vs_pyarrow");
            cases.push(case(name, unit, samples, &tls, ("pyarrow_tls", &peer))?);
            for (side, secured, plain) in [("", tls, of("ours")), ("pyarrow_", peer, of("pyarrow"))]
            {
                let name = format!("do{operation}_{side}tls{what}_vs_no_tls");
                cases.push(case(name, unit, samples, &secured, ("no TLS", &plain))?);
            }
        }
    }
    Ok(cases)
}
