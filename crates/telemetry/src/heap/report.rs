//! The samples as a profile.

use std::collections::HashMap;

use prost::Message as _;

use super::table::{self, Sampling};
use super::{PERIOD, alone, is_on};
use crate::Error;
use crate::profile_encoder::{Encoder, Frame};
use crate::profile_proto::{Profile, Sample};

/// Names of the profiler, and of what hands an allocation to it.
const OWN: [&str; 7] = [
    "sheaf_telemetry::heap",
    "<sheaf_telemetry::heap",
    "backtrace::",
    "__rustc",
    "__rust_",
    "alloc::alloc::",
    "std::thread::local::LocalKey",
];

/// What memory is in use, in `profile.proto`. Looks symbols up, and blocks for it.
pub(crate) fn heap_profile() -> Result<Vec<u8>, Error> {
    if !is_on() {
        return Err(Error::HeapNotSampled);
    }
    let mut samples = Vec::new();
    alone(|| samples = table::all());
    let encoded = encode(&samples).encode_to_vec();
    alone(|| drop(samples));
    Ok(encoded)
}

fn encode(samples: &[Sampling]) -> Profile {
    let mut encoder = Encoder::default();
    let objects = encoder.value_type("inuse_objects", "count");
    let space = encoder.value_type("inuse_space", "bytes");
    let mut places: HashMap<usize, Option<u64>> = HashMap::new();
    let mut stacks: HashMap<Vec<u64>, (f64, f64)> = HashMap::new();
    for sampling in samples {
        let places = sampling.stack.iter().filter_map(|address| {
            *places.entry(*address).or_insert_with(|| place(&mut encoder, *address))
        });
        let (objects, bytes) = estimate(sampling.size);
        let sum = stacks.entry(places.collect()).or_default();
        *sum = (sum.0 + objects, sum.1 + bytes);
    }
    for (location_id, (objects, bytes)) in stacks {
        #[allow(clippy::cast_possible_truncation, reason = "an estimate need not be exact")]
        let value = vec![objects as i64, bytes as i64];
        encoder.sample(Sample { location_id, value, label: Vec::new() });
    }
    let period = i64::try_from(PERIOD).unwrap_or(i64::MAX);
    Profile {
        sample_type: vec![objects, space],
        period_type: Some(space),
        period,
        ..encoder.finish()
    }
}

/// For how many allocations, and how many bytes, a sample of this size stands: small
/// ones are seldom sampled.
fn estimate(size: usize) -> (f64, f64) {
    #[allow(clippy::cast_precision_loss, reason = "an estimate need not be exact")]
    let (size, period) = (size.max(1) as f64, PERIOD as f64);
    let objects = 1.0 / (1.0 - (-size / period).exp());
    (objects, objects * size)
}

/// The place of an address; none for the calls of the profiler itself.
fn place(encoder: &mut Encoder, address: usize) -> Option<u64> {
    let mut inlined = Vec::new();
    // It is where a call returns to, which may be the next function already.
    let within = std::ptr::without_provenance_mut(address.saturating_sub(1));
    backtrace::resolve(within, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}")).unwrap_or_default();
        let file = symbol.filename().map(|file| file.display().to_string()).unwrap_or_default();
        let (system_name, line) = (name.clone(), symbol.lineno().unwrap_or(0));
        inlined.push(Frame { name, system_name, file, line });
    });
    if inlined.is_empty() {
        let name = format!("{address:#x}");
        inlined.push(Frame { system_name: name.clone(), name, ..Frame::default() });
    }
    inlined.retain(|frame| !OWN.iter().any(|own| frame.name.starts_with(own)));
    (!inlined.is_empty()).then(|| encoder.location(inlined.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::{Sampled, profile_heap};

    #[global_allocator]
    static ALLOCATOR: Sampled<std::alloc::System> = Sampled::new(std::alloc::System);

    #[inline(never)]
    fn hold_much(pieces: usize) -> Vec<Vec<u8>> {
        (0..pieces).map(|at| vec![at.to_le_bytes()[0]; 64 << 10]).collect()
    }

    /// Bytes in use by stacks with a function of this name in them.
    fn held_by(name: &str) -> i64 {
        let profile = Profile::decode(heap_profile().unwrap().as_slice()).unwrap();
        let text = |at: i64| profile.string_table[usize::try_from(at).unwrap()].as_str();
        let named = |id: u64| {
            let location = profile.location.iter().find(|location| location.id == id).unwrap();
            location.line.iter().any(|line| {
                let of = profile.function.iter().find(|one| one.id == line.function_id).unwrap();
                text(of.name).contains(name)
            })
        };
        let of_it =
            profile.sample.iter().filter(|sample| sample.location_id.iter().any(|id| named(*id)));
        of_it.map(|sample| sample.value[1]).sum()
    }

    #[test]
    fn who_holds_memory_is_seen_until_it_is_given_back() {
        profile_heap();
        assert_eq!(held_by("hold_much"), 0);
        // 256 MiB, of which some 480 are samples.
        let held = hold_much(4_096);
        let seen = held_by("hold_much");
        assert!((200 << 20..320 << 20).contains(&seen), "{seen}");
        let grown: Vec<Vec<u8>> = held.into_iter().take(2_048).collect();
        let seen = held_by("hold_much");
        assert!((90 << 20..170 << 20).contains(&seen), "{seen}");
        drop(grown);
        assert_eq!(held_by("hold_much"), 0);
    }
}
