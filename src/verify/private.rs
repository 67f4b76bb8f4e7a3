//! The service's own folders: the journal can be read, and no dead owner's staging is left.

use std::{fs, io, path::Path};

use super::{VerifyError, finding::Kind, judge::Judge, pending::Pending};
use crate::{committer::files, config::Config, layout};

/// Looks at the journal's folder and at the staging.
pub(super) fn look(
    config: &Config,
    state_dir: &Path,
    pending: &Pending,
    judge: &mut Judge<'_>,
) -> Result<(), VerifyError> {
    for damage in &pending.damage {
        judge.findings.add(Kind::Unreadable, "", "journal", None, damage.clone());
    }
    let Some(name) = state_dir.file_name() else { return Ok(()) };
    let staging = config.logs_dir.join(layout::STATE_DIR).join(name);
    for name in names(&staging)? {
        // An owner removes what those before it left; its own is removed by the next one.
        let epoch = name.strip_prefix("tmp-").and_then(|epoch| epoch.parse::<u64>().ok());
        if epoch.is_some_and(|epoch| epoch < pending.epoch) {
            let path = staging.join(&name);
            let path = path.strip_prefix(&config.logs_dir).unwrap_or(&path).display().to_string();
            judge.findings.add(Kind::Leftover, "", &path, None, "its owner is gone");
        }
    }
    Ok(())
}

/// Whether other streams than this one write, or wrote, to the same `LOGS_DIR`.
pub(super) fn has_others(config: &Config, state_name: &str) -> bool {
    files::other_stream(&config.logs_dir, state_name).is_ok_and(|other| other.is_some())
}

fn names(dir: &Path) -> Result<Vec<String>, VerifyError> {
    let listed = (|| {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    })();
    match listed {
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| VerifyError::Files { path: dir.to_owned(), source }),
    }
}
