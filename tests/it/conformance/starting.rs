//! `init`: the manifest, the configuration and what is wrong with it.

use serde_json::json;

use super::{Bench, Language};
use crate::guests::{Stage, entry};

pub(super) fn the_manifest_says_what_it_was_told(language: Language) {
    let bench = Bench::new(language, "");
    let shown = entry(bench.host(), "guest.wasm").unwrap();
    let said = ["name", "version", "role", "kinds", "files"].map(|key| shown[key].clone());
    let files = json!(["conformance.jsonl", "conformance.txt"]);
    assert_eq!(said, [json!("conformance"), json!("1"), json!("redactor"), json!(["*"]), files.clone()]);
    // "é" is of two bytes, the emoji of four.
    let config = "[config]\nname = 'other-name'\nversion = '2.0 é 🦀'\nrole = 'standard'";
    let bench = Bench::new(language, config);
    let shown = entry(bench.host(), "guest.wasm").unwrap();
    let said = ["name", "version", "role", "kinds", "files"].map(|key| shown[key].clone());
    assert_eq!(said, [json!("other-name"), json!("2.0 é 🦀"), json!("standard"), json!(["*"]), files]);
    let provenance = &bench.host().provenance().plugins;
    assert_eq!((&*provenance[0].name, &*provenance[0].version), ("other-name", "2.0 é 🦀"));
}

pub(super) fn a_wrong_configuration_is_refused_in_the_guests_words(language: Language) {
    for (config, words) in [
        ("fail = 'words of the guest: é 🦀'", "init failed: failure: words of the guest: é 🦀"),
        ("no-such-key = 'x'", "no-such-key"),
        ("version = 7", "version"),
        ("name = ['conformance']", "name"),
        ("role = true", "role"),
        ("[config.version]\nx = 1", "version"),
        ("role = 'emperor'", "role"),
        // What it says is checked like everybody's.
        ("name = 'Not A Name'", "name \"Not A Name\" is not"),
        ("name = ''", "name \"\" is not"),
    ] {
        let mut stage = Stage::new();
        let sidecar = format!("[config]\n{config}");
        stage.put_bytes("guest.toml", sidecar.as_bytes()).put_bytes("guest.wasm", language.guest());
        let host = stage.start();
        let shown = entry(&host, "guest.wasm").unwrap();
        assert_eq!(shown["state"], "refused", "{config}: {shown:#}");
        let reason = shown["refused"]["reason"].as_str().unwrap();
        let prefix = if words.contains("is not") { "its manifest is not valid" } else { "init failed: failure: " };
        assert!(reason.starts_with(prefix) && reason.contains(words), "{config}: {reason}");
    }
}

pub(super) fn init_logs_and_counts(language: Language) {
    for role in ["redactor", "standard"] {
        let mut bench = Bench::new(language, &format!("[config]\nrole = '{role}'"));
        let ready = |log: &str| log.lines().filter(|line| line.contains("INFO") && line.contains(": ready")).count();
        assert_eq!(ready(&bench.log()), 1, "{}", bench.log());
        assert_eq!(bench.counted("init"), 0, "the first instance only proves itself");
        bench.outcomes(&super::doing(&["pass"]));
        assert_eq!((bench.counted("init"), ready(&bench.log())), (1, 1), "a line at each call would be a flood");
    }
}
