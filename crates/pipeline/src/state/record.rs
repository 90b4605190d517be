//! Records as they are stored, and the way back.

use prost::Message;
use sheaf_flight::Secret;
use sheaf_proto::storage::v1::{ComponentRecord, ControlMeta, PipelineRecord};

use crate::registry::{Component, Pipeline, TokenDigest, wire};

/// The version that records are written with; greater ones are refused.
pub const RECORD_VERSION: u32 = 1;

/// Key of field 15, fixed 32 bit: the checksum, which ends every record.
const CHECKSUM_KEY: u8 = (15 << 3) | 5;
const CHECKSUM_LENGTH: usize = 5;

/// Why stored bytes cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// Written by a newer version.
    Newer(u32),
    /// They are no record, and why.
    Corrupt(String),
}

/// `message` has no checksum yet.
fn seal(message: &impl Message) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    let checksum = crc32c::crc32c(&bytes);
    bytes.push(CHECKSUM_KEY);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn open<M: Message + Default>(bytes: &[u8], version: impl Fn(&M) -> u32) -> Result<M, Damage> {
    let corrupt = |why: &str| Damage::Corrupt(why.to_owned());
    let cut = bytes.len().checked_sub(CHECKSUM_LENGTH);
    let (content, end) = cut
        .and_then(|at| bytes.split_at_checked(at))
        .ok_or_else(|| corrupt("it is too short to have a checksum"))?;
    let (key, stored) = end.split_first().ok_or_else(|| corrupt("it has no checksum"))?;
    if *key != CHECKSUM_KEY || stored != crc32c::crc32c(content).to_le_bytes() {
        return Err(corrupt("its checksum does not match"));
    }
    let message = M::decode(content).map_err(|error| Damage::Corrupt(error.to_string()))?;
    match version(&message) {
        0 => Err(corrupt("it has no version")),
        newer if newer > RECORD_VERSION => Err(Damage::Newer(newer)),
        _ => Ok(message),
    }
}

pub(super) fn meta(epoch: u32) -> Vec<u8> {
    let epoch = u64::from(epoch);
    seal(&ControlMeta { version: RECORD_VERSION, epoch, ..ControlMeta::default() })
}

pub(super) fn read_meta(bytes: &[u8]) -> Result<u64, Damage> {
    Ok(open::<ControlMeta>(bytes, |meta| meta.version)?.epoch)
}

/// Nothing where nobody holds the place: the plan says all there is.
pub(super) fn component(component: &Component) -> Option<Vec<u8>> {
    (component.fence > 0).then(|| {
        seal(&ComponentRecord {
            version: RECORD_VERSION,
            component: Some(wire::component(component)),
            incarnation: component.held.incarnation.expose().to_owned(),
            sequence: component.held.sequence,
            ..ComponentRecord::default()
        })
    })
}

pub(super) fn read_component(bytes: &[u8]) -> Result<Component, Damage> {
    let record = open::<ComponentRecord>(bytes, |record| record.version)?;
    let component =
        record.component.ok_or_else(|| Damage::Corrupt("it has no component".to_owned()))?;
    let mut component =
        wire::component_from(component).map_err(|error| Damage::Corrupt(error.to_string()))?;
    component.held.incarnation = Secret::new(record.incarnation);
    component.held.sequence = record.sequence;
    Ok(component)
}

pub(super) fn pipeline(pipeline: &Pipeline) -> Vec<u8> {
    let places = pipeline.plan.places.iter();
    seal(&PipelineRecord {
        version: RECORD_VERSION,
        pipeline: Some(wire::pipeline(pipeline, true)),
        tokens: places.map(|place| place.token.as_bytes().to_vec().into()).collect(),
        last_run: pipeline.last_run,
        ..PipelineRecord::default()
    })
}

pub(super) fn read_pipeline(bytes: &[u8]) -> Result<Pipeline, Damage> {
    let corrupt = |why: &str| Damage::Corrupt(why.to_owned());
    let record = open::<PipelineRecord>(bytes, |record| record.version)?;
    let tokens: Option<Vec<TokenDigest>> =
        record.tokens.iter().map(|bytes| TokenDigest::from_bytes(bytes)).collect();
    let tokens = tokens.ok_or_else(|| corrupt("a token is not of 32 bytes"))?;
    let pipeline = record.pipeline.ok_or_else(|| corrupt("it has no pipeline"))?;
    wire::pipeline_from(pipeline, &tokens, record.last_run)
        .map_err(|error| Damage::Corrupt(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sheaf_retry::Timestamp;

    use super::*;
    use crate::health::Timing;
    use crate::registry::tests::{component as sample, pipeline as sample_pipeline};
    use crate::registry::{Limits, Now, PipelineState, Registry};

    #[test]
    fn records_come_back_as_they_were() {
        let mut there = sample("orders:read");
        (there.fence, there.held.sequence) = (7, 3);
        there.held.incarnation = Secret::new("0123456789abcdef");
        let bytes = component(&there).unwrap();
        assert_eq!(read_component(&bytes).unwrap(), there);
        let there = sample_pipeline();
        assert_eq!(read_pipeline(&pipeline(&there)).unwrap(), there);
        assert_eq!(read_meta(&meta(9)), Ok(9));
    }

    #[test]
    fn a_place_that_nobody_has_taken_is_no_record() {
        assert_eq!(component(&sample("orders:read")), None);
    }

    #[test]
    fn every_changed_bit_is_found() {
        let bytes = pipeline(&sample_pipeline());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(matches!(read_pipeline(&changed), Err(Damage::Corrupt(_))), "byte {at}");
            assert!(read_pipeline(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_record_is_told_from_a_damaged_one() {
        let newer = ControlMeta { version: 9, epoch: 1, ..ControlMeta::default() };
        assert_eq!(read_meta(&seal(&newer)), Err(Damage::Newer(9)));
        let none = ControlMeta { epoch: 1, ..ControlMeta::default() };
        assert!(matches!(read_meta(&seal(&none)), Err(Damage::Corrupt(_))));
    }

    /// Any bytes with a checksum that fits: read as what is written the same
    /// again, or refused; and a registry goes on with them.
    fn goes_on(bytes: &[u8]) {
        let sealed = [bytes, &[CHECKSUM_KEY], &crc32c::crc32c(bytes).to_le_bytes()].concat();
        let now = Now::start(Timestamp::from_millis(1));
        let mut registry = Registry::new(Limits::default(), Timing::default(), 1, 1);
        let mut expected = Vec::new();
        if let Ok(read) = read_pipeline(&sealed) {
            assert_eq!(read_pipeline(&pipeline(&read)).unwrap(), read);
            expected.push(read.plan.id.clone());
            registry.load_pipeline(read, now);
        }
        if let Ok(read) = read_component(&sealed) {
            if let Some(again) = component(&read) {
                assert_eq!(read_component(&again).unwrap(), read);
            }
            registry.load_component(read, now);
        }
        for id in &expected {
            drop(registry.begin_run(id, now));
            drop(registry.set_pipeline_state(id, PipelineState::Failed, "", now));
            drop(registry.remove_pipeline(id, now));
        }
        registry.check(now.plus(std::time::Duration::from_secs(9_999)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn changed_records_with_a_checksum_that_fits_do_no_harm(
            is_pipeline in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let mut there = sample("orders:read");
            there.fence = 7;
            let sealed = match is_pipeline {
                true => pipeline(&sample_pipeline()),
                false => component(&there).unwrap(),
            };
            let mut bytes = sealed[..sealed.len() - CHECKSUM_LENGTH].to_vec();
            goes_on(&bytes);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            goes_on(&bytes);
        }

        #[test]
        fn bytes_that_are_anything_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            goes_on(&bytes);
            prop_assert!(read_pipeline(&bytes).is_err() && read_component(&bytes).is_err());
        }
    }
}
