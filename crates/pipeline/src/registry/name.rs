//! The names in the certificates of a control plane and of its components.

/// The host that every one of them is for, wherever it is called: what tells them apart is
/// the name beside it.
pub const CERTIFICATE_HOST: &str = "sheaf.internal";
/// The name of the control plane.
pub const CONTROL_NAME: &str = "sheaf://control";
/// The name of whoever runs commands.
pub const OPERATOR_NAME: &str = "sheaf://operator";

/// The name of a place in one run of its pipeline.
pub fn certificate_name(place: &str, run: u64) -> String {
    format!("sheaf://place/{place}/run/{run}")
}
