//! Faults of files and processes: a crash and an error at every step of the commit path, files that are lost, cut or full, and
//! bugs that are switched on to show that all this finds them. [`world`] is a service under load that is hurt and judged.

mod world;

#[cfg(feature = "failpoints")]
mod crashes;
#[cfg(feature = "failpoints")]
mod steps;
