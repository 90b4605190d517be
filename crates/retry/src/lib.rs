//! Retry policy as data, error classes with stable codes, and clocks.

mod clock;
mod code;
mod policy;
mod retryable;

pub use clock::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};
pub use code::{Class, Code, UnknownCode};
pub use policy::RetryPolicy;
pub use retryable::{Disposition, Retryable};
