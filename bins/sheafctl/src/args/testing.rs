//! Command lines of tests.

use clap::Parser as _;

use super::PlaneArgs;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    plane: PlaneArgs,
}

/// What such words on a command line say.
pub(crate) fn plane_args(words: &[&str]) -> PlaneArgs {
    Line::parse_from([&["x"], words].concat()).plane
}
