//! What `sheafctl chaos` is told.

use clap::{Args, Subcommand};
use sheaf_drivers::Disturbance;
use sheaf_retry::HumanDuration;

use crate::args::AskArgs;

#[derive(Clone, Debug, Args)]
pub(crate) struct ChaosArgs {
    /// The pipeline
    pub(super) pipeline: String,
    #[command(subcommand)]
    pub(super) how: How,
    /// How long it may take until all is well again
    #[arg(long, default_value = "2m", value_name = "TIME", global = true)]
    pub(super) patience: HumanDuration,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum How {
    /// End it at once, as by a crash
    Kill {
        /// A component, or one of its instances such as `orders.1`
        component: String,
    },
    /// Have it stand still for a time
    Pause {
        /// A component, or one of its instances
        component: String,
        /// For how long
        #[arg(long = "for", value_name = "TIME")]
        time: HumanDuration,
    },
    /// Have it stand still again and again
    Slow {
        /// A component, or one of its instances
        component: String,
        /// How long it stands still each time, before it runs for 10 ms
        #[arg(long, default_value = "50ms", value_name = "TIME")]
        delay: HumanDuration,
        /// For how long
        #[arg(long = "for", value_name = "TIME")]
        time: HumanDuration,
    },
    /// Any of it to any of them, one after another
    Random(Random),
}

#[derive(Clone, Debug, Args)]
pub(super) struct Random {
    /// For how long
    #[arg(long = "for", value_name = "TIME")]
    pub(super) time: HumanDuration,
    /// The same number does the same to the same pipeline
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// The longest pause between two of them
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub(super) every: HumanDuration,
}

impl How {
    /// What is to be done to one component; of random ones, nothing.
    pub(super) fn one(&self) -> (&str, Disturbance) {
        match self {
            How::Kill { component } => (component, Disturbance::Kill),
            How::Pause { component, time } => (component, Disturbance::Pause { time: time.0 }),
            How::Slow { component, delay, time } => {
                (component, Disturbance::Slow { time: time.0, delay: delay.0 })
            }
            How::Random(_) => ("", Disturbance::Kill),
        }
    }
}
