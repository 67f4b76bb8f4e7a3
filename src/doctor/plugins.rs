//! Plugin folders: what the service would take from them, and who else may put something there.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use rustix::fs::Access;

use super::{
    Report,
    folders::{full, may, owner},
};
use crate::{
    config::{Config, Required},
    plugin::{Listed, list_folder},
};

pub(super) fn look(report: &mut Report, config: &Config) {
    let signed = !config.trusted_keys.is_empty();
    let mut files = BTreeMap::new();
    for folder in &config.plugins_dirs {
        look_at(report, &full(folder), signed, &mut files);
    }
    for (file, listed) in &files {
        plugin(report, file, listed, signed);
    }
    if files.is_empty() {
        match &config.required {
            Required::List(names) => report.fail(
                "plugins",
                format!("no plugin, and {} required: nothing will be read", names.join(", ")),
                "put them into a folder of PLUGINS_DIR",
            ),
            _ => report.warn(
                "plugins",
                "no plugin: events are written raw, secrets and all",
                "add the folder of the bundled ones to PLUGINS_DIR, and see that `redact` is in it",
            ),
        }
    }
}

fn look_at(report: &mut Report, folder: &Path, signed: bool, files: &mut BTreeMap<String, Listed>) {
    const CHECK: &str = "plugin-folder";
    let shown = folder.display();
    let meta = match fs::metadata(folder) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return report.warn(
                CHECK,
                format!("{shown} is not there: it counts as empty"),
                "make it, or see PLUGINS_DIR",
            );
        }
        Err(error) => return report.fail(CHECK, format!("{shown}: {error}"), "let the service's user read it"),
    };
    let found = format!("{shown} ({})", owner(&meta));
    if !meta.is_dir() {
        return report.fail(CHECK, format!("{shown} is no folder"), "see PLUGINS_DIR");
    }
    if !may(folder, Access::READ_OK | Access::EXEC_OK) {
        return report.fail(CHECK, format!("{found} cannot be read"), "let the service's user read it");
    }
    writable(report, CHECK, &found, &meta, signed);
    match list_folder(folder, files) {
        Ok(ignored) => {
            for name in ignored {
                let advice = "rename it: letters, digits, `.`, `_`, `-`, at most 100";
                report.warn(CHECK, format!("{shown}: {name:?} is ignored"), advice);
            }
        }
        Err(error) => report.fail(CHECK, format!("{shown}: {error}"), "let the service's user read it"),
    }
}

/// Who can write a plugin or its folder decides what is redacted.
fn writable(report: &mut Report, check: &'static str, found: &str, meta: &fs::Metadata, signed: bool) {
    let mode = meta.permissions().mode();
    let advice =
        "chmod go-w: whoever writes there decides what is redacted; or let plugins be signed (PLUGIN_TRUSTED_KEYS)";
    match (mode & 0o002 != 0, mode & 0o020 != 0) {
        (true, _) if !signed => report.fail(check, format!("{found} can be written by everybody"), advice),
        (true, _) => {
            report.warn(check, format!("{found} can be written by everybody; signatures are asked for"), advice)
        }
        (false, true) if !signed => report.warn(check, format!("{found} can be written by its group"), advice),
        _ => report.ok(check, found),
    }
}

fn plugin(report: &mut Report, file: &str, listed: &Listed, signed: bool) {
    let path = listed.dir.join(file);
    let with = match (listed.sidecar, listed.signature) {
        (true, true) => ", with sidecar and signature",
        (true, false) => ", with sidecar",
        (false, true) => ", with signature",
        (false, false) => "",
    };
    let found = format!("{}{with}", path.display());
    if let Some(reason) = &listed.unreadable {
        return report.fail(
            "plugins",
            format!("{}: {reason}", path.display()),
            "it is refused until that is put right",
        );
    }
    if signed && !listed.signature {
        let advice = "`task-logger plugin sign` it with a key that PLUGIN_TRUSTED_KEYS names";
        return report.fail("plugins", format!("{found}: not signed, so it is refused"), advice);
    }
    match fs::metadata(&path) {
        Ok(meta) if meta.permissions().mode() & 0o022 != 0 => writable(report, "plugins", &found, &meta, signed),
        Ok(_) if !may(&path, Access::READ_OK) => {
            report.fail("plugins", format!("{found} cannot be read"), "let the service's user read it");
        }
        Ok(_) => report.ok("plugins", found),
        Err(error) => report.fail("plugins", format!("{found}: {error}"), "it is refused until that is put right"),
    }
}
