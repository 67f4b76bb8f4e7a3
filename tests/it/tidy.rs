//! The habits that a machine can check.

use std::{fs, path::Path};

use crate::checker::files_below;

/// Every Rust file of the project, with its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = ["src", "tests", "plugins"].into_iter().flat_map(|folder| files_below(&root.join(folder)));
    let rust = below.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text)
    })
    .collect()
}

#[test]
fn every_file_says_what_it_owns_and_stays_short() {
    let sources = sources();
    assert!(sources.len() > 80, "only {} files found", sources.len());
    for (path, text) in sources {
        assert!(text.starts_with("//! "), "{path} does not open with what it owns");
        assert!(text.lines().count() <= 500, "{path} has {} lines", text.lines().count());
    }
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["util", "utils", "helper", "helpers", "misc", "common", "shared", "types", "lib2", "stuff"];
    for (path, _) in sources() {
        let name = Path::new(&path).file_stem().unwrap().to_str().unwrap();
        assert!(!drawers.contains(&name), "{path}");
    }
}

#[test]
fn write_side_and_read_side_meet_only_in_the_files() {
    let write = ["committer", "journal", "lane", "owner", "reading", "recover", "slice", "window"];
    let of = |path: &str, module: &str| {
        path.contains(&format!("src/{module}.rs")) || path.contains(&format!("src/{module}/"))
    };
    for (path, text) in sources() {
        if ["reader", "http", "client"].iter().any(|module| of(&path, module)) {
            let uses = |module: &&&str| {
                text.contains(&format!("crate::{module}")) || text.contains(&format!("    {module}::"))
            };
            assert_eq!(write.iter().find(uses), None, "{path}");
            for creating in ["create_dir", "File::create", ".create(true)", "fs::write(", "remove_file", "rename("] {
                assert!(path.contains("tests") || !text.contains(creating), "{path}: {creating}");
            }
        }
    }
}

#[test]
fn tests_wait_for_conditions() {
    // `eventually` of the plugin host's tests polls by it; the guests' are the misdeeds themselves; the benchmark samples;
    // a bug is given the time that shows it; the proxy of the tests is slow on purpose.
    let allowed = [
        "tests/it/guests.rs",
        "tests/guests/src/modes.rs",
        "tests/guests/src/waits.rs",
        "tests/it/fault_proxy.rs",
        "tests/it/faults/mutations.rs",
        "tests/it/tidy.rs",
    ];
    for (path, text) in sources() {
        if path.starts_with("tests") && !path.starts_with("tests/bench") && !allowed.contains(&&*path) {
            // What a failpoint does with a step is no test's sleep.
            assert!(!text.replace("=sleep(", "").contains("sleep("), "{path} sleeps");
        }
    }
}
