//! A snapshot on its way.

use bytes::Bytes;
use sheaf_proto::raft::v1 as proto;

use super::{decode, head, known, one_payload, own_vote, present, with_payload};
use crate::network::{Manifest, Message, Refusal};
use crate::stored::{from_membership, from_vote, position, to_membership, to_vote};
use crate::types::{NodeId, SnapshotMeta, StoredMembership, Vote};

/// What the sender of a snapshot does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotStep {
    /// Also the incarnation of the log that it is for; 0 where that is not known.
    Offer(Vote, Manifest, u64),
    Piece {
        offset: u64,
        bytes: Bytes,
    },
    /// Is it installed?
    Install,
}

/// What its receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So much is here.
    Offset(u64),
    /// All is here and is being read in.
    Installing,
    /// It is installed, where the vote is not later than the leader's.
    Done(Vote),
}

pub(crate) fn offer(vote: &Vote, manifest: &Manifest, incarnation: u64) -> Message {
    use proto::snapshot_request::Step;
    let Manifest { meta, size_bytes, checksum } = manifest;
    let step = Step::Offer(proto::SnapshotOffer {
        vote: Some(to_vote(vote)),
        last: meta.last_log_id.as_ref().map(position),
        membership_position: meta.last_membership.log_id().as_ref().map(position),
        membership: Some(to_membership(meta.last_membership.membership())),
        size_bytes: *size_bytes,
        checksum: *checksum,
        incarnation,
    });
    head(&proto::SnapshotRequest { step: Some(step) })
}

pub(crate) fn piece(offset: u64, bytes: Bytes) -> Message {
    let step = Some(proto::snapshot_request::Step::Piece(offset));
    with_payload(&proto::SnapshotRequest { step }, bytes)
}

pub(crate) fn install() -> Message {
    let step = Some(proto::snapshot_request::Step::Install(proto::Install {}));
    head(&proto::SnapshotRequest { step })
}

/// Reads what a leader sends of its snapshot.
///
/// A snapshot ends no later than its leader's term, has an entry, and has the members that were
/// set at or before it.
pub(crate) fn read_snapshot_step(from: NodeId, message: Message) -> Result<SnapshotStep, Refusal> {
    use proto::snapshot_request::Step;
    let request: proto::SnapshotRequest = decode(&message)?;
    let offer = match present(request.step, "the step")? {
        Step::Piece(offset) => {
            return Ok(SnapshotStep::Piece { offset, bytes: one_payload(message)? });
        }
        Step::Install(_) => return Ok(SnapshotStep::Install),
        Step::Offer(offer) => offer,
    };
    let vote = own_vote(from, offer.vote, true)?;
    let last = present(known(offer.last, &vote)?, "the last entry")?;
    let members = from_membership(present(offer.membership, "the membership")?)
        .map_err(Refusal::malformed)?;
    let set = known(offer.membership_position, &vote)?;
    if set.is_some_and(|set| set > last) {
        return Err(Refusal::malformed("its members were set after its last entry"));
    }
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(set, members),
    };
    let manifest = Manifest { meta, size_bytes: offer.size_bytes, checksum: offer.checksum };
    Ok(SnapshotStep::Offer(vote, manifest, offer.incarnation))
}

pub(crate) fn snapshot_reply(received: &Received) -> Message {
    use proto::snapshot_reply::Step;
    let step = match received {
        Received::Offset(offset) => Step::Offset(*offset),
        Received::Installing => Step::Installing(proto::Installing {}),
        Received::Done(vote) => Step::Vote(to_vote(vote)),
    };
    head(&proto::SnapshotReply { step: Some(step) })
}

pub(crate) fn read_snapshot_reply(message: &Message) -> Result<Received, Refusal> {
    use proto::snapshot_reply::Step;
    let reply: proto::SnapshotReply = decode(message)?;
    Ok(match present(reply.step, "the step")? {
        Step::Offset(offset) => Received::Offset(offset),
        Step::Installing(_) => Received::Installing,
        Step::Vote(vote) => Received::Done(from_vote(vote)),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::types::{LogId, Member, Membership};

    fn manifest(set: u64) -> Manifest {
        let member = Member::new(vec!["a:1".to_owned()]);
        let members =
            Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member)])).unwrap();
        let set = LogId::new_term_index(2, set);
        let meta = SnapshotMeta {
            last_log_id: Some(LogId::new_term_index(2, 9)),
            last_membership: StoredMembership::new(Some(set), members),
        };
        Manifest { meta, size_bytes: 5, checksum: 77 }
    }

    #[test]
    fn an_offer_and_a_piece_read_as_they_were_written() {
        let vote = Vote::new_committed(3, 1);
        let step = read_snapshot_step(1, offer(&vote, &manifest(9), 6)).unwrap();
        assert_eq!(step, SnapshotStep::Offer(vote, manifest(9), 6));
        let bytes = Bytes::from_static(b"abc");
        let step = read_snapshot_step(1, piece(2, bytes.clone())).unwrap();
        assert_eq!(step, SnapshotStep::Piece { offset: 2, bytes });
        assert_eq!(read_snapshot_step(1, install()).unwrap(), SnapshotStep::Install);
    }

    #[test]
    fn an_offer_that_its_leader_cannot_have_is_refused() {
        let early = Vote::new_committed(1, 1);
        let refusal = read_snapshot_step(1, offer(&early, &manifest(9), 6)).unwrap_err();
        assert_eq!(refusal.problem, "an entry of term 2 in term 1");
        let vote = Vote::new_committed(3, 1);
        let refusal = read_snapshot_step(1, offer(&vote, &manifest(10), 6)).unwrap_err();
        assert_eq!(refusal.problem, "its members were set after its last entry");
    }

    #[test]
    fn what_the_receiver_says_crosses_the_wire() {
        let vote = Vote::new_committed(3, 1);
        for said in [Received::Offset(7), Received::Installing, Received::Done(vote)] {
            assert_eq!(read_snapshot_reply(&snapshot_reply(&said)).unwrap(), said);
        }
    }
}
