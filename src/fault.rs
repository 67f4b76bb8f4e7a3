//! Faults on request, for tests: every step of the data path has a name, and a test says what happens there: an error, a stop,
//! a death. Without the cargo feature `failpoints` all of this is nothing: no code, no names, no variables that are read.
//!
//! `FAILPOINTS` holds rules, `name=rule;name=rule`; with `FAILPOINTS_FILE` they are read from that file whenever it changes, so
//! that a test can end a fault. A rule is a row of tasks in the notation of the crate `fail`, `[N*]task->[N*]task`, each good for
//! its number of hits, the last one for ever. Tasks: `off`, `return(WHAT)` with an errno's name, `sleep(MS)`, `pause` (until the
//! rule is gone), `panic`, `stop` (as by SIGSTOP, until SIGCONT), `abort` (the process dies as by SIGKILL; with a number: so many
//! milliseconds later, while the other threads go on).
//!
//! A name under `mutation::` is no step but a bug, built in to show that the tests find it.

use std::{io, path::Path, time::Duration};

#[cfg(feature = "failpoints")]
mod rules;

/// A step that can fail: does what the rule says, and returns the error that it asks for.
#[inline(always)]
pub fn point(name: &str) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    return rules::error(rules::hit(name));
    #[cfg(not(feature = "failpoints"))]
    {
        let _: &str = name;
        Ok(())
    }
}

/// A step at which nothing can fail: the process can stop or die there.
#[inline(always)]
pub fn pass(name: &str) {
    // An error that is asked for here has no way to go.
    drop(point(name));
}

/// A step on a segment's file: `journal::STEP`, `log::STEP` or `dead::STEP`, by what the file is.
#[inline(always)]
pub fn segment(step: &str, file: &Path) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    return point(&format!("{}::{step}", rules::log_of(file)));
    #[cfg(not(feature = "failpoints"))]
    {
        let _: (&str, &Path) = (step, file);
        Ok(())
    }
}

/// Writes bytes, in one call as a rule. Where there is a rule for the step, the first half is written before it and the rest
/// after it, so that a part is all that there is when it fails or dies. `write` gets a part and its place in `bytes`.
#[inline(always)]
pub fn halves(name: &str, bytes: &[u8], mut write: impl FnMut(&[u8], u64) -> io::Result<()>) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    if rules::exists(name) {
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        write(head, 0)?;
        point(name)?;
        return write(tail, head.len() as u64);
    }
    #[cfg(not(feature = "failpoints"))]
    let _: &str = name;
    write(bytes, 0)
}

/// [`halves`] of a write to a segment's file.
#[inline(always)]
pub fn segment_halves(
    step: &str,
    file: &Path,
    bytes: &[u8],
    write: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    return halves(&format!("{}::{step}", rules::log_of(file)), bytes, write);
    #[cfg(not(feature = "failpoints"))]
    {
        let _: &Path = file;
        halves(step, bytes, write)
    }
}

/// Whether a bug is switched on.
#[inline(always)]
pub fn mutated(name: &str) -> bool {
    #[cfg(feature = "failpoints")]
    return rules::hit(name).is_some();
    #[cfg(not(feature = "failpoints"))]
    {
        let _: &str = name;
        false
    }
}

/// How often something is done: more often in tests, to come sooner to what happens seldom.
#[inline(always)]
pub fn every(name: &str, usual: Duration) -> Duration {
    #[cfg(feature = "failpoints")]
    return rules::hit(name).and_then(|text| text.parse().ok()).map_or(usual, Duration::from_millis);
    #[cfg(not(feature = "failpoints"))]
    {
        let _: &str = name;
        usual
    }
}

/// The size of a log's segments (`journal::bytes`, `log::bytes`, `dead::bytes`): smaller in tests, for the same reason. `file` is
/// one of its segments.
#[inline(always)]
pub fn segment_bytes(file: &Path, usual: u64) -> u64 {
    #[cfg(feature = "failpoints")]
    return rules::hit(&format!("{}::bytes", rules::log_of(file))).and_then(|text| text.parse().ok()).unwrap_or(usual);
    #[cfg(not(feature = "failpoints"))]
    {
        let _: &Path = file;
        usual
    }
}
