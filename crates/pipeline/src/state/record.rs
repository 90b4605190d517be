//! Records as they are stored, and the way back.

use prost::Message;
use sheaf_flight::Secret;
use sheaf_proto::storage::v1::{ComponentRecord, ControlMeta, PipelineRecord};

use crate::registry::{Component, Pipeline, TokenDigest, wire};

/// The version that records are written with; greater ones are refused.
pub const RECORD_VERSION: u32 = 1;

/// Key of field 15, fixed 32 bit: the checksum, which ends every record.
const CHECKSUM_KEY: u8 = (15 << 3) | 5;
pub(crate) const CHECKSUM_LENGTH: usize = 5;

/// Why stored bytes cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Written by a newer version.
    Newer(u32),
    /// They are no record, and why.
    Corrupt(String),
}

/// `message` has no checksum yet.
fn seal(message: &impl Message) -> Vec<u8> {
    sealed(&message.encode_to_vec())
}

/// With the checksum that fits.
pub(crate) fn sealed(content: &[u8]) -> Vec<u8> {
    [content, &[CHECKSUM_KEY], &crc32c::crc32c(content).to_le_bytes()].concat()
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

pub(crate) fn meta(epoch: u32) -> Vec<u8> {
    let epoch = u64::from(epoch);
    seal(&ControlMeta { version: RECORD_VERSION, epoch, ..ControlMeta::default() })
}

pub(crate) fn read_meta(bytes: &[u8]) -> Result<u64, Damage> {
    Ok(open::<ControlMeta>(bytes, |meta| meta.version)?.epoch)
}

/// Nothing where nobody holds the place: the plan says all there is.
pub(crate) fn component(component: &Component) -> Option<Vec<u8>> {
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

pub(crate) fn read_component(bytes: &[u8]) -> Result<Component, Damage> {
    let record = open::<ComponentRecord>(bytes, |record| record.version)?;
    let component =
        record.component.ok_or_else(|| Damage::Corrupt("it has no component".to_owned()))?;
    let mut component =
        wire::component_from(component).map_err(|error| Damage::Corrupt(error.to_string()))?;
    component.held.incarnation = Secret::new(record.incarnation);
    component.held.sequence = record.sequence;
    Ok(component)
}

pub(crate) fn pipeline(pipeline: &Pipeline) -> Vec<u8> {
    let places = pipeline.plan.places.iter();
    seal(&PipelineRecord {
        version: RECORD_VERSION,
        pipeline: Some(wire::pipeline(pipeline, true)),
        tokens: places.map(|place| place.token.as_bytes().to_vec().into()).collect(),
        last_run: pipeline.last_run,
        ..PipelineRecord::default()
    })
}

pub(crate) fn read_pipeline(bytes: &[u8]) -> Result<Pipeline, Damage> {
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

    use super::*;
    use crate::fuzzing;
    use crate::registry::tests::{component as sample, pipeline as sample_pipeline};

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

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn changed_records_with_a_checksum_that_fits_do_no_harm(
            which in 0..3_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let mut bytes = fuzzing::records().remove(which);
            prop_assert!(fuzzing::stored(&bytes), "record {} is good as it is", which);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            // Read or refused: neither does harm.
            fuzzing::stored(&bytes);
        }

        #[test]
        fn bytes_that_are_anything_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read_pipeline(&bytes).is_err() && read_component(&bytes).is_err());
        }

        #[test]
        fn changed_registrations_are_taken_whole_or_not_at_all(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = fuzzing::request();
            prop_assert!(fuzzing::registered(&bytes));
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            fuzzing::registered(&bytes);
        }
    }
}
