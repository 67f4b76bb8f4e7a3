//! Folders that survive a power loss: whoever makes one syncs its name in the folder above it. A synced file in a folder
//! whose own name is lost is lost with it.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

/// Makes a folder of this mode, and what is missing above it, as far as they are not there. What was made is durable when it
/// returns.
pub fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => File::open(parent(path))?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path != parent(path) => {
            make(parent(path), mode)?;
            make(path, mode)
        }
        // Also on a read-only file system, which says so before it says that the name exists.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_that_is_missing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make(&deep, 0o700).unwrap();
        make(&deep, 0o750).unwrap();
        assert_eq!(deep.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        make(Path::new("."), 0o700).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(make(&dir.path().join("file"), 0o700).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(make(&dir.path().join("file/below"), 0o700).is_err());
    }
}
