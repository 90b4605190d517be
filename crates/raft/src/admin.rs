//! What people ask a node: how it stands, and to change its cluster.

mod json;

pub use json::{
    AddLearnerInput, DigestInput, DoneRecord, LeaderRecord, MemberRecord, NodeInput, StatusRecord,
    TransferInput,
};
