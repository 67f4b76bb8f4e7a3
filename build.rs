//! Embeds what `plugin new` writes (`plugins/templates`, `plugins/sdk`, `wit`) into the binary: a table of names and contents,
//! made anew whenever a file there changes, comes or goes.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Folders below the repository's root, and the names that their files get in the table.
const EMBEDDED: [(&str, &str); 3] = [("plugins/templates", "templates"), ("plugins/sdk", "sdk"), ("wit", "wit")];
/// What building or testing a template in place leaves behind; the templates' own `.gitignore`s name the same.
const LEFT_BEHIND: [&str; 6] = ["target", "node_modules", ".tools", ".venv", "build", "__pycache__"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut table = String::from("&[\n");
    for (folder, name) in EMBEDDED {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        embed(&folder, name, &mut table)?;
    }
    table.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("templates.rs"), table)
}

fn embed(folder: &Path, name: &str, table: &mut String) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    // The same binary from the same files, in whatever order the file system lists them.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let file = entry.file_name().into_string().map_err(|_| io::Error::other("a name that is no UTF-8"))?;
        let (path, name) = (entry.path(), format!("{name}/{file}"));
        if LEFT_BEHIND.contains(&&*file) || file.ends_with(".wasm") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            embed(&path, &name, table)?;
        } else {
            let path = path.to_str().ok_or_else(|| io::Error::other("a path that is no UTF-8"))?;
            table.push_str(&format!("    ({name:?}, include_bytes!({path:?})),\n"));
        }
    }
    Ok(())
}
