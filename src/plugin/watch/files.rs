//! Looks at files and reads them: a plugin's component with what belongs to it. Links are followed inside the folder only,
//! nothing but regular files is opened, nothing larger than its limit is read, and what was read is what was looked at.

use std::{
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use cap_std::{
    ambient_authority,
    fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt},
};
use rustix::fs::OFlags;

use super::super::{
    loader::{COMPONENT_BYTES_MAX, Candidate, SIDECAR_BYTES_MAX, Unreadable},
    seal::Signatures,
    sidecar,
};
use crate::trust::{SIGNATURE_BYTES_MAX, SIGNATURE_SUFFIX};

/// How a file looks, or why it cannot be looked at.
type Look = Result<Print, String>;

/// How a component and what belongs to it look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) wasm: Look,
    pub(super) sidecar: Option<Look>,
    pub(super) wasm_signature: Option<Look>,
    sidecar_signature: Option<Look>,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Print {
    dev: u64,
    ino: u64,
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// Names of the files that may belong to `NAME.wasm`, itself first.
pub(super) fn names(file: &str) -> [String; 4] {
    let sidecar = sidecar::name_of(file);
    let signature = |name: &str| format!("{name}{SIGNATURE_SUFFIX}");
    [file.to_owned(), sidecar.clone(), signature(file), signature(&sidecar)]
}

/// Looks at a component and what belongs to it; `None` if it is not there.
pub(super) fn look_at(dir: &Dir, file: &str) -> Option<Looks> {
    let [wasm, sidecar, wasm_signature, sidecar_signature] = names(file).map(|name| look(dir, &name).transpose());
    Some(Looks { wasm: wasm?, sidecar, wasm_signature, sidecar_signature })
}

/// Whether it looks as it did.
pub(super) fn is_still(path: &Path, file: &str, looks: &Looks) -> bool {
    Dir::open_ambient_dir(path, ambient_authority()).is_ok_and(|dir| look_at(&dir, file).as_ref() == Some(looks))
}

/// All of it whole; `None` if it is not what was looked at.
pub(super) fn read_all(path: &Path, file: &str, looks: &Looks) -> Result<Option<Candidate>, Unreadable> {
    let wasm = match &looks.wasm {
        Ok(wasm) => wasm,
        Err(reason) => return Err(Unreadable { looks: String::new(), reason: reason.clone() }),
    };
    // What may change without the file becoming another one is left out: `touch` makes it no other file.
    let failed = |reason| Unreadable { looks: format!("{}:{} {} bytes", wasm.dev, wasm.ino, wasm.len), reason };
    let parts = || -> Result<Option<Candidate>, String> {
        let dir =
            Dir::open_ambient_dir(path, ambient_authority()).map_err(|error| format!("cannot read {file}: {error}"))?;
        let [_, sidecar, wasm_signature, sidecar_signature] = names(file);
        let Some(wasm) = read(&dir, file, wasm, COMPONENT_BYTES_MAX)? else { return Ok(None) };
        let beside = |name: &str, look: &Option<Look>, max| match look {
            None => Ok(Some(None)),
            Some(look) => Ok::<_, String>(read(&dir, name, look.as_ref().map_err(Clone::clone)?, max)?.map(Some)),
        };
        let Some(sidecar) = beside(&sidecar, &looks.sidecar, SIDECAR_BYTES_MAX)? else { return Ok(None) };
        let Some(of_wasm) = beside(&wasm_signature, &looks.wasm_signature, SIGNATURE_BYTES_MAX)? else {
            return Ok(None);
        };
        let Some(of_sidecar) = beside(&sidecar_signature, &looks.sidecar_signature, SIGNATURE_BYTES_MAX)? else {
            return Ok(None);
        };
        let signatures = Signatures { wasm: of_wasm, sidecar: of_sidecar };
        Ok(Some(Candidate { file: file.to_owned(), dir: path.to_owned(), wasm, sidecar, signatures }))
    };
    parts().map_err(failed)
}

/// `None`: not there.
fn look(dir: &Dir, name: &str) -> Result<Option<Print>, String> {
    match dir.metadata(name) {
        Ok(meta) if meta.is_file() => Ok(Some(print(&meta))),
        Ok(_) => Err(format!("{name} is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match dir.symlink_metadata(name) {
            // It is there, and says nothing: not what a file that was taken away says.
            Ok(_) => Err(format!("{name} is a link to a file that is not there")),
            Err(_) => Ok(None),
        },
        Err(error) => Err(format!("cannot read {name} (links must stay in the folder): {error}")),
    }
}

fn print(meta: &Metadata) -> Print {
    Print {
        dev: meta.dev(),
        ino: meta.ino(),
        len: meta.len(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        ctime: (meta.ctime(), meta.ctime_nsec()),
    }
}

fn read(dir: &Dir, name: &str, looked: &Print, max: u64) -> Result<Option<Bytes>, String> {
    if looked.len > max {
        return Err(format!("{name} is larger than {} KiB", max >> 10));
    }
    let failed = |error: io::Error| format!("cannot read {name}: {error}");
    let mut options = OpenOptions::new();
    // A pipe put in the file's place must not block the open.
    options.read(true).custom_flags(OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed());
    let file = match dir.open_with(name, &options) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if print(&file.metadata().map_err(failed)?) != *looked {
        return Ok(None);
    }
    // One byte more than there is, so that the end is found without growing.
    let mut bytes = Vec::with_capacity(usize::try_from(looked.len.saturating_add(1)).unwrap_or(0));
    (&file).take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    let is_same = print(&file.metadata().map_err(failed)?) == *looked;
    Ok(is_same.then_some(Bytes::from(bytes)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_read_is_what_was_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("p.wasm"), "x").unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let print = look(&dir, "p.wasm").unwrap().unwrap();
        assert_eq!(read(&dir, "p.wasm", &print, 1).unwrap(), Some(Bytes::from_static(b"x")));
        fs::write(folder.path().join("p.wasm"), "xy").unwrap();
        assert_eq!(read(&dir, "p.wasm", &print, 2).unwrap(), None, "not the file that was looked at");
        let print = look(&dir, "p.wasm").unwrap().unwrap();
        assert!(read(&dir, "p.wasm", &print, 1).unwrap_err().contains("larger than"));
        fs::remove_file(folder.path().join("p.wasm")).unwrap();
        assert_eq!(read(&dir, "p.wasm", &print, 2).unwrap(), None, "gone since");
        assert!(look_at(&dir, "p.wasm").is_none());
    }

    #[test]
    fn all_that_belongs_together_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in names("p.wasm") {
            fs::write(folder.path().join(&name), &name).unwrap();
        }
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let looks = look_at(&dir, "p.wasm").unwrap();
        let all = read_all(folder.path(), "p.wasm", &looks).unwrap().unwrap();
        let texts = [Some(all.wasm), all.sidecar, all.signatures.wasm, all.signatures.sidecar];
        let expected = ["p.wasm", "p.toml", "p.wasm.minisig", "p.toml.minisig"];
        assert_eq!(texts, expected.map(|text| Some(Bytes::from_static(text.as_bytes()))));
        fs::write(folder.path().join("p.toml.minisig"), "another").unwrap();
        assert_eq!(read_all(folder.path(), "p.wasm", &looks).unwrap().map(|all| all.file), None);
    }
}
