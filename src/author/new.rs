//! `plugin new`: a folder that builds and whose own test passes at once, from the templates that the build embedded
//! (`build.rs`).

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// Name in the table, content.
type File = (&'static str, &'static [u8]);

/// Every file of `plugins/templates`, `plugins/sdk` and `wit`.
static EMBEDDED: &[File] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// What stands for the plugin's name in a template, and for the same where an identifier is needed.
const PLACEHOLDER: (&str, &str) = ("my-plugin", "my_plugin");
/// Where the template in Rust looks for the SDK.
const SDK: &str = "vendor/task-logger-plugin";
/// Longest name, as the host has it for manifests.
const NAME_MAX: usize = 40;

/// Why no folder was made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The host would refuse a manifest with it.
    #[error("{0:?} is no plugin's name: [a-z][a-z0-9-]{{0,39}}, for example `drop-words`")]
    Name(String),
    /// The language's compiler would refuse it.
    #[error("{name:?} is a word of the language: take another name, for example `my-{name}`")]
    Word {
        /// The name.
        name: String,
    },
    /// Nothing is overwritten.
    #[error("{0} is there already: nothing was written; take another name, or remove it")]
    Exists(PathBuf),
    /// The folder cannot be written.
    #[error("cannot write {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

/// Makes `dir/name` and says what to do next.
///
/// # Errors
/// The name is not one, the folder is there already or cannot be written; then nothing is left of it.
pub(super) fn new(lang: &str, name: &str, dir: Option<&Path>, out: &mut dyn Write) -> Result<(), NewError> {
    check(lang, name)?;
    let folder = dir.unwrap_or(Path::new("")).join(name);
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    // Made here and now, so that what is removed after a failure is only what was written here.
    match fs::create_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NewError::Exists(folder)),
        made => made.map_err(failed(&folder))?,
    }
    if let Err(error) = write(&folder, lang, name) {
        // The first error is the one to tell.
        fs::remove_dir_all(&folder).ok();
        return Err(error);
    }
    let shown = folder.display();
    writeln!(
        out,
        "made {shown}, a redactor in {}; next:\n  cd {shown}\n  make test\n  task-logger plugin install {name}.wasm",
        language(lang)
    )
    .map_err(NewError::Output)
}

fn check(lang: &str, name: &str) -> Result<(), NewError> {
    let of = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
    if !starts || name.len() > NAME_MAX || !name.bytes().all(of) {
        return Err(NewError::Name(name.to_owned()));
    }
    match words(lang).contains(&name) {
        true => Err(NewError::Word { name: name.to_owned() }),
        false => Ok(()),
    }
}

/// Names that cannot stand where a template needs an identifier.
fn words(lang: &str) -> &'static [&'static str] {
    match lang {
        "rust" => &[
            "abstract",
            "alloc",
            "as",
            "async",
            "await",
            "become",
            "box",
            "break",
            "const",
            "continue",
            "core",
            "crate",
            "do",
            "dyn",
            "else",
            "enum",
            "extern",
            "false",
            "final",
            "fn",
            "for",
            "gen",
            "if",
            "impl",
            "in",
            "let",
            "loop",
            "macro",
            "match",
            "mod",
            "move",
            "mut",
            "override",
            "priv",
            "proc-macro",
            "pub",
            "ref",
            "return",
            "sdk",
            "self",
            "static",
            "std",
            "struct",
            "super",
            "test",
            "trait",
            "true",
            "try",
            "type",
            "typeof",
            "unsafe",
            "unsized",
            "use",
            "virtual",
            "where",
            "while",
            "yield",
        ],
        "python" => &[
            "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else",
            "except", "finally", "for", "from", "global", "if", "import", "in", "is", "json", "lambda", "nonlocal",
            "not", "or", "pass", "raise", "return", "sys", "try", "while", "with", "yield",
        ],
        _ => &[],
    }
}

fn language(lang: &str) -> &'static str {
    match lang {
        "rust" => "Rust",
        "python" => "Python",
        "js" => "JavaScript",
        _ => "C",
    }
}

fn write(folder: &Path, lang: &str, name: &str) -> Result<(), NewError> {
    for (path, content) in files(lang) {
        let path = folder.join(substituted(&path, name));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let content = match std::str::from_utf8(content) {
            Ok(text) => substituted(text, name).into_bytes(),
            Err(_) => content.to_vec(),
        };
        fs::write(&path, content).map_err(failed(&path))?;
    }
    Ok(())
}

/// A new plugin's files, by their path in its folder: the language's template, and what all or some of them share.
fn files(lang: &str) -> impl Iterator<Item = (String, &'static [u8])> {
    let template = format!("templates/{lang}/");
    let with_sdk = lang == "rust";
    EMBEDDED.iter().filter_map(move |(path, content)| {
        let own = path.strip_prefix(&*template).map(str::to_owned);
        let shared = || path.starts_with("wit/").then(|| (*path).to_owned());
        let sdk = || path.strip_prefix("sdk/").filter(|_| with_sdk).map(|path| format!("{SDK}/{path}"));
        Some((own.or_else(shared).or_else(sdk)?, *content))
    })
}

fn substituted(text: &str, name: &str) -> String {
    text.replace(PLACEHOLDER.0, name).replace(PLACEHOLDER.1, &name.replace('-', "_"))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> NewError {
    let path = path.to_owned();
    move |source| NewError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGUAGES: [&str; 4] = ["rust", "python", "js", "c"];

    fn made(lang: &str, name: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        new(lang, name, Some(dir.path()), &mut out).unwrap();
        (dir, String::from_utf8(out).unwrap())
    }

    fn all(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(all(&path)) } else { found.push(path) }
        }
        found
    }

    #[test]
    fn every_language_has_what_a_folder_needs_and_no_placeholder_is_left() {
        for lang in LANGUAGES {
            let (dir, said) = made(lang, "drop-words");
            let folder = dir.path().join("drop-words");
            for file in ["Makefile", "README.md", ".gitignore", "drop-words.toml", "wit/plugin.wit"] {
                assert!(folder.join(file).is_file(), "{lang}: no {file}");
            }
            assert!(folder.join("cases").is_dir(), "{lang}: no cases");
            assert_eq!(fs::read(folder.join("wit/plugin.wit")).unwrap(), include_bytes!("../../wit/plugin.wit"));
            for path in all(&folder) {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned() + path.to_str().unwrap();
                assert!(!text.contains("my-plugin") && !text.contains("my_plugin"), "{lang}: {}", path.display());
            }
            assert_eq!(said.lines().skip(1).count(), 3, "{said}");
        }
    }

    #[test]
    fn bad_names_and_folders_that_are_there_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let long = "a".repeat(41);
        for name in ["", "A", "1a", "-a", "a_b", "a/b", "..", "a b", "é", &long] {
            let refused = new("rust", name, Some(dir.path()), &mut Vec::new()).unwrap_err();
            assert!(matches!(refused, NewError::Name(_)), "{name:?}: {refused}");
        }
        let refused = new("rust", "match", Some(dir.path()), &mut Vec::new()).unwrap_err();
        assert!(matches!(refused, NewError::Word { .. }), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::create_dir(dir.path().join("mine")).unwrap();
        fs::write(dir.path().join("mine/keep"), "me").unwrap();
        let refused = new("c", "mine", Some(dir.path()), &mut Vec::new()).unwrap_err();
        assert!(matches!(refused, NewError::Exists(_)), "{refused}");
        assert_eq!(all(&dir.path().join("mine")).len(), 1);
    }

    #[test]
    fn what_is_embedded_is_what_the_repository_has() {
        let tracked = std::process::Command::new("git")
            .args(["ls-files", "-z", "--", "plugins/templates", "plugins/sdk", "wit"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        let Ok(tracked) = tracked else { return eprintln!("SKIPPED: no git") };
        if !tracked.status.success() {
            return eprintln!("SKIPPED: not a git repository");
        }
        let tracked = String::from_utf8(tracked.stdout).unwrap();
        let mut tracked: Vec<&str> =
            tracked.split_terminator('\0').map(|path| path.strip_prefix("plugins/").unwrap_or(path)).collect();
        tracked.sort_unstable();
        let mut embedded: Vec<&str> = EMBEDDED.iter().map(|(path, _)| *path).collect();
        embedded.sort_unstable();
        assert_eq!(embedded, tracked);
    }
}
