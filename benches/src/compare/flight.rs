//! Plain Flight over TCP: `sheaf serve` against a Flight server of pyarrow.
//!
//! The client is the same for both servers, so that one thing differs: pyarrow's
//! in most cases, ours in those whose name says so. Payloads are two integers
//! and a string of 16 bytes a row; ours stores checksummed messages, the peer
//! keeps tables. What is not said in a case's name is one stream of 4 MiB
//! batches, kept in memory.

use serde_json::{Map, Value};

use super::{Comparison, Outcome, Samples, Setup};
use crate::error::Result;
use crate::process::{Server, finish, load, number, python, python_version};
use crate::report::{Better, Case};

pub(super) const COMPARISON: Comparison =
    Comparison { name: "flight", peers: &["pyarrow"], services: &[], run };

/// Microseconds for one row, at the median.
const ONE_ROW: f64 = 200.0;

/// The system counts CPU in hundredths of a second: less than one is not zero.
const HALF_TICK: f64 = 0.005;

const SHAPES: [&str; 3] = ["rows1k", "mib4", "mib64"];
const STREAMS: [&str; 2] = ["1", "8"];
/// What a case's name does not say.
const MAIN: (&str, &str) = ("mib4", "1");

const PEER: &str = "pyarrow";

fn run(setup: &Setup) -> Result<Outcome> {
    // Disk is the default of every put that does not say otherwise.
    let mut ours = Server::sheaf(&setup.sheaf, &["--memory-limit", "4GB"])?;
    let mut peer = Server::start(python(PEER, "flight_server.py")?, None)?;
    let mut socket = Server::start(load(&["socket"])?, None)?;
    let rounds = setup.rounds.to_string();
    let mut samples = Samples::default();

    let mut client = python(PEER, "flight_client.py")?
        .args(["--ours", ours.address(), &ours.pid()])
        .args(["--peer", peer.address(), &peer.pid()])
        .args(["--rounds", &rounds])
        .args(setup.quick.then_some("--quick"))
        .spawn()?;
    let lines = finish(&mut client, &mut [ours.process(), peer.process()])?;
    collect(&lines, "", &mut samples)?;

    let mut client = load(&["flight", "--ours", ours.address(), "--peer", peer.address()])?
        .args(["--socket", socket.address(), "--rounds", &rounds])
        .args(setup.quick.then_some("--quick"))
        .spawn()?;
    let servers = &mut [ours.process(), peer.process(), socket.process()];
    let lines = finish(&mut client, servers)?;
    collect(&lines, "rust ", &mut samples)?;

    let mut versions = Map::new();
    versions.insert(PEER.to_owned(), python_version(PEER, PEER)?.into());
    let client = "pyarrow against both servers; ours against both where the case says rust_client; \
                  all processes share the cores";
    let notes = vec![("client", client.to_owned())];
    Ok(Outcome { cases: cases(&samples)?, versions, notes })
}

/// Turns lines of a client into GB/s, CPU seconds per GB and microseconds.
fn collect(lines: &[Value], prefix: &str, samples: &mut Samples) -> Result<()> {
    for line in lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let name = format!("{prefix}{} {}", text("case"), text("side"));
        let seconds = number(line, "seconds")?;
        let gigabytes = number(line, "bytes")? / 1e9;
        if gigabytes > 0.0 {
            samples.add(name.clone(), gigabytes / seconds);
            if line["cpu"].is_number() {
                let used = number(line, "cpu")?.max(HALF_TICK);
                samples.add(format!("{name} cpu"), used / gigabytes);
            }
        } else {
            samples.add(name, seconds * 1e6);
        }
    }
    Ok(())
}

const RATE: (&str, Better) = ("GB/s", Better::Higher);
const CPU: (&str, Better) = ("CPU-s/GB", Better::Lower);
const TIME: (&str, Better) = ("us", Better::Lower);

fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let both = |name: &str, unit, key: &str, tail: &str| {
        let (ours, peer) = (format!("{key} ours{tail}"), format!("{key} peer{tail}"));
        Case::against(name, unit, samples.of(&ours), (PEER, samples.of(&peer)))
    };
    let mut cases = Vec::new();
    for operation in ["doget", "doput"] {
        for shape in SHAPES {
            for streams in STREAMS {
                let tail = match (shape, streams) {
                    main if main == MAIN => String::new(),
                    _ => format!("_{shape}_{streams}"),
                };
                let key = format!("{operation} {shape} {streams}");
                cases.push(both(&format!("{operation}_tcp_vs_pyarrow{tail}"), RATE, &key, "")?);
                let name = format!("{operation}_server_cpu_vs_pyarrow{tail}");
                cases.push(both(&name, CPU, &key, " cpu")?);
            }
        }
    }
    let disk = format!("doput-disk {} {}", MAIN.0, MAIN.1);
    let name = "doput_disk_vs_pyarrow_memory";
    cases.push(both(name, RATE, &disk, "")?);
    for operation in ["doget", "doput"] {
        for shape in ["rows1k", "mib4"] {
            let key = format!("rust {operation} {shape}");
            let name = format!("{operation}_rust_client_vs_pyarrow_{shape}");
            cases.push(both(&name, RATE, &key, "")?);
        }
    }
    let one_row = samples.of("rust get-1row ours");
    cases.push(Case::target("get_1row_p50", TIME, one_row, ONE_ROW)?);
    cases.push(both("get_1row_p50_rust_client_vs_pyarrow", TIME, "rust get-1row", "")?);
    cases.push(both("get_1row_p50_vs_pyarrow", TIME, "get-1row", "")?);
    let (ours, socket) = (samples.of("rust doget mib4 ours"), samples.of("rust socket peer"));
    cases.push(Case::against("doget_tcp_vs_socket", RATE, ours, ("raw TCP", socket))?);
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Samples;
    use super::collect;

    #[test]
    fn lines_become_rates_cpu_and_latencies() {
        let mut samples = Samples::default();
        let lines = [
            json!({ "case": "doget mib4 1", "side": "ours", "seconds": 0.5, "bytes": 1e9, "cpu": 0.25 }),
            json!({ "case": "get-1row", "side": "peer", "seconds": 0.0002, "bytes": 0, "cpu": 0.0 }),
        ];
        collect(&lines, "", &mut samples).unwrap();
        assert_eq!(samples.of("doget mib4 1 ours"), [2.0]);
        assert_eq!(samples.of("doget mib4 1 ours cpu"), [0.25]);
        assert_eq!(samples.of("get-1row peer"), [200.0]);
        let idle = json!({ "case": "x", "side": "ours", "seconds": 1, "bytes": 1e9, "cpu": 0.0 });
        collect(&[idle], "", &mut samples).unwrap();
        assert_eq!(samples.of("x ours cpu"), [0.005]);
        assert!(collect(&[json!({ "case": "x" })], "", &mut samples).is_err());
    }
}
