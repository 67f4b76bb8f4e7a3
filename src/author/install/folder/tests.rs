//! What stands in the folder after each step, and after each failure.

use std::collections::BTreeMap;

use super::*;

struct Desk {
    root: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("own")).unwrap();
        Self { root }
    }

    fn own(self, name: &str, text: &str) -> Self {
        fs::write(self.root.path().join("own").join(name), text).unwrap();
        self
    }

    fn there(self, name: &str, text: &str) -> Self {
        fs::create_dir_all(self.folder()).unwrap();
        fs::write(self.folder().join(name), text).unwrap();
        self
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("folder")
    }

    fn stage(&self) -> Result<Staged, FolderError> {
        Folder::open(&self.folder())?.stage(&self.root.path().join("own/p.wasm"))
    }

    /// Every file there, dot-named ones as one.
    fn now(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        entries.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
    }
}

fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn bound(wasm: &str, rest: &str) -> String {
    format!("sha256 = \"{}\"\n{rest}", digest(wasm))
}

#[test]
fn a_pair_goes_in_bound_by_its_digest_and_nothing_else_is_left() {
    let desk = Desk::new().own("p.wasm", "new").own("p.toml", "timeout = '1s'\n[config]\nsha256 = 'x'\n");
    let staged = desk.stage().unwrap();
    assert!(desk.now().keys().all(|name| name.starts_with('.')), "the service sees none of it yet");
    let installed = staged.publish().unwrap();
    drop(installed);
    let toml = bound("new", "timeout = '1s'\n[config]\nsha256 = 'x'\n");
    assert_eq!(desk.now(), files(&[("p.toml", &toml), ("p.wasm", "new")]));
}

#[test]
fn without_a_sidecar_the_one_there_is_kept_and_bound_anew() {
    let old = format!("sha256 = \"{}\"\n[config]\nwords = ['x']\n", digest("old"));
    let desk = Desk::new().own("p.wasm", "new").there("p.toml", &old).there("p.wasm", "old");
    let installed = desk.stage().unwrap().publish().unwrap();
    assert!(installed.notes()[0].starts_with("kept the settings of "));
    drop(installed);
    let toml = bound("new", "[config]\nwords = ['x']\n");
    assert_eq!(desk.now(), files(&[("p.toml", &toml), ("p.wasm", "new")]));
    let desk = Desk::new().own("p.wasm", "new");
    drop(desk.stage().unwrap().publish().unwrap());
    assert_eq!(desk.now(), files(&[("p.toml", &bound("new", "")), ("p.wasm", "new")]));
}

#[test]
fn what_was_there_before_comes_back() {
    let before = files(&[("p.toml", "[config]\na = 1\n"), ("p.wasm", "old"), ("other.wasm", "o")]);
    let desk = Desk::new().own("p.wasm", "new").own("p.toml", "[config]\na = 2\n");
    let desk = before.iter().fold(desk, |desk, (name, text)| desk.there(name, text));
    let installed = desk.stage().unwrap().publish().unwrap();
    assert!(installed.notes()[0].contains("said something else"));
    assert_eq!(installed.take_back().unwrap(), "the files that were there before are back");
    assert_eq!(desk.now(), before);

    let desk = Desk::new().own("p.wasm", "new").own("p.toml", "");
    assert_eq!(desk.stage().unwrap().publish().unwrap().take_back().unwrap(), "its files are removed again");
    assert_eq!(desk.now(), files(&[]));
}

#[test]
fn what_somebody_else_wrote_since_is_not_taken_away() {
    let desk = Desk::new().own("p.wasm", "new").there("p.wasm", "old");
    let installed = desk.stage().unwrap().publish().unwrap();
    fs::write(desk.folder().join("p.wasm"), "theirs").unwrap();
    installed.take_back().unwrap();
    assert_eq!(desk.now(), files(&[("p.wasm", "theirs")]));
}

/// What stands in the folder under a name for the time being, by the name that it had.
fn kept(desk: &Desk) -> BTreeMap<String, String> {
    let before = |path: &Path| path.extension().is_some_and(|extension| extension == "before");
    let paths = fs::read_dir(desk.folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| before(path));
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().get(1..7).unwrap().to_owned(), text(&path))).collect()
}

/// Something that can neither be read as a file nor be replaced by one.
fn block(place: &Path) {
    fs::remove_file(place).unwrap();
    fs::create_dir_all(place.join("in the way")).unwrap();
}

#[test]
fn old_files_that_cannot_be_put_back_are_kept_and_named() {
    let desk = Desk::new().own("p.wasm", "new").own("p.toml", "").there("p.wasm", "old").there("p.toml", "# old");
    let installed = desk.stage().unwrap().publish().unwrap();
    block(&desk.folder().join("p.wasm"));
    let error = installed.take_back().unwrap_err();
    // The sidecar stays with the component that it belongs to, so both old files are kept.
    assert_eq!(kept(&desk), files(&[("p.wasm", "old"), ("p.toml", "# old")]));
    assert_eq!(fs::read_to_string(desk.folder().join("p.toml")).unwrap(), bound("new", ""));
    let told = chain(&error);
    assert!(told.starts_with("the folder is not as it was before: cannot read "), "{told}");
    assert!(told.contains("/p.wasm: ") && told.contains("; the old files are kept, rename them by hand: "), "{told}");
    assert_eq!((told.matches("/.p.wasm.").count(), told.matches("/.p.toml.").count()), (1, 1), "{told}");
}

#[test]
fn both_errors_are_told_when_neither_the_new_files_go_in_nor_the_old_ones_back() {
    let desk = Desk::new().own("p.wasm", "new").own("p.toml", "").there("p.wasm", "old").there("p.toml", "# old");
    let mut staged = desk.stage().unwrap();
    staged.put(0).unwrap();
    // Between two of its steps: the component's place is taken, and the sidecar's, too.
    block(&desk.folder().join("p.wasm"));
    block(&desk.folder().join("p.toml"));
    let told = chain(&staged.publish().err().unwrap());
    assert_eq!(kept(&desk), files(&[("p.toml", "# old")]));
    assert!(told.contains("not as it was before: cannot read ") && told.contains("/p.toml: "), "{told}");
    assert!(told.contains(": cannot keep ") && told.contains("/p.wasm: "), "{told}");
    assert_eq!((told.matches("/.p.wasm.").count(), told.matches("/.p.toml.").count()), (0, 1), "{told}");
    assert!(fs::read_dir(desk.folder()).unwrap().count() == 3, "no copy is left but the kept one");
}

#[test]
fn what_was_not_touched_yet_is_not_taken_for_ours() {
    // The same component again, with other settings; the sidecar cannot go in.
    let desk = Desk::new().own("p.wasm", "same").own("p.toml", "[config]\n").there("p.wasm", "same");
    fs::create_dir_all(desk.folder().join("p.toml/in the way")).unwrap();
    let staged = Folder::open(&desk.folder()).unwrap().stage(&desk.root.path().join("own/p.wasm"));
    assert!(staged.is_err(), "the folder's own sidecar is read first");
    fs::remove_dir_all(desk.folder().join("p.toml")).unwrap();
    let staged = desk.stage().unwrap();
    fs::create_dir_all(desk.folder().join("p.toml/in the way")).unwrap();
    let told = chain(&staged.publish().err().unwrap());
    assert!(told.starts_with("cannot keep "), "{told}");
    fs::remove_dir_all(desk.folder().join("p.toml")).unwrap();
    assert_eq!(desk.now(), files(&[("p.wasm", "same")]));
}

#[test]
fn no_step_shows_a_wrong_pair() {
    // What a service would take between two renames: both files, unless the sidecar's digest is another component's.
    for old in [None, Some("[config]\na = 1\n")] {
        let desk = Desk::new().own("p.wasm", "new").own("p.toml", "[config]\na = 2\n").there("p.wasm", "old");
        let desk = match old {
            Some(old) => desk.there("p.toml", old),
            None => desk,
        };
        let takes = |desk: &Desk| {
            let now = desk.now();
            let (wasm, toml) = (now.get("p.wasm").cloned()?, now.get("p.toml").cloned().unwrap_or_default());
            let said = said_digest(Path::new("p.toml"), toml.as_bytes()).unwrap();
            let a = toml.contains("a = 2");
            said.is_none_or(|said| said == digest(&wasm)).then_some((wasm, a))
        };
        let mut staged = desk.stage().unwrap();
        let mut seen = vec![takes(&desk)];
        for at in 0..staged.copies.len() {
            staged.put(at).unwrap();
            seen.push(takes(&desk));
        }
        assert_eq!(seen, [Some(("old".into(), false)), None, Some(("new".into(), true))]);
    }
}

#[test]
fn signed_pairs_go_in_as_they_are() {
    let desk =
        Desk::new().own("p.wasm", "new").own("p.toml", "a").own("p.wasm.minisig", "s").own("p.toml.minisig", "t");
    drop(desk.stage().unwrap().publish().unwrap());
    let expected = files(&[("p.wasm", "new"), ("p.toml", "a"), ("p.wasm.minisig", "s"), ("p.toml.minisig", "t")]);
    assert_eq!(desk.now(), expected);
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let told = |desk: Desk| {
        let told = desk.stage().err().unwrap().to_string();
        assert_eq!(desk.now(), files(&[]), "{told}");
        told
    };
    assert!(told(Desk::new()).contains("p.wasm: build it first"));
    assert!(told(Desk::new().own("p.wasm", "w").own("p.toml", "sha256 = 'ff'")).contains("take the line out"));
    assert!(told(Desk::new().own("p.wasm", "w").own("p.toml", "= 1")).contains("p.toml is not valid"));
    let desk = Desk::new();
    let is_folder = Folder::open(&desk.folder()).unwrap().stage(&desk.root.path().join("own")).err().unwrap();
    assert!(is_folder.to_string().contains("own is a folder: name the component in it"), "{is_folder}");
    let folder = Folder::open(&Desk::new().folder()).unwrap();
    assert!(folder.stage(Path::new("a/p.so")).err().unwrap().to_string().contains("no plugin's file"));
}
