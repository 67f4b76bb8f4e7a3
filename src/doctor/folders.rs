//! The service's own folders: who may do what in them, which file system they are on, and how much room there is.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statfs, statvfs},
    process::geteuid,
};

use super::{Level, Report, bytes, file_system};
use crate::config::Config;

/// Shares of space or inodes that may be taken.
const TAKEN: (f64, f64) = (0.8, 0.95);
/// Bytes without which the journal cannot go on: some of its segments.
const FREE_MIN: u64 = 256 << 20;

/// A folder of the service.
struct Folder<'a> {
    name: &'static str,
    path: &'a Path,
    /// What is in it must outlive a power loss.
    lasting: bool,
    /// Others must not read it, or must not write it.
    private: Private,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Private {
    No,
    /// Compiled code is run from it.
    Written,
    /// Raw events are in it.
    Read,
}

pub(super) fn look(report: &mut Report, config: &Config) {
    let folder = |name, path, lasting, private| Folder { name, path, lasting, private };
    let mut folders = vec![
        folder("LOGS_DIR", config.logs_dir.as_path(), true, Private::No),
        folder("STATE_DIR", &config.state_dir, true, Private::No),
    ];
    if config.redis_url.is_none() {
        folders.push(folder("STREAM_DIR", &config.stream_dir, true, Private::Read));
    }
    folders.push(folder("CACHE_DIR", &config.cache_dir, false, Private::Written));
    // Of folders on one file system the first says it all: those that must last come before the one that need not.
    let mut seen: Vec<u64> = Vec::new();
    for folder in &folders {
        rights(report, folder);
        let place = existing(folder.path);
        let dev = fs::metadata(place).map_or(0, |meta| meta.dev());
        if !seen.contains(&dev) {
            seen.push(dev);
            kind(report, folder, place);
            space(report, folder, place);
        }
    }
}

/// The path, or the nearest folder above it that is there.
pub(super) fn existing(path: &Path) -> &Path {
    let there = |folder: &&Path| folder.as_os_str().is_empty() || folder.try_exists().unwrap_or(true);
    match path.ancestors().find(there) {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        found => found.unwrap_or(path),
    }
}

/// Whether this process may do that.
pub(super) fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// Owner and mode, for people.
pub(super) fn owner(meta: &fs::Metadata) -> String {
    format!("owner {}:{}, mode {:04o}", meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777)
}

fn rights(report: &mut Report, folder: &Folder<'_>) {
    let Folder { name, path, private, .. } = folder;
    let shown = format!("{name} {}", path.display());
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let place = existing(path);
    // Without its cache the service compiles plugins at each start.
    let bad = if folder.lasting { Level::Fail } else { Level::Warn };
    let advice = format!("chown it to user {}, or let this user write there", geteuid().as_raw());
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && place != *path => {
            return match may(place, Access::WRITE_OK | Access::EXEC_OK) {
                true => report.ok("folder", format!("{shown} is not there yet; the service makes it")),
                false => report.add(
                    "folder",
                    bad,
                    format!("{shown} is not there and cannot be made in {}", place.display()),
                    advice,
                ),
            };
        }
        Err(error) => return report.fail("folder", format!("{shown}: {error}"), advice),
    };
    let found = format!("{shown} ({})", owner(&meta));
    if !meta.is_dir() {
        return report.fail("folder", format!("{shown} is no folder"), "name another one, or move that file away");
    }
    if !may(path, all) {
        return report.add("folder", bad, format!("{found} cannot be read and written"), advice);
    }
    let mode = meta.permissions().mode();
    let own = meta.uid() == geteuid().as_raw();
    match private {
        Private::Written if !own || mode & 0o022 != 0 => report.warn(
            "folder",
            format!("{found} is not this user's alone: it is not used, and plugins are compiled at each start"),
            "chmod 700, owned by the service's user",
        ),
        Private::Read if mode & 0o077 != 0 => {
            report.warn("folder", format!("{found} can be read by others: raw events are in it"), "chmod 700");
        }
        _ if mode & 0o002 != 0 && mode & 0o1000 == 0 => {
            report.warn("folder", format!("{found} can be written by everybody"), "chmod o-w");
        }
        _ => report.ok("folder", found),
    }
}

fn kind(report: &mut Report, folder: &Folder<'_>, place: &Path) {
    let shown = format!("{} {}", folder.name, place.display());
    let magic = match statfs(place) {
        #[expect(clippy::cast_sign_loss, reason = "a magic number has no sign")]
        Ok(found) => found.f_type as u64,
        Err(error) => return report.warn("file-system", format!("{shown}: {error}"), "see whether it is mounted"),
    };
    match file_system::of(magic) {
        Some(kind) if !folder.lasting || kind.level == Level::Ok => {
            report.ok("file-system", format!("{shown} is on {}", kind.name));
        }
        Some(kind) => report.add("file-system", kind.level, format!("{shown} is on {}", kind.name), kind.advice),
        None => report.warn(
            "file-system",
            format!("{shown} is on a file system that is not known (0x{magic:x})"),
            "see that it keeps what is synced, and renames in one step",
        ),
    }
}

fn space(report: &mut Report, folder: &Folder<'_>, place: &Path) {
    let shown = format!("{} {}", folder.name, place.display());
    let found = match statvfs(place) {
        Ok(found) => found,
        Err(error) => return report.warn("space", format!("{shown}: {error}"), "see whether it is mounted"),
    };
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        report.fail(
            "space",
            format!("{shown} is mounted read-only"),
            "mount it for writing; see the kernel log for why",
        );
    }
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let used = found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize);
    let advice =
        "make room or enlarge it; when it is full nothing is lost, and reading stops until there is room again";
    let taken = share(used, used.saturating_add(free));
    let level = if folder.lasting && free < FREE_MIN { Level::Fail } else { level_of(taken) };
    let text = format!("{shown}: {} free, {:.0} % taken", bytes(free), taken * 100.0);
    report.add("space", level, text, if level == Level::Ok { "" } else { advice });
    // Some file systems make inodes as they are needed, and say 0.
    if found.f_files > 0 {
        let level = level_of(share(found.f_files.saturating_sub(found.f_favail), found.f_files));
        let advice = "each task takes about eight: remove tasks, or make the file system anew with more";
        let text = format!("{shown}: {} of {} inodes free", found.f_favail, found.f_files);
        report.add("inodes", level, text, if level == Level::Ok { "" } else { advice });
    }
}

fn share(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = part as f64 / whole.max(1) as f64;
    share
}

fn level_of(taken: f64) -> Level {
    match taken {
        taken if taken > TAKEN.1 => Level::Fail,
        taken if taken > TAKEN.0 => Level::Warn,
        _ => Level::Ok,
    }
}

/// A path in full, for people who are in another directory.
pub(super) fn full(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_is_found() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(existing(&temp.path().join("a/b/c")), temp.path());
        assert_eq!(existing(temp.path()), temp.path());
        assert_eq!(existing(Path::new("no-such-folder/below")), Path::new("."));
    }

    #[test]
    fn little_room_is_found() {
        assert_eq!([0.5, 0.8, 0.81, 0.96].map(level_of), [Level::Ok, Level::Ok, Level::Warn, Level::Fail]);
        assert!(share(1, 0) >= 1.0 && share(0, 0) <= 0.0);
    }
}
