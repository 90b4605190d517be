//! What a control plane serves with under TLS.

use sheaf_retry::SharedClock;
use sheaf_terminal::Failure;

use crate::args::PlaneArgs;
use crate::secure::{FOLDER, Own};

/// What it serves with under TLS, where that is asked for.
pub(super) fn secure(
    args: &PlaneArgs,
    run_of: Option<&str>,
    clock: &SharedClock,
) -> Result<Option<Own>, Failure> {
    let pipelines = args.data.pipelines();
    let folder = match run_of {
        Some(pipeline) => pipelines.join(pipeline).join(FOLDER),
        None => args.data.data_dir.join(FOLDER),
    };
    let run_of = run_of.map(|pipeline| (pipelines.as_path(), pipeline));
    Own::open(&args.tls, &folder, run_of, clock)
}
