//! What the service would take from plugin folders, by name: for those who ask before it runs.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};

use super::{ENTRIES_MAX, files};
use crate::layout;

/// A component that the service would consider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The folder that it is taken from.
    pub dir: PathBuf,
    /// Whether a sidecar is beside it.
    pub sidecar: bool,
    /// Whether its signature is beside it.
    pub signature: bool,
    /// Why it, or what belongs to it, cannot be looked at.
    pub unreadable: Option<String>,
}

/// Adds a folder's components to those of the folders before it, of which a file of the same name gives way. Returns names that
/// are ignored because no plugin's file may have them.
pub fn list(folder: &Path, into: &mut BTreeMap<String, Listed>) -> io::Result<Vec<String>> {
    let dir = Dir::open_ambient_dir(folder, ambient_authority())?;
    let mut ignored = Vec::new();
    for entry in dir.entries()?.take(ENTRIES_MAX) {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if !bytes.ends_with(b".wasm") || bytes.starts_with(b".") {
            continue;
        }
        let Some(file) = name.to_str().filter(|name| layout::is_public_file(name)) else {
            ignored.push(name.to_string_lossy().into_owned());
            continue;
        };
        let Some(looks) = files::look_at(&dir, file) else { continue };
        let parts = [Some(&looks.wasm), looks.sidecar.as_ref(), looks.wasm_signature.as_ref()];
        let listed = Listed {
            dir: folder.to_owned(),
            sidecar: looks.sidecar.is_some(),
            signature: looks.wasm_signature.is_some(),
            unreadable: parts.into_iter().flatten().find_map(|part| part.as_ref().err().cloned()),
        };
        into.insert(file.to_owned(), listed);
    }
    Ok(ignored)
}
