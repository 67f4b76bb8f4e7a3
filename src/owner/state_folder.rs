//! A stream's state folder, as far as it says whose it is: the lock of this host's owner, and the id that other hosts know it by.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

/// Takes the host-local lock on a state folder; `None` when a process of this host holds it.
pub(super) fn lock(dir: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The state folder's id, made once.
pub(super) fn state_id(dir: &Path) -> io::Result<String> {
    let path = dir.join("id");
    loop {
        // After a power loss the name may stand there without its text.
        let torn = match std::fs::read(&path) {
            Ok(id) if id.len() == 32 && id.is_ascii() && !id.contains(&0) => {
                return Ok(String::from_utf8_lossy(&id).into_owned());
            }
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let temp = dir.join(format!("id-{:016x}.new", fastrand::u64(..)));
        let mut file = File::create_new(&temp)?;
        file.write_all(format!("{:032x}", fastrand::u128(..)).as_bytes())?;
        file.sync_all()?;
        if torn {
            std::fs::rename(&temp, &path)?;
            continue;
        }
        // Of two processes that make one at once the first wins, for both.
        let linked = std::fs::hard_link(&temp, &path);
        std::fs::remove_file(&temp)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}
