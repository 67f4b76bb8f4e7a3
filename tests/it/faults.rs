//! Faults of files and processes: a crash and an error at every step of the commit path, files that are lost, cut, old or have no
//! room, and bugs that are switched on to show that all this finds them. [`world`] is a service under load that is hurt and
//! judged.

pub(crate) mod world;

pub(crate) mod disk;
mod files;

#[cfg(feature = "failpoints")]
mod crashes;
#[cfg(feature = "failpoints")]
mod errors;
#[cfg(feature = "failpoints")]
mod mutations;
#[cfg(feature = "failpoints")]
mod steps;
