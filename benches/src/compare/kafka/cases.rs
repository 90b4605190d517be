//! What is told.

use super::topic::TOPICS;
use crate::compare::Samples;
use crate::error::Result;
use crate::report::{Better, Case};

const RATE: (&str, Better) = ("messages/s", Better::Higher);
const CPU: (&str, Better) = ("CPU-us/message", Better::Lower);
const RAW: &str = "librdkafka alone";

pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for topic in TOPICS {
        let of = |name: &str| samples.of(&format!("{topic} {name}"));
        let mut add = |name: &str, unit, ours: &str, peer: (&str, &str)| {
            let case =
                Case::against(format!("{topic}_{name}"), unit, of(ours), (peer.0, of(peer.1)))?;
            cases.push(case.clone());
            Ok::<_, crate::error::Error>(case)
        };
        add("vs_raw_consumer", RATE, "ours", (RAW, "raw"))?;
        add("cpu_vs_raw_consumer", CPU, "ours cpu", (RAW, "raw cpu"))?;
        if topic.is_read_on_all_cores() {
            let peer = (RAW, "raw_all_cores");
            add("all_cores_vs_raw_consumer", RATE, "ours_all_cores", peer)?;
        }
        for (what, tail) in [("", ""), ("decode_", " decode")] {
            let ours = format!("ours{tail}");
            let mut best: Option<Case> = None;
            for way in topic.ways() {
                let (name, theirs) = (format!("{what}vs_{way}"), format!("{way}{tail}"));
                let case = add(&name, RATE, &ours, (way, &theirs))?;
                if best.as_ref().is_none_or(|best| best.peer.median < case.peer.median) {
                    best = Some(case);
                }
            }
            if let Some(best) = best {
                let theirs = format!("{}{tail}", best.peer_name);
                add(&format!("{what}vs_python"), RATE, &ours, (&best.peer_name, &theirs))?;
            }
        }
    }
    Ok(cases)
}
