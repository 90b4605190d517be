//! Includes what `cargo xtask codegen` wrote.

/// The descriptors of all packages, imports included, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");

/// The control plane over the network.
pub mod control {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        clippy::large_futures,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("generated/sheaf.control.v1.rs");
    }
}

/// The coordinator over the network.
pub mod coordinator {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        clippy::large_futures,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("generated/sheaf.coordinator.v1.rs");
    }
}

/// Partitions between workers.
pub mod exchange {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        clippy::large_futures,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("generated/sheaf.exchange.v1.rs");
    }
}

/// What nodes of a Raft cluster write and send.
pub mod raft {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        clippy::large_futures,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("generated/sheaf.raft.v1.rs");
    }
}

/// What is written to disk.
pub mod storage {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        rustdoc::all,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("generated/sheaf.storage.v1.rs");
    }
}
