//! The log against a model, and against what disks do to files.

mod crash;
mod damage;
mod format;
mod full;
mod model;
mod size;
